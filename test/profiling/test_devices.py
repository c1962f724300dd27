# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Energy profiles of devices."""
from __future__ import annotations

import pytest

from crowdhmt_ros.errors import ConfigError
from crowdhmt_ros.profiling.devices import load_device


@pytest.mark.parametrize('name', ['generic_x86', 'xavier_nx'])
def test_shipped_profiles_keep_the_papers_ratios(name):
    found = load_device(name)
    assert found.joules_per_mac > 0.0
    assert (found.cache_multiple, found.dram_multiple, found.shared_multiple) == (6.0, 200.0, 2.0)
    assert found.idle_w > 0.0
    assert found.joules_per_byte == 2.27e-6


def test_a_file_of_ones_own_is_read(tmp_path):
    path = tmp_path / 'mine.yaml'
    path.write_text('energy: {joules_per_mac: 1.0e-11, idle_w: 3}\n')
    assert load_device(path).idle_w == 3.0
    assert load_device(str(path)).cache_multiple == 6.0


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(ConfigError, match='generic_x86, xavier_nx'):
        load_device('toaster')


def test_every_problem_is_listed_at_once(tmp_path):
    path = tmp_path / 'bad.yaml'
    path.write_text('energy: {idle_w: -1, speed: 3, cache_multiple: .nan}\n')
    with pytest.raises(ConfigError) as caught:
        load_device(path)
    for word in ('idle_w', 'speed', 'cache_multiple', 'joules_per_mac is missing'):
        assert word in str(caught.value)


@pytest.mark.parametrize('text', ['', 'energy: 3', '[1]', 'a: [', 'energy: {}',
                                  'energy: {joules_per_mac: 0}',
                                  'energy: {joules_per_mac: true}'])
def test_a_file_that_is_no_profile_is_refused(tmp_path, text):
    path = tmp_path / 'bad.yaml'
    path.write_text(text)
    with pytest.raises(ConfigError, match=r'bad\.yaml'):
        load_device(path)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(ConfigError, match='cannot be read'):
        load_device(tmp_path / 'none.yaml')
