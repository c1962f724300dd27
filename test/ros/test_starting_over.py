# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A played clock that is set back: monitor and planner start anew."""
import math
from dataclasses import replace

import pytest

pytest.importorskip('rclpy')
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import BatteryState

from crowdhmt_ros.msg import Plan, ResourceStatus
from crowdhmt_ros.nodes import topics
from crowdhmt_ros.nodes.adaptation_planner import AdaptationPlannerNode
from crowdhmt_ros.nodes.convert import snapshot_to_msg
from crowdhmt_ros.nodes.resource_monitor import ResourceMonitorNode
from crowdhmt_ros.nodes.scalars import seconds_to_time
from crowdhmt_ros.types import CostCorrection, Reading, ResourceSnapshot

LEARNED = (CostCorrection('some', 1.5, 1.1, 20),)


class Played:
    """A node on a played clock."""

    def __init__(self, stage, kind, **parameters):
        self.stage = stage
        self.clock = stage.peer.create_publisher(Clock, '/clock', 10)
        self.node = stage.add(kind, use_sim_time=True, **parameters)
        stage.until(lambda: self.clock.get_subscription_count())

    def tick(self, at_s):
        def told():
            self.clock.publish(Clock(clock=seconds_to_time(at_s)))
            self.stage.spin(0.02)
            return self.node.get_clock().now().nanoseconds == round(at_s * 1e9)
        self.stage.until(told)


@pytest.fixture
def planner(stage):
    found = Played(stage, AdaptationPlannerNode, tables='counted')
    found.looks = stage.publisher(topics.RESOURCES, ResourceStatus)
    found.plans = stage.collect(topics.PLAN, Plan)
    stage.until(lambda: found.looks.get_subscription_count() and found.node._mind)
    found.look = lambda at_s, ratio: found.looks.publish(look(at_s, ratio))
    return found


def look(at_s, ratio):
    return snapshot_to_msg(ResourceSnapshot(at_s, 'robot', 'boot',
                                            battery_ratio=Reading(ratio)))


def test_set_back_the_planner_decides_as_after_a_start_and_keeps_what_it_learned(planner):
    planner.tick(100.0)
    planner.look(100.0, 0.2)
    planner.stage.until(lambda: planner.plans)
    node = planner.node
    node.state = replace(node.state, corrections=LEARNED, challenger_id='other',
                         challenger_steps=1, condition='photos')
    planner.tick(50.0)
    planner.look(50.0, 0.9)
    planner.stage.until(lambda: len(planner.plans) == 2)
    state = planner.plans[-1].state
    assert (state.current_id, state.challenger_id, state.condition) == ('', '', '')
    assert list(state.correction_ids) == ['some']
    assert planner.plans[-1].plan_seq == planner.plans[0].plan_seq + 1
    assert planner.node.state.current_since_s == 50.0


def test_a_look_from_before_the_clock_was_set_back_brings_no_plan(planner):
    planner.tick(100.0)
    planner.look(100.0, 0.2)
    planner.stage.until(lambda: planner.plans)
    planner.tick(50.0)
    planner.look(101.0, 0.2)
    planner.look(50.0, 0.9)
    planner.stage.until(lambda: len(planner.plans) == 2)
    planner.stage.spin(0.1)
    assert [p.snapshot.battery_ratio for p in planner.plans] == [
        pytest.approx(0.2), pytest.approx(0.9)]


def test_a_clock_that_wavers_leaves_the_plan_in_force(planner):
    planner.tick(100.0)
    planner.look(100.0, 0.9)
    planner.stage.until(lambda: planner.plans)
    planner.tick(99.5)
    planner.look(99.5, 0.9)
    planner.stage.until(lambda: len(planner.plans) == 2)
    assert planner.plans[-1].state.current_id == planner.plans[0].choice.candidate_id


def test_set_back_the_monitor_forgets_the_battery_of_a_time_yet_to_come(stage):
    played = Played(stage, ResourceMonitorNode)
    batteries = stage.publisher(topics.BATTERY_STATE, BatteryState)
    looks = stage.collect(topics.RESOURCES, ResourceStatus)
    stage.until(lambda: batteries.get_subscription_count())

    def tell(ratio, at_s):
        message = BatteryState(percentage=ratio, present=True, voltage=math.nan)
        message.header.stamp = seconds_to_time(at_s)
        batteries.publish(message)

    played.tick(100.0)
    tell(0.2, 100.0)
    stage.until(lambda: 'battery_ratio' in played.node._battery.sample(100.0))
    played.tick(101.0)
    stage.until(lambda: looks and looks[-1].battery_ratio == pytest.approx(0.2))
    played.tick(50.0)
    played.tick(51.0)
    stage.until(lambda: math.isnan(looks[-1].battery_ratio))
    tell(0.9, 51.0)
    stage.until(lambda: 'battery_ratio' in played.node._battery.sample(51.0))
    played.tick(52.0)
    stage.until(lambda: looks[-1].battery_ratio == pytest.approx(0.9))
