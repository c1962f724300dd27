# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
What a Jetson board tells beyond any Linux: power rails, graphics processor, tegrastats.

Paths differ between board support packages, so each reading has a list of places and the first
that answers is taken; what none of them has stays unknown. Nothing here needs root.
"""
from __future__ import annotations

import re
from pathlib import Path
from typing import Dict, Mapping, Optional

from crowdhmt_ros.errors import ProbeError
from crowdhmt_ros.resources.files import first_number, matches, read_number, read_text
from crowdhmt_ros.resources.linux import zone_celsius
from crowdhmt_ros.types import MEASURED, REPLAYED, Reading

INPUT_RAILS = ('VDD_IN', 'POM_5V_IN', 'VIN_SYS_5V0', 'VIN')
"""Names of the rail that feeds the whole module, by board and release."""
MEGABYTE = 1 << 20

_RAM = re.compile(r'\bRAM (\d+)/(\d+)MB')
_CPU = re.compile(r'\bCPU \[([^\]]*)\]')
_GPU_LOAD = re.compile(r'\bGR3D_FREQ (\d+)%')
_CELSIUS = re.compile(r'\b(\w+)@(-?\d+(?:\.\d+)?)C\b')
_RAIL = re.compile(r'\b([A-Z][A-Z0-9_]+) (\d+)(?:mW)?/(\d+)(?:mW)?(?=\s|$)')


class JetsonProbe:
    """
    Readings from the INA3221 power monitor and the graphics processor in sysfs.

    :param root: folder that stands for '/'
    """

    def __init__(self, *, root: Path = Path('/')) -> None:
        self._root = root

    def sample(self, now_s: float) -> Mapping[str, Reading]:
        """Return what the board has; empty on anything but a Jetson."""
        found = {
            'power_w': input_power_w(self._root),
            'gpu_load_ratio': gpu_load_ratio(self._root),
            'gpu_temperature_celsius': zone_celsius(self._root, ('gpu-therm', 'gpu_therm')),
        }
        return {name: Reading(value) for name, value in found.items() if value is not None}


def input_power_w(root: Path) -> Optional[float]:
    """
    Return the power of the module's input rail in watts.

    Older releases name rails `rail_name_N` beside `in_powerN_input` (mW); newer ones have a hwmon
    with `inN_label`, `inN_input` (mV) and `currN_input` (mA).
    """
    for label in matches(root, 'sys/bus/i2c/drivers/ina3221x/*/iio:device*/rail_name_[0-9]'):
        milliwatts = read_number(label.parent / (f'in_power{label.name[-1]}_input'))
        if read_text(label) in INPUT_RAILS and milliwatts is not None:
            return milliwatts / 1e3
    for label in matches(root, 'sys/bus/i2c/drivers/ina3221/*/hwmon/hwmon*/in[0-9]_label'):
        number = label.name[2]
        millivolts = read_number(label.parent / (f'in{number}_input'))
        milliamperes = read_number(label.parent / (f'curr{number}_input'))
        if read_text(label) in INPUT_RAILS and millivolts is not None \
                and milliamperes is not None:
            return millivolts * milliamperes / 1e6
    return None


def gpu_load_ratio(root: Path) -> Optional[float]:
    """Return the load of the graphics processor 0..1; the kernel counts in thousandths."""
    places = [root / 'sys/devices/gpu.0/load', root / 'sys/devices/platform/gpu.0/load']
    places += matches(root, 'sys/devices/platform/*.gpu/load')
    places += matches(root, 'sys/devices/platform/bus@0/*.gpu/load')
    permille = first_number(places)
    return None if permille is None else min(1.0, max(0.0, permille / 1000.0))


def parse_tegrastats(line: str, *, source: str = MEASURED) -> Mapping[str, Reading]:
    """
    Return the readings of one line of tegrastats.

    A core that is off counts as idle; the clock is relative to nothing in the line, hence left
    out. Graphics memory is the machine's memory on these boards.

    :param line: as printed, with or without a time in front
    :param source: `MEASURED` live, `REPLAYED` from a recording
    :raises ProbeError: when it is not such a line
    """
    ram = _RAM.search(line)
    if ram is None:
        raise ProbeError(f'not a line of tegrastats (no "RAM used/totalMB"): {line[:60]!r}')
    used, total = (float(n) * MEGABYTE for n in ram.groups())
    found: Dict[str, Optional[float]] = {
        'memory_total_bytes': total,
        'memory_available_bytes': max(0.0, total - used),
        'gpu_memory_available_bytes': max(0.0, total - used),
        'cpu_load_ratio': _cores_load(line),
        'power_w': _rail_w(line),
    }
    load = _GPU_LOAD.search(line)
    found['gpu_load_ratio'] = float(load.group(1)) / 100.0 if load else None
    heat = {name.upper(): float(value) for name, value in _CELSIUS.findall(line)}
    found['gpu_temperature_celsius'] = heat.get('GPU')
    processor = [heat[n] for n in ('CPU', 'MCPU', 'BCPU') if n in heat]
    found['cpu_temperature_celsius'] = max(processor) if processor else None
    return {name: Reading(value, source) for name, value in found.items() if value is not None}


def parse_tegrastats_log(text: str) -> list[Mapping[str, Reading]]:
    """
    Return the readings of each line of a recorded log; blank lines are passed over.

    :raises ProbeError: naming the first line that is none of tegrastats
    """
    found = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            found.append(parse_tegrastats(line, source=REPLAYED))
        except ProbeError as error:
            raise ProbeError(f'line {number}: {error}') from error
    return found


def _cores_load(line: str) -> Optional[float]:
    cores = _CPU.search(line)
    if cores is None:
        return None
    loads = [float(part.split('%')[0]) / 100.0 if '%' in part else 0.0
             for part in cores.group(1).split(',')]
    return sum(loads) / len(loads)


def _rail_w(line: str) -> Optional[float]:
    rails = {name: float(now) for name, now, _ in _RAIL.findall(line)}
    for name in INPUT_RAILS:
        if name in rails:
            return rails[name] / 1e3
    return None
