# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Short names of variants, read off their operators."""
from __future__ import annotations

from typing import Dict, List, Mapping, Sequence, Set, Tuple

from crowdhmt_ros.types import OperatorChoice, Variant

MAX_NAME = 24
CODES: Mapping[str, str] = {'channel': 'w', 'depth': 'd', 'sparse': 'sp', 'asymmetric': 'as',
                            'fire': 'fi', 'ghost': 'gh', 'refit': 're'}
"""Operator -> its code; svd and scale name themselves, others by their first letters."""
SCALES: Mapping[str, str] = {'kernel': 'k', 'stride': 's', 'ratio': 'w'}


def variant_names(variants: Sequence[Variant], exits: int) -> Tuple[str, ...]:
    """
    Name variants by what they do, such as ``w50-d1`` or ``svd50.34-e1``.

    Each operator has a code and its parameter, ratios in percent; behind a dot stand the stages,
    from 1, that have it, unless all have. ``e0`` is the first exit. Where a name would be too
    long, parameters that differ among stages are left out, then all; equal names get a number.

    :param variants: all of one family
    :param exits: of the network, its own end counted
    :returns: unique, at most 24 characters, ASCII letters, digits, dot and hyphen
    """
    taken: Set[str] = set()
    found: List[str] = []
    for variant in variants:
        name = next(n for n in _candidates(variant, exits) if len(n) <= MAX_NAME)
        stem, number = name, 1
        while name in taken:
            number += 1
            end = '-%d' % number
            name = stem[:MAX_NAME - len(end)] + end
        taken.add(name)
        found.append(name)
    return tuple(found)


def _candidates(variant: Variant, exits: int) -> Tuple[str, ...]:
    """Return names from the most telling to the shortest."""
    end = [] if variant.exit_index == exits - 1 else ['e%d' % variant.exit_index]
    stages: Dict[str, List[int]] = {}
    by_letters: Dict[str, Set[str]] = {}
    for number, choices in enumerate(variant.stages, 1):
        for choice in choices:
            code = _code(choice)
            stages.setdefault(code, []).append(number)
            by_letters.setdefault(_letters(choice), set()).add(code)
    whole = [code if len(where) == len(variant.stages) else '%s.%s' % (
        code, ''.join(map(str, where))) for code, where in stages.items()]
    common = [next(iter(codes)) if len(codes) == 1 else letters
              for letters, codes in by_letters.items()]
    texts = ['-'.join(parts + end) for parts in (whole, common, list(by_letters))]
    return (*(t or 'full' for t in texts), (texts[-1] or 'full')[:MAX_NAME].rstrip('-.'))


def _letters(choice: OperatorChoice) -> str:
    given = CODES.get(choice.operator)
    clean = ''.join(c for c in choice.operator.lower() if c.isascii() and c.isalnum())
    return given or clean[:5] or 'op'


def _code(choice: OperatorChoice) -> str:
    known = dict(choice.parameters)
    if choice.operator == 'scale':
        return ''.join(SCALES.get(n, n[:1]) + _number(v) for n, v in known.items()) or 'scale'
    text = _letters(choice) + ''.join(_number(v) for n, v in known.items() if n != 'seed')
    return text + ('r%s' % _number(known['seed']) if 'seed' in known else '')


def _number(value: object) -> str:
    """Return a ratio in percent, a count as it is, a text by its first letters."""
    if isinstance(value, float) and not value.is_integer():
        return ('%d' % round(100 * value) if 0.0 < value < 1.0
                else ('%g' % value).replace('-', 'm').replace('+', ''))
    if isinstance(value, float) and value == 1.0:
        return '100'
    if isinstance(value, (int, float)):
        return ('%d' % value).replace('-', 'm')
    return ''.join(c for c in str(value) if c.isascii() and c.isalnum())[:3]
