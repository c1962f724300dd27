# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What is sensed and what is predicted: one number with its origin, one look at a machine."""
from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

MEASURED = 'measured'
ESTIMATED = 'estimated'
REPLAYED = 'replayed'
ABSENT = 'absent'
SOURCES = (MEASURED, ESTIMATED, REPLAYED, ABSENT)


@dataclass(frozen=True)
class Reading:
    """
    One sensed value with its origin.

    :param value: the number, or None where nothing could be read
    :param source: one of `SOURCES`
    :param age_s: seconds since it was taken
    """

    value: Optional[float]
    source: str = MEASURED
    age_s: float = 0.0


NO_READING = Reading(None, ABSENT)


@dataclass(frozen=True)
class Estimate:
    """
    A predicted figure.

    :param mean: expected value
    :param p95: 95th percentile; equal to the mean where the figure does not vary
    :param source: one of `SOURCES`
    """

    mean: float
    p95: float
    source: str = ESTIMATED


@dataclass(frozen=True)
class ResourceSnapshot:
    """
    One look at this machine (P III-D). Field names are the wire names of ResourceStatus.

    :param stamp_s: node clock
    :param robot_id: namespace of the robot
    :param boot_id: drawn anew at each start of the robot's nodes
    """

    stamp_s: float
    robot_id: str = ''
    boot_id: str = ''
    battery_ratio: Reading = NO_READING
    battery_voltage_v: Reading = NO_READING
    battery_current_a: Reading = NO_READING
    power_w: Reading = NO_READING
    memory_total_bytes: Reading = NO_READING
    memory_available_bytes: Reading = NO_READING
    memory_allotted_bytes: Reading = NO_READING
    memory_pressure_ratio: Reading = NO_READING
    cpu_load_ratio: Reading = NO_READING
    cpu_others_ratio: Reading = NO_READING
    cpu_frequency_ratio: Reading = NO_READING
    cpu_temperature_celsius: Reading = NO_READING
    cpu_pressure_ratio: Reading = NO_READING
    cache_hit_ratio: Reading = NO_READING
    gpu_load_ratio: Reading = NO_READING
    gpu_memory_available_bytes: Reading = NO_READING
    gpu_temperature_celsius: Reading = NO_READING
    link_bandwidth_bytes_per_s: Reading = NO_READING
    link_round_trip_s: Reading = NO_READING


READING_FIELDS = tuple(
    name for name in ResourceSnapshot.__dataclass_fields__
    if name not in ('stamp_s', 'robot_id', 'boot_id'))
"""Names of the readings of a snapshot, in wire order."""
