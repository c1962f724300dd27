# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Readings that somebody else publishes: the battery, the memory allotted to inference."""
from __future__ import annotations

from typing import Dict, Mapping, Optional, Tuple

from crowdhmt_ros.resources.battery import BatteryReport, read_battery
from crowdhmt_ros.types import MEASURED, Reading

BATTERY_FIELDS = ('battery_ratio', 'battery_voltage_v', 'battery_current_a', 'power_w')


class ToldProbe:
    """
    The last value told for each reading, with its age.

    :param stale_after_s: a value older than this is unknown again; None keeps it for ever;
        may be changed at any time
    """

    def __init__(self, *, stale_after_s: Optional[float] = None) -> None:
        self.stale_after_s = stale_after_s
        self._told: Dict[str, Tuple[Reading, float]] = {}
        self._problems: Tuple[str, ...] = ()

    @property
    def problems(self) -> Tuple[str, ...]:
        """What was wrong with the last battery report, one sentence each."""
        return self._problems

    def tell(self, name: str, value: Optional[float], now_s: float, *,
             source: str = MEASURED) -> None:
        """
        Take note of a value.

        :param name: field of `ResourceSnapshot`
        :param value: None takes the last one back
        :param now_s: node clock
        """
        if value is None:
            self._told.pop(name, None)
        else:
            self._told[name] = (Reading(value, source), now_s)

    def tell_battery(self, report: BatteryReport, now_s: float) -> Tuple[str, ...]:
        """
        Take note of a battery report; what it leaves unknown is unknown from now on.

        :returns: what is wrong with it, one sentence each
        """
        read = read_battery(report)
        for name in BATTERY_FIELDS:
            reading = read.readings.get(name)
            self.tell(name, reading.value if reading else None, now_s,
                      source=reading.source if reading else MEASURED)
        self._problems = read.problems
        return read.problems

    def forget_after(self, now_s: float) -> None:
        """Drop what was told at a later time: the clock was set back to `now_s`."""
        self._told = {name: told for name, told in self._told.items() if told[1] <= now_s}

    def sample(self, now_s: float) -> Mapping[str, Reading]:
        """Return every value that is not stale; a clock that jumped back counts as no age."""
        found = {}
        for name, (reading, told_s) in self._told.items():
            age_s = max(0.0, now_s - told_s)
            if self.stale_after_s is None or age_s <= self.stale_after_s:
                found[name] = Reading(reading.value, reading.source, age_s)
        return found
