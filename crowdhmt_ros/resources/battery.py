# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
From a sensor_msgs/BatteryState to readings, without guessing.

The message says: percentage is a ratio 0..1, NaN where unmeasured. Drivers that publish 37 for
37 % exist. 37 is not taken for 0.37: a driver that is wrong once may be wrong twice, and a robot
that trusts it runs empty. It becomes unknown, and one sentence says what the driver must do.
"""
from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Dict, Mapping, Optional, Tuple

from crowdhmt_ros.types import ESTIMATED, MEASURED, Reading

ROUNDING = 0.01
"""A full battery may count a little beyond its capacity."""
CHARGING = 1
"""BatteryState.POWER_SUPPLY_STATUS_CHARGING."""


@dataclass(frozen=True)
class BatteryReport:
    """The fields of a BatteryState that are used, as published; NaN is unmeasured."""

    percentage: float = math.nan
    voltage: float = math.nan
    current: float = math.nan
    charge: float = math.nan
    capacity: float = math.nan
    design_capacity: float = math.nan
    present: bool = True
    power_supply_status: int = 0


@dataclass(frozen=True)
class BatteryReadings:
    """
    What a report is worth.

    :param readings: field of `ResourceSnapshot` -> reading; what is unknown is left out
    :param problems: one sentence each: what is wrong and what the driver must do
    """

    readings: Mapping[str, Reading]
    problems: Tuple[str, ...] = ()


def read_battery(report: BatteryReport) -> BatteryReadings:
    """
    Return the readings that `report` supports.

    The ratio comes from `percentage`; where that is NaN, from charge / capacity.
    """
    if not report.present:
        return BatteryReadings({}, (
            'battery_state says present: false: no battery is counted until the driver sets it',))
    ratio, problem = _ratio(report)
    problems = [problem] if problem else []
    found: Dict[str, Reading] = {}
    if ratio is not None:
        found['battery_ratio'] = ratio
    if not math.isfinite(report.voltage) or report.voltage < 0.0:
        problems.append(f'battery_state.voltage is {report.voltage:g}: voltage and power stay '
                        'unknown, the driver must publish volts')
    else:
        found['battery_voltage_v'] = Reading(report.voltage)
    if math.isfinite(report.current):
        found['battery_current_a'] = Reading(report.current)
        power_w = _power_w(report)
        if power_w is not None:
            found['power_w'] = Reading(power_w)
    return BatteryReadings(found, tuple(problems))


def _power_w(report: BatteryReport) -> Optional[float]:
    """Return what the robot draws; drivers disagree on the sign of a discharge."""
    if report.power_supply_status == CHARGING or not math.isfinite(report.voltage) \
            or report.voltage < 0.0:
        return None
    return report.voltage * abs(report.current)


def _ratio(report: BatteryReport) -> Tuple[Optional[Reading], str]:
    value = report.percentage
    if math.isnan(value):
        return _ratio_from_charge(report)
    if 0.0 <= value <= 1.0:
        return Reading(value), ''
    if 1.0 < value <= 1.0 + ROUNDING:
        return Reading(1.0), ''
    head = f'battery_state.percentage is {value:g}, which reads as {value * 100:g} %: '
    if 1.0 < value <= 100.0:
        return None, head + ('the battery is taken as unknown, the driver must publish a ratio '
                             f'0..1 ({value / 100:g}), not percent')
    return None, head + ('the battery is taken as unknown, the driver must publish a ratio 0..1, '
                         'or NaN where it cannot measure')


def _ratio_from_charge(report: BatteryReport) -> Tuple[Optional[Reading], str]:
    for capacity, source in ((report.capacity, MEASURED), (report.design_capacity, ESTIMATED)):
        if math.isfinite(report.charge) and math.isfinite(capacity) and capacity > 0.0:
            value = report.charge / capacity
            if 0.0 <= value <= 1.0 + ROUNDING:
                return Reading(min(1.0, value), source), ''
            return None, (f'battery_state.charge is {report.charge:g} of a capacity of '
                          f'{capacity:g}: the battery is taken as unknown, the driver must '
                          'publish both in ampere hours')
    return None, ('battery_state.percentage is NaN and charge or capacity is missing: the battery '
                  'is taken as unknown, the driver must publish percentage as a ratio 0..1')
