# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What does not change while a robot runs."""
from __future__ import annotations

from crowdhmt_ros.resources.machine import (
    board_model,
    device_key,
    energy_profile,
    last_level_cache_bytes,
    processor_model,
    usable_cores,
)


def put(root, path, text):
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text + '\n')


def test_a_pc_is_named_by_its_processor(tmp_path):
    put(tmp_path, 'proc/cpuinfo', 'processor : 0\nmodel name\t: Fast  CPU 9\n')
    assert processor_model(tmp_path) == 'Fast CPU 9'
    expected = f'Fast CPU 9, {usable_cores()} cores, engine 1.2'
    assert device_key('engine 1.2', root=tmp_path) == expected
    assert energy_profile(tmp_path) == 'generic_x86'


def test_a_jetson_is_named_by_its_board(tmp_path):
    put(tmp_path, 'proc/device-tree/model', 'NVIDIA Jetson Xavier NX Developer Kit\x00')
    assert board_model(tmp_path) == 'NVIDIA Jetson Xavier NX Developer Kit'
    assert processor_model(tmp_path) == 'NVIDIA Jetson Xavier NX Developer Kit'
    assert energy_profile(tmp_path) == 'xavier_nx'


def test_a_machine_that_tells_nothing_still_has_a_name(tmp_path):
    assert processor_model(tmp_path)
    assert last_level_cache_bytes(tmp_path) is None


def test_the_deepest_cache_is_shared_evenly(tmp_path):
    base = 'sys/devices/system/cpu/cpu0/cache'
    for index, (level, kind, size, sharers) in enumerate((
            ('1', 'Data', '32K', '0'), ('1', 'Instruction', '32K', '0'),
            ('2', 'Unified', '1M', '0'), ('3', 'Unified', '32M', '0-3,8,9-11'))):
        put(tmp_path, f'{base}/index{index}/level', level)
        put(tmp_path, f'{base}/index{index}/type', kind)
        put(tmp_path, f'{base}/index{index}/size', size)
        put(tmp_path, f'{base}/index{index}/shared_cpu_list', sharers)
    assert last_level_cache_bytes(tmp_path) == 4 * 1024 * 1024
