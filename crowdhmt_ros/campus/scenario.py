# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Scenario files: what happens to a robot over a minute, as numbers.

A scenario fixes the memory allotted to inference (bytes), latency budget and accuracy floor per
phase, the day of light and the battery. All times inside are fractions of the duration, so that
the same scenario can be played in a minute or in an hour. A file for several robots has a mapping
`robots`, name -> what holds for that one, over what it says for all.
"""
from __future__ import annotations

import math
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple, Union

import yaml

from crowdhmt_ros.errors import ScenarioError, all_problems
from crowdhmt_ros.share import config_folders

_VIEWS = ('vehicle', 'drone')
_COMMON_ONLY = ('name', 'description', 'duration_s', 'seed')


@dataclass(frozen=True)
class MemoryKey:
    """
    Memory allotted to inference from one moment on.

    :param from_ratio: fraction of the duration.
    :param bytes: bytes allotted.
    """

    from_ratio: float
    bytes: int


@dataclass(frozen=True)
class Phase:
    """
    What is asked of the robot from one moment on.

    :param name: shown to people, e.g. 'noon'.
    :param from_ratio: fraction of the duration.
    :param latency_budget_s: from frame to answer.
    :param accuracy_floor: lowest acceptable accuracy, 0..1.
    """

    name: str
    from_ratio: float
    latency_budget_s: float
    accuracy_floor: float


@dataclass(frozen=True)
class Scenario:
    """
    One scenario; `load_scenario` makes it from a file.

    :param name: name of the scenario.
    :param description: one line for people.
    :param duration_s: how long it plays.
    :param seed: seed of the world.
    :param frame_rate_hz: frames of the camera.
    :param view: 'vehicle' or 'drone'.
    :param capacity_j: energy of the full battery.
    :param battery_start_ratio: charge at the start, 0..1.
    :param base_load_w: power of everything but inference.
    :param time_compression_ratio: how many seconds' worth one second drains.
    :param richest_plan_bytes: what the richest plan takes; the ratios of the file refer to it.
    :param memory_interpolation: 'linear' between keys, or 'step'.
    :param memory: keys, rising in time, the first at 0.
    :param phases: rising in time, the first at 0.
    :param light: (fraction, light_ratio), rising in time.
    """

    name: str
    description: str
    duration_s: float
    seed: int
    frame_rate_hz: float
    view: str
    capacity_j: float
    battery_start_ratio: float
    base_load_w: float
    time_compression_ratio: float
    richest_plan_bytes: int
    memory_interpolation: str
    memory: Tuple[MemoryKey, ...]
    phases: Tuple[Phase, ...]
    light: Tuple[Tuple[float, float], ...]

    def compressed(self, duration_s: float) -> Scenario:
        """
        Same scenario in another duration; the same power empties the battery as far.

        :param duration_s: new duration, above 0.
        :raises ScenarioError: duration is not above 0.
        """
        if not (math.isfinite(duration_s) and duration_s > 0.0):
            raise ScenarioError(f'a scenario lasts more than 0 s, not {duration_s}: '
                                'give a positive duration')
        factor = self.duration_s / duration_s
        return replace(self, duration_s=duration_s,
                       time_compression_ratio=self.time_compression_ratio * factor)

    def fraction(self, t_s: float) -> float:
        """Fraction of the duration that has passed, held within 0..1."""
        return min(1.0, max(0.0, t_s / self.duration_s))

    def phase_at(self, t_s: float) -> Phase:
        """Phase that holds at a time."""
        now = self.fraction(t_s)
        return [phase for phase in self.phases if phase.from_ratio <= now][-1]

    def memory_bytes_at(self, t_s: float) -> int:
        """Bytes allotted to inference at a time."""
        now = self.fraction(t_s)
        before = [key for key in self.memory if key.from_ratio <= now][-1]
        after = [key for key in self.memory if key.from_ratio > now]
        if self.memory_interpolation == 'step' or not after:
            return before.bytes
        share = (now - before.from_ratio) / (after[0].from_ratio - before.from_ratio)
        return round(before.bytes + share * (after[0].bytes - before.bytes))


def scenario_dirs() -> Tuple[Path, ...]:
    """Folders that hold the packaged scenarios, most specific first."""
    return config_folders('scenarios')


def load_scenario(path_or_name: Union[str, os.PathLike[str]], robot: str = '') -> Scenario:
    """
    Load a scenario from a file, or by the name of a packaged one.

    :param path_or_name: path of a YAML file, or a name such as 'campus_minute'.
    :param robot: which one of a file for several; '' takes the first. A file for one robot holds
        for any.
    :raises ScenarioError: no such scenario or robot, or one line with every problem of the file.
    """
    path = find_scenario(path_or_name)
    return _Reader(path).scenario(_content_for(_content(path), robot, path))


def robots_of(path_or_name: Union[str, os.PathLike[str]]) -> Tuple[str, ...]:
    """
    Return the names of the robots that a scenario file is for, empty when it is for any one.

    :raises ScenarioError: no such scenario, or its robots are no mapping.
    """
    path = find_scenario(path_or_name)
    return tuple(_robots(_content(path), path))


def scenario_content(path_or_name: Union[str, os.PathLike[str]],
                     robot: str = '') -> Dict[str, Any]:
    """
    Return what a file for one robot would say, as plain values.

    :raises ScenarioError: as `load_scenario`
    """
    path = find_scenario(path_or_name)
    return _content_for(_content(path), robot, path)


def _content_for(data: Mapping[str, Any], robot: str, path: Path) -> Dict[str, Any]:
    """Put what holds for one robot over what holds for all."""
    robots = _robots(data, path)
    if not robots:
        return dict(data)
    name = robot or next(iter(robots))
    if name not in robots:
        raise ScenarioError(f'scenario {path} has no robot {name!r}: it has {", ".join(robots)}')
    common = {key: value for key, value in data.items() if key != 'robots'}
    own = robots[name]
    wrong = [key for key in own if key in _COMMON_ONLY]
    if wrong:
        raise ScenarioError(f'scenario {path}: robots.{name}.{wrong[0]} must stand at the top: '
                            'it holds for all robots')
    return {'view': name, **common, **own}


def _robots(data: Mapping[str, Any], path: Path) -> Mapping[str, Mapping[str, Any]]:
    robots = data.get('robots', {})
    named = isinstance(robots, dict) and all(
        isinstance(name, str) and isinstance(entry, dict) for name, entry in robots.items())
    if not named or ('robots' in data and not robots):
        raise ScenarioError(f'scenario {path}: robots must be a mapping of names to mappings, '
                            'at least one')
    return robots  # type: ignore[no-any-return]


def _content(path: Path) -> Dict[str, Any]:
    try:
        data = yaml.safe_load(path.read_text(encoding='utf-8'))
    except (OSError, UnicodeDecodeError) as error:
        raise ScenarioError(f'scenario {path} cannot be read: {error}') from error
    except yaml.YAMLError as error:
        line = ' '.join(str(error).split())
        raise ScenarioError(f'scenario {path} is not YAML: {line}') from error
    if not isinstance(data, dict):
        raise ScenarioError(f'scenario {path} must be a mapping of names to values')
    return data


def find_scenario(path_or_name: Union[str, os.PathLike[str]]) -> Path:
    """
    Return the file of a scenario.

    :param path_or_name: as in `load_scenario`.
    :raises ScenarioError: there is none.
    """
    path = Path(path_or_name)
    if path.suffix in ('.yaml', '.yml') or path.is_file():
        if not path.is_file():
            raise ScenarioError(f'there is no scenario file {path}: check the path')
        return path
    known: List[str] = []
    for folder in scenario_dirs():
        candidate = folder / f'{path}.yaml'
        if candidate.is_file():
            return candidate
        known += [entry.stem for entry in sorted(folder.glob('*.yaml'))]
    listed = ', '.join(sorted(set(known))) or 'none is installed'
    raise ScenarioError(f'there is no scenario {str(path)!r}: give a .yaml file or one of '
                        f'these: {listed}')


_KEYS: Dict[str, Tuple[str, ...]] = {
    '': ('name', 'description', 'duration_s', 'seed', 'frame_rate_hz', 'view', 'battery',
         'memory', 'phases', 'light'),
    'battery': ('capacity_j', 'start_ratio', 'base_load_w', 'time_compression_ratio'),
    'memory': ('richest_plan_bytes', 'interpolation', 'keyframes'),
    'memory.keyframes': ('from_ratio', 'of_richest_ratio', 'bytes'),
    'phases': ('name', 'from_ratio', 'latency_budget_s', 'accuracy_floor'),
    'light': ('from_ratio', 'light_ratio'),
}


class _Reader:
    """Reads a scenario and collects every problem on the way."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._problems: List[str] = []

    def scenario(self, data: Mapping[str, Any]) -> Scenario:
        """Turn the file's content into a scenario, or raise with every problem."""
        self._unknown('', data)
        battery, memory = self._mapping(data, 'battery'), self._mapping(data, 'memory')
        richest = int(self._number(memory, 'memory.richest_plan_bytes', 1, None))
        result = Scenario(
            name=self._text(data, 'name'), description=str(data.get('description', '')),
            duration_s=self._number(data, 'duration_s', 0.1, None, 60.0),
            seed=int(self._number(data, 'seed', 0, None, 0.0)),
            frame_rate_hz=self._number(data, 'frame_rate_hz', 0.1, 240.0, 10.0),
            view=self._choice(data, 'view', _VIEWS, 'vehicle'),
            capacity_j=self._number(battery, 'battery.capacity_j', 1.0, None),
            battery_start_ratio=self._number(battery, 'battery.start_ratio', 0.0, 1.0, 0.9),
            base_load_w=self._number(battery, 'battery.base_load_w', 0.0, None),
            time_compression_ratio=self._number(
                battery, 'battery.time_compression_ratio', 1e-6, None, 1.0),
            richest_plan_bytes=richest,
            memory_interpolation=self._choice(
                memory, 'memory.interpolation', ('linear', 'step'), 'linear'),
            memory=self._memory(memory, richest), phases=self._phases(data),
            light=self._light(data))
        if self._problems:
            raise ScenarioError(f'scenario {self._path}: {all_problems(self._problems)}')
        return result

    def _memory(self, memory: Mapping[str, Any], richest: int) -> Tuple[MemoryKey, ...]:
        keys = []
        for where, entry in self._entries(memory, 'memory.keyframes'):
            if 'bytes' in entry:
                amount = self._number(entry, f'{where}.bytes', 1, None)
                if 'of_richest_ratio' in entry and richest > 1:
                    self._agree(where, amount, entry, richest)
            else:
                amount = richest * self._number(entry, f'{where}.of_richest_ratio', 0.001, 100.0)
            keys.append(MemoryKey(self._number(entry, f'{where}.from_ratio', 0.0, 1.0),
                                  round(amount)))
        self._rising('memory.keyframes', [key.from_ratio for key in keys])
        return tuple(keys)

    def _agree(self, where: str, amount: float, entry: Mapping[str, Any], richest: int) -> None:
        ratio = self._number(entry, f'{where}.of_richest_ratio', 0.001, 100.0)
        if abs(amount / richest - ratio) > 0.005:
            self._problems.append(f'{where}: bytes {amount:.0f} is not {ratio:g} of '
                                  f'richest_plan_bytes {richest}: correct or drop one of them')

    def _phases(self, data: Mapping[str, Any]) -> Tuple[Phase, ...]:
        phases = tuple(
            Phase(name=self._text(entry, f'{where}.name'),
                  from_ratio=self._number(entry, f'{where}.from_ratio', 0.0, 1.0),
                  latency_budget_s=self._number(entry, f'{where}.latency_budget_s', 1e-5, 60.0),
                  accuracy_floor=self._number(entry, f'{where}.accuracy_floor', 0.0, 1.0))
            for where, entry in self._entries(data, 'phases'))
        self._rising('phases', [phase.from_ratio for phase in phases])
        return phases

    def _light(self, data: Mapping[str, Any]) -> Tuple[Tuple[float, float], ...]:
        keys = tuple((self._number(entry, f'{where}.from_ratio', 0.0, 1.0),
                      self._number(entry, f'{where}.light_ratio', 0.0, 1.0))
                     for where, entry in self._entries(data, 'light'))
        self._rising('light', [at for at, _ in keys])
        return keys

    def _entries(self, data: Mapping[str, Any],
                 where: str) -> List[Tuple[str, Mapping[str, Any]]]:
        entries = data.get(where.rsplit('.', 1)[-1])
        if not isinstance(entries, list) or not entries:
            self._problems.append(f'{where} must be a list with at least one entry')
            return []
        found: List[Tuple[str, Mapping[str, Any]]] = []
        for index, entry in enumerate(entries):
            if isinstance(entry, dict):
                self._unknown(where, entry, f'{where}[{index}]')
                found.append((f'{where}[{index}]', entry))
            else:
                self._problems.append(f'{where}[{index}] must be a mapping')
        return found

    def _rising(self, where: str, ratios: Sequence[float]) -> None:
        if ratios and ratios[0] != 0.0:
            self._problems.append(f'{where}: the first from_ratio must be 0')
        if list(ratios) != sorted(set(ratios)):
            self._problems.append(f'{where}: from_ratio must rise')

    def _mapping(self, data: Mapping[str, Any], key: str) -> Mapping[str, Any]:
        value = data.get(key)
        if not isinstance(value, dict):
            self._problems.append(f'{key} must be a mapping')
            return {}
        self._unknown(key, value)
        return value

    def _unknown(self, where: str, data: Mapping[str, Any], shown: Optional[str] = None) -> None:
        for key in data:
            if key not in _KEYS[where]:
                place = f'{shown or where}.' if where else ''
                self._problems.append(f'{place}{key} is unknown (known: '
                                      f'{", ".join(_KEYS[where])})')

    def _text(self, data: Mapping[str, Any], where: str) -> str:
        value = data.get(where.rsplit('.', 1)[-1])
        if not isinstance(value, str) or not value:
            self._problems.append(f'{where} must be a text')
            return ''
        return value

    def _choice(self, data: Mapping[str, Any], where: str, options: Sequence[str],
                default: str) -> str:
        value = data.get(where.rsplit('.', 1)[-1], default)
        if value not in options:
            self._problems.append(f'{where} must be one of {", ".join(options)}, not {value!r}')
        return str(value)

    def _number(self, data: Mapping[str, Any], where: str, low: float, high: Optional[float],
                default: Optional[float] = None) -> float:
        value = data.get(where.rsplit('.', 1)[-1], default)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            self._problems.append(f'{where} must be a number, not {value!r}')
            return low
        if not math.isfinite(value) or value < low or (high is not None and value > high):
            span = f'{low:g} or more' if high is None else f'within {low:g}..{high:g}'
            self._problems.append(f'{where} must be {span}, not {value:g}')
            return low
        return float(value)
