# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The share folder is found wherever the package was installed."""
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from crowdhmt_ros.share import config_folders, dds_profile, share_folders

ROOT = Path(__file__).resolve().parents[1]


def installed(prefix, site):
    """Make the two folders of an installed package; return its code and its share."""
    share = prefix / 'share' / 'crowdhmt_ros'
    (share / 'config').mkdir(parents=True)
    code = prefix / site / 'crowdhmt_ros'
    code.mkdir(parents=True)
    return code, share


@pytest.mark.parametrize('site', [
    'lib/python3.11/site-packages',        # pip, in an environment, with --user or --prefix
    'lib/python3.10/dist-packages',        # Debian's pip
    'local/lib/python3.10/dist-packages',  # Debian's pip, and colcon there
    '.'])                                  # pip --target
def test_the_share_of_the_prefix_is_found(tmp_path, monkeypatch, site):
    monkeypatch.delenv('AMENT_PREFIX_PATH', raising=False)
    code, share = installed(tmp_path / 'prefix', site)
    assert share_folders(code)[0] == share


def test_the_share_of_this_code_comes_before_that_of_another_workspace(tmp_path, monkeypatch):
    code, share = installed(tmp_path / 'install', 'lib/python3.10/site-packages')
    _, other = installed(tmp_path / 'underlay', 'lib/python3.10/site-packages')
    monkeypatch.setenv('AMENT_PREFIX_PATH', '%s:%s' % (other.parents[1], share.parents[1]))
    assert share_folders(code)[:2] == (share, other)


def test_a_stray_folder_beside_the_installed_code_is_not_taken(tmp_path, monkeypatch):
    monkeypatch.delenv('AMENT_PREFIX_PATH', raising=False)
    code, share = installed(tmp_path / 'prefix', 'lib/python3.11/site-packages')
    (code.parent / 'config').mkdir()
    assert share_folders(code)[0] == share


def test_a_checkout_takes_its_own():
    assert share_folders()[0] == ROOT
    assert config_folders('devices')[0] == ROOT / 'config' / 'devices'
    assert (config_folders('.')[0] / 'vehicle.yaml').is_file()


def test_robots_are_found_sooner_unless_the_user_has_a_profile_of_his_own():
    mine = {'FASTDDS_DEFAULT_PROFILES_FILE': 'mine.xml'}
    assert dds_profile(mine) == {}
    assert dds_profile({'ROS_DISTRO': 'humble', **mine}) == {
        'FASTRTPS_DEFAULT_PROFILES_FILE': str(ROOT / 'config' / 'fastdds' / 'discovery.xml')}
    (path,) = dds_profile({}).values()
    assert ET.parse(path).getroot().tag == 'dds'
