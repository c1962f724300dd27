# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A variant as JSON, as bundles and fronts keep it."""
from __future__ import annotations

from typing import Any, Dict, List, Tuple

from crowdhmt_ros.errors import ConfigError, all_problems
from crowdhmt_ros.types.models import PRECISIONS, OperatorChoice, ParameterValue, Variant

MAX_EXIT = 1000
MAX_SIZE = 1e300
"""Numbers of parameters stay below it, so that each of them is finite."""


def variant_to_json(variant: Variant) -> Dict[str, Any]:
    """
    Return what `json.dump` takes: `stages`, `exit_index`, `precision`.

    :param variant: any
    """
    return {'stages': [[{'operator': c.operator, 'parameters': dict(c.parameters)} for c in stage]
                       for stage in variant.stages],
            'exit_index': variant.exit_index, 'precision': variant.precision}


def variant_from_json(value: object, where: str = 'variant') -> Variant:
    """
    Read what `variant_to_json` wrote; other keys of the object are left alone.

    :param value: parsed JSON
    :param where: its place in the file, for the message
    :raises ConfigError: all that is wrong with it, in one line
    """
    if not isinstance(value, dict):
        raise ConfigError('%s is %.40r, expected an object with stages and exit_index'
                          % (where, value))
    problems: List[str] = []
    stages = value.get('stages')
    if not isinstance(stages, list):
        problems.append('%s.stages is %.40r, expected an array' % (where, stages))
        stages = []
    exit_index: Any = value.get('exit_index')
    if not _is_integer(exit_index) or not 0 <= exit_index <= MAX_EXIT:
        problems.append('%s.exit_index is %.40r, expected an integer in 0..%d'
                        % (where, exit_index, MAX_EXIT))
    precision = value.get('precision', PRECISIONS[0])
    if precision not in PRECISIONS:
        problems.append('%s.precision is %.40r, expected one of %s'
                        % (where, precision, ', '.join(PRECISIONS)))
    read = tuple(_stage(s, '%s.stages[%d]' % (where, i), problems) for i, s in enumerate(stages))
    if problems:
        raise ConfigError(all_problems(problems))
    return Variant(read, int(exit_index), str(precision))


def _stage(value: object, where: str, problems: List[str]) -> Tuple[OperatorChoice, ...]:
    if not isinstance(value, list):
        problems.append('%s is %.40r, expected an array' % (where, value))
        return ()
    return tuple(_choice(c, '%s[%d]' % (where, i), problems) for i, c in enumerate(value))


def _choice(value: object, where: str, problems: List[str]) -> OperatorChoice:
    if not isinstance(value, dict):
        problems.append('%s is %.40r, expected an object' % (where, value))
        return OperatorChoice('?')
    name = value.get('operator')
    if not isinstance(name, str) or not name:
        problems.append('%s.operator is %.40r, expected a text' % (where, name))
    given = value.get('parameters', {})
    if not isinstance(given, dict):
        problems.append('%s.parameters is %.40r, expected an object' % (where, given))
        given = {}
    pairs: List[Tuple[str, ParameterValue]] = []
    for key in sorted(given):
        if (isinstance(given[key], str) and given[key]) or _is_number(given[key]):
            pairs.append((key, given[key]))
        else:
            problems.append('%s.parameters.%s is %.40r, expected a number or a text'
                            % (where, key, given[key]))
    return OperatorChoice(str(name), tuple(pairs))


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return _is_integer(value) or (isinstance(value, float) and abs(value) < MAX_SIZE)
