# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Jetson readings from made-up boards and from recorded tegrastats."""
from __future__ import annotations

import pytest

from crowdhmt_ros.errors import ProbeError
from crowdhmt_ros.resources.jetson import (
    MEGABYTE,
    JetsonProbe,
    parse_tegrastats,
    parse_tegrastats_log,
)
from crowdhmt_ros.resources.replay import tegrastats_probe
from crowdhmt_ros.types import READING_FIELDS, REPLAYED

NX_LINE = ('10-01-2025 20:05:55 RAM 2274/6834MB (lfb 27x4MB) SWAP 542/3417MB (cached 2MB) CPU '
           '[99%@1189,100%@1188,100%@1189,97%@1189,off,off] EMC_FREQ 0% GR3D_FREQ 22% '
           'AUX@36.5C CPU@40C thermal@37.85C GPU@38C PMIC@50C VDD_IN 5542mW/5542mW '
           'VDD_CPU_GPU_CV 1594mW/1594mW VDD_SOC 1234mW/1234mW')


def put(root, path, text):
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text + '\n')


def test_a_pc_tells_nothing(tmp_path):
    assert JetsonProbe(root=tmp_path).sample(0.0) == {}


def test_older_releases_name_rails_and_give_milliwatts(tmp_path):
    base = 'sys/bus/i2c/drivers/ina3221x/7-0040/iio:device0'
    put(tmp_path, f'{base}/rail_name_0', 'VDD_IN')
    put(tmp_path, f'{base}/in_power0_input', '5542')
    put(tmp_path, f'{base}/rail_name_1', 'VDD_CPU_GPU_CV')
    put(tmp_path, f'{base}/in_power1_input', '1594')
    put(tmp_path, 'sys/devices/gpu.0/load', '220')
    found = JetsonProbe(root=tmp_path).sample(0.0)
    assert found['power_w'].value == pytest.approx(5.542)
    assert found['gpu_load_ratio'].value == pytest.approx(0.22)


def test_newer_releases_give_millivolts_and_milliamperes(tmp_path):
    base = 'sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon3'
    for number, label, volts, amperes in ((1, 'VDD_IN', 5000, 1000), (2, 'VDD_SOC', 5000, 100)):
        put(tmp_path, f'{base}/in{number}_label', label)
        put(tmp_path, f'{base}/in{number}_input', str(volts))
        put(tmp_path, f'{base}/curr{number}_input', str(amperes))
    put(tmp_path, 'sys/devices/platform/17000000.gpu/load', '1000')
    put(tmp_path, 'sys/class/thermal/thermal_zone1/type', 'GPU-therm')
    put(tmp_path, 'sys/class/thermal/thermal_zone1/temp', '41000')
    found = JetsonProbe(root=tmp_path).sample(0.0)
    assert found['power_w'].value == pytest.approx(5.0)
    assert found['gpu_load_ratio'].value == 1.0
    assert found['gpu_temperature_celsius'].value == 41.0


def test_a_rail_without_a_figure_is_unknown(tmp_path):
    put(tmp_path, 'sys/bus/i2c/drivers/ina3221x/7-0040/iio:device0/rail_name_0', 'VDD_IN')
    assert JetsonProbe(root=tmp_path).sample(0.0) == {}


def test_a_line_of_tegrastats_gives_its_readings():
    found = {name: r.value for name, r in parse_tegrastats(NX_LINE).items()}
    assert found['memory_total_bytes'] == 6834 * MEGABYTE
    assert found['memory_available_bytes'] == (6834 - 2274) * MEGABYTE
    assert found['cpu_load_ratio'] == pytest.approx(3.96 / 6)
    assert found['gpu_load_ratio'] == 0.22
    assert found['cpu_temperature_celsius'] == 40.0
    assert found['gpu_temperature_celsius'] == 38.0
    assert found['power_w'] == pytest.approx(5.542)


def test_readings_that_are_not_in_the_line_are_absent():
    assert set(parse_tegrastats('RAM 1/2MB')) == {
        'memory_total_bytes', 'memory_available_bytes', 'gpu_memory_available_bytes'}


def test_another_text_is_refused_with_its_line():
    with pytest.raises(ProbeError, match='line 2: not a line of tegrastats'):
        parse_tegrastats_log('RAM 1/2MB\nhello')


@pytest.mark.data
@pytest.mark.parametrize('name', ['jetson_orin_burn_tegrastats.log',
                                  'jetson_tx2_tegrastats_first.log'])
def test_recorded_boards_are_read_line_by_line(data_dir, name):
    lines = parse_tegrastats_log((data_dir / 'traces' / name).read_text())
    assert len(lines) > 50
    for line in lines:
        assert {'power_w', 'cpu_load_ratio', 'memory_available_bytes'} <= set(line)
        assert set(line) <= set(READING_FIELDS)
        assert 0.0 <= line['cpu_load_ratio'].value <= 1.0
        assert 1.0 < line['power_w'].value < 30.0
        assert line['power_w'].source == REPLAYED


@pytest.mark.data
def test_a_recorded_board_plays_back(data_dir):
    log = data_dir / 'traces' / 'jetson_orin_burn_tegrastats.log'
    lines = parse_tegrastats_log(log.read_text())
    probe = tegrastats_probe(lines)
    assert probe.sample(100.0)['power_w'].value == lines[0]['power_w'].value
    assert probe.sample(105.5)['power_w'].value == lines[5]['power_w'].value
