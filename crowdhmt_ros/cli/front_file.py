# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Fronts as `crowdhmt search` writes them."""
from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Tuple

from crowdhmt_ros.errors import ConfigError, DataError
from crowdhmt_ros.types import Variant, variant_from_json

FORMAT, FORMAT_VERSION = 'crowdhmt-front', 1
MAX_VARIANTS = 1000
MAX_BYTES = 64 << 20
MEND = 'give a file that crowdhmt search wrote'


@dataclass(frozen=True)
class Member:
    """
    A variant of a front.

    :param variant: what it is
    :param accuracy: (share of right answers, inputs counted), None when unknown
    :param macs: multiply-accumulates, None when not told
    """

    variant: Variant
    accuracy: Optional[Tuple[float, int]]
    macs: Optional[int]


def read_front(path: Path) -> Tuple[Member, ...]:
    """
    Read the variants of a front.

    :raises DataError: it cannot be read or is malformed, in one line
    """
    try:
        if path.is_file() and path.stat().st_size > MAX_BYTES:
            raise DataError('%s is no front: it has %d bytes; %s' % (
                path, path.stat().st_size, MEND))
        value = json.loads(path.read_text('utf-8'))
    except OSError as error:
        raise DataError('front %s cannot be read (%s)' % (path, error.strerror)) from error
    except (ValueError, RecursionError) as error:
        raise DataError('%s is no front (%s); %s' % (
            path, ' '.join(str(error).split()), MEND)) from error
    if not isinstance(value, dict) or value.get('format') != FORMAT:
        raise DataError('%s is no front; %s' % (path, MEND))
    if value.get('format_version') != FORMAT_VERSION:
        raise DataError('%s is a front of version %.40r, this program reads %d; search anew'
                        % (path, value.get('format_version'), FORMAT_VERSION))
    entries = value.get('front')
    if not isinstance(entries, list) or not 0 < len(entries) <= MAX_VARIANTS:
        raise DataError('%s lists no variants, or more than %d; %s' % (path, MAX_VARIANTS, MEND))
    members = [_member(path, number, entry) for number, entry in enumerate(entries)]
    _check_twice(path, members)
    return tuple(members)


def _member(path: Path, number: int, entry: Any) -> Member:
    where = 'front[%d]' % number
    try:
        variant = variant_from_json(entry, where)
    except (ConfigError, OverflowError) as error:
        raise DataError('%s: %s' % (path, error)) from error
    if variant.precision != 'fp32':
        raise DataError('%s: %s asks for precision %s; families compute in fp32'
                        % (path, where, variant.precision))
    return Member(variant, _accuracy(path, where, entry), _macs(path, where, entry))


def _accuracy(path: Path, where: str, entry: Mapping[str, Any]) -> Optional[Tuple[float, int]]:
    given = entry.get('accuracy')
    if given is None:
        return None
    value, count = (given.get('value'), given.get('count')) if isinstance(given, dict) else (
        None, None)
    if (isinstance(value, (int, float)) and not isinstance(value, bool)
            and math.isfinite(value) and 0.0 <= value <= 1.0
            and isinstance(count, int) and not isinstance(count, bool) and 0 < count < 1 << 50):
        return float(value), count
    raise DataError('%s: %s.accuracy is %.60r, expected a value 0 to 1 and a count'
                    % (path, where, given))


def _macs(path: Path, where: str, entry: Mapping[str, Any]) -> Optional[int]:
    given = entry.get('macs')
    if given is None or (isinstance(given, int) and not isinstance(given, bool) and given >= 0):
        return given
    raise DataError('%s: %s.macs is %.40r, expected a number of operations' % (path, where, given))


def _check_twice(path: Path, members: List[Member]) -> None:
    seen: Dict[Variant, int] = {}
    for number, member in enumerate(members):
        if member.variant in seen:
            raise DataError('%s: front[%d] is the same variant as front[%d]; leave one out'
                            % (path, number, seen[member.variant]))
        seen[member.variant] = number
