# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Unit energies of a device, from a file of config/devices."""
from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import List, Union

import yaml

from crowdhmt_ros.errors import ConfigError, all_problems
from crowdhmt_ros.share import config_folders
from crowdhmt_ros.types import EnergyCoefficients

_FIELDS = tuple(f.name for f in dataclasses.fields(EnergyCoefficients))


def load_device(name: Union[str, Path]) -> EnergyCoefficients:
    """
    Return the unit energies of a device.

    :param name: a name in config/devices, or a path that ends in .yaml
    :raises ConfigError: no such file, or every problem in it in one message
    """
    path = _find(str(name))
    try:
        content = yaml.safe_load(path.read_text(encoding='utf-8'))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f'device file {path} cannot be read: {error}') from error
    energy = content.get('energy') if isinstance(content, dict) else None
    if not isinstance(energy, dict):
        raise ConfigError(f'device file {path} needs a section "energy" with joules_per_mac')
    problems = _problems(energy)
    if problems:
        raise ConfigError(f'device file {path}: {all_problems(problems)}')
    return EnergyCoefficients(**{key: float(value) for key, value in energy.items()})


def _find(name: str) -> Path:
    if name.endswith('.yaml'):
        return Path(name)
    folders = config_folders('devices')
    for folder in folders:
        if (folder / f'{name}.yaml').is_file():
            return folder / f'{name}.yaml'
    known = sorted({p.stem for folder in folders for p in folder.glob('*.yaml')})
    raise ConfigError(f'there is no device {name!r}: choose one of {", ".join(known) or "none"}, '
                      'or give the path of a YAML file')


def _problems(energy: dict[object, object]) -> List[str]:
    found = []
    for key, value in energy.items():
        if key not in _FIELDS:
            found.append(f'{key} is unknown, the fields are {", ".join(_FIELDS)}')
        elif isinstance(value, bool) or not isinstance(value, (int, float)) \
                or not math.isfinite(value) or value < 0.0:
            found.append(f'{key} is {value!r}, it must be a number of at least 0')
    joules = energy.get('joules_per_mac')
    if 'joules_per_mac' not in energy:
        found.append('joules_per_mac is missing')
    elif joules == 0:
        found.append('joules_per_mac is 0, it must be above 0')
    return found
