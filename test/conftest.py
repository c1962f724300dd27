# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What all tests share: a ROS of their own, and the folder with recorded data."""
import importlib.util
import os
import random
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
NO_ROS = 'ROS 2 or the generated messages are not installed: run make setup'
NO_DATA = 'CROWDHMT_DATA names no folder: set it to a copy of the data sets'

# Before any test starts a node or a process: nobody else on this machine or network is reached.
os.environ['ROS_AUTOMATIC_DISCOVERY_RANGE'] = 'LOCALHOST'
os.environ.setdefault('ROS_DOMAIN_ID', str(random.SystemRandom().randint(1, 100)))


def has_ros():
    """Whether rclpy and this package's messages can be imported, without importing them."""
    return (importlib.util.find_spec('rclpy') is not None
            and (ROOT / 'crowdhmt_ros' / 'msg' / '__init__.py').is_file())


def data_folder():
    """Return the folder that CROWDHMT_DATA names, None without one."""
    folder = Path(os.environ.get('CROWDHMT_DATA', ''))
    return folder if os.environ.get('CROWDHMT_DATA') and folder.is_dir() else None


def pytest_collection_modifyitems(items):
    missing = {'ros': None if has_ros() else NO_ROS, 'data': None if data_folder() else NO_DATA}
    for item in items:
        for marker, reason in missing.items():
            if reason and item.get_closest_marker(marker):
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope='session')
def data_dir():
    """Folder with the recorded data; the test is skipped where there is none."""
    folder = data_folder()
    if folder is None:
        pytest.skip(NO_DATA)
    return folder


@pytest.fixture(scope='session')
def root():
    """Folder of the source tree."""
    return ROOT
