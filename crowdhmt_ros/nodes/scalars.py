# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Numbers and times <-> fields of messages.

NaN on the wire is None in Python. Stamps of the node clock are whole nanoseconds; as float
seconds they come back equal (`seconds_to_time` splits before it rounds).
"""
from __future__ import annotations

import array
import math
from typing import Iterable, Optional

from builtin_interfaces.msg import Time

NAN = math.nan


def number(value: Optional[float]) -> float:
    """Return what goes on the wire: NaN for unknown."""
    return NAN if value is None else float(value)


def optional(value: float) -> Optional[float]:
    """Return what came over the wire: None for NaN."""
    return None if math.isnan(value) else value


def doubles(values: Iterable[float]) -> array.array[float]:
    """Return the only sequence that a float64[] field takes without a check per item."""
    return array.array('d', values)


def ns_to_time(stamp_ns: int) -> Time:
    """Return a stamp message; nanoseconds since the epoch of the node clock."""
    sec, nanosec = divmod(stamp_ns, 1000000000)
    return Time(sec=sec, nanosec=nanosec)


def time_to_ns(stamp: Time) -> int:
    """Return nanoseconds since the epoch of the node clock."""
    return int(stamp.sec) * 1000000000 + int(stamp.nanosec)


def seconds_to_time(stamp_s: float) -> Time:
    """Return the stamp whose nanoseconds divided by 1e9 give STAMP_S again."""
    whole = math.floor(stamp_s)
    return ns_to_time(int(whole) * 1000000000 + round((stamp_s - whole) * 1e9))


def time_to_seconds(stamp: Time) -> float:
    """Return seconds since the epoch of the node clock, correctly rounded."""
    return time_to_ns(stamp) / 1000000000
