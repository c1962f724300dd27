# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Battery reports of drivers good and bad."""
from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crowdhmt_ros.resources.battery import CHARGING, BatteryReport, read_battery
from crowdhmt_ros.types import ESTIMATED, MEASURED


def ratio_and_problems(**fields):
    fields.setdefault('voltage', 24.0)
    read = read_battery(BatteryReport(**fields))
    reading = read.readings.get('battery_ratio')
    return (reading.value if reading else None), read.problems


@pytest.mark.parametrize('value', [0.0, 0.21, 1.0])
def test_a_ratio_is_taken_as_it_is(value):
    assert ratio_and_problems(percentage=value) == (value, ())


def test_a_little_over_full_is_full():
    assert ratio_and_problems(percentage=1.005) == (1.0, ())


def test_percent_where_a_ratio_is_due_is_unknown_and_the_driver_is_told():
    value, problems = ratio_and_problems(percentage=37.0)
    assert value is None
    assert len(problems) == 1
    assert '37' in problems[0]
    assert '0..1 (0.37)' in problems[0]


@pytest.mark.parametrize('value', [42.0, 4200.0, -1.0, math.inf, -0.01])
def test_impossible_percentages_are_unknown_with_one_sentence(value):
    ratio, problems = ratio_and_problems(percentage=value)
    assert ratio is None
    assert len(problems) == 1
    assert '0..1' in problems[0]
    assert '\n' not in problems[0]


def test_4200_percent_is_named_as_such():
    assert '4200 %' in ratio_and_problems(percentage=42.0)[1][0]


def test_charge_over_capacity_serves_where_the_percentage_is_missing():
    read = read_battery(BatteryReport(voltage=24.0, charge=2.0, capacity=8.0))
    assert read.readings['battery_ratio'].value == 0.25
    assert read.readings['battery_ratio'].source == MEASURED
    assert read.problems == ()


def test_design_capacity_only_estimates():
    read = read_battery(BatteryReport(voltage=24.0, charge=2.0, design_capacity=8.0))
    assert read.readings['battery_ratio'].source == ESTIMATED


@pytest.mark.parametrize('fields', [{}, {'charge': 2.0}, {'capacity': 8.0},
                                    {'charge': 2.0, 'capacity': 0.0}])
def test_nothing_to_go_by_is_unknown_with_one_sentence(fields):
    ratio, problems = ratio_and_problems(**fields)
    assert ratio is None
    assert len(problems) == 1


def test_more_charge_than_capacity_is_not_believed():
    ratio, problems = ratio_and_problems(charge=9.0, capacity=2.0)
    assert ratio is None
    assert 'charge is 9' in problems[0]


def test_an_absent_battery_tells_nothing():
    read = read_battery(BatteryReport(percentage=0.5, voltage=24.0, present=False))
    assert read.readings == {}
    assert 'present: false' in read.problems[0]


@pytest.mark.parametrize('voltage', [math.nan, -3.0, math.inf])
def test_a_bad_voltage_leaves_the_ratio_alone(voltage):
    read = read_battery(BatteryReport(percentage=0.5, voltage=voltage, current=2.0))
    assert read.readings['battery_ratio'].value == 0.5
    assert 'battery_voltage_v' not in read.readings
    assert 'power_w' not in read.readings
    assert len(read.problems) == 1


@pytest.mark.parametrize('current', [-2.5, 2.5])
def test_power_is_what_is_drawn_whatever_the_sign(current):
    read = read_battery(BatteryReport(percentage=0.5, voltage=24.0, current=current))
    assert read.readings['power_w'].value == pytest.approx(60.0)


def test_charging_is_no_consumption():
    read = read_battery(BatteryReport(percentage=0.5, voltage=24.0, current=2.0,
                                      power_supply_status=CHARGING))
    assert 'power_w' not in read.readings


ANY = st.floats(allow_nan=True, allow_infinity=True)


@given(ANY, ANY, ANY, ANY, ANY, ANY, st.booleans())
def test_no_report_gives_a_ratio_outside_0_to_1(percentage, voltage, current, charge, capacity,
                                                design, present):
    read = read_battery(BatteryReport(percentage, voltage, current, charge, capacity, design,
                                      present))
    ratio = read.readings.get('battery_ratio')
    assert ratio is None or 0.0 <= ratio.value <= 1.0
    assert ratio is not None or read.problems
