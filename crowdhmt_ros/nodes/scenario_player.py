# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Plays a scenario of the built-in campus for one robot: battery, allotted memory, requirements.

The battery drains by the scenario's base load and by the energy that the camera's feedback
estimates, so that a plan that saves energy shows.
"""
from __future__ import annotations

import math
from typing import Any, Optional

from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from sensor_msgs.msg import BatteryState
from std_msgs.msg import UInt64

from crowdhmt_ros.campus.player import ScenarioPlayer, WorldState
from crowdhmt_ros.errors import ConfigError, ScenarioError
from crowdhmt_ros.msg import Feedback, Plan, Requirements
from crowdhmt_ros.nodes import log_bridge, topics
from crowdhmt_ros.nodes.calls import PatientCall
from crowdhmt_ros.nodes.declare import declare
from crowdhmt_ros.nodes.diagnostics import WARN, Diagnostics, Health
from crowdhmt_ros.nodes.frame_sources import scenario_of
from crowdhmt_ros.nodes.params import ScenarioPlayerParameters
from crowdhmt_ros.nodes.process import main_of
from crowdhmt_ros.nodes.qos import profile_of
from crowdhmt_ros.nodes.scalars import NAN, ns_to_time
from crowdhmt_ros.srv import SetRequirements

NOMINAL_V = 14.8
"""Four lithium cells; the scenario counts energy, a battery message wants a voltage."""
POLL_S = 0.1
PATIENCE_TRIES = 3
"""Unanswered tries of set_requirements before it is said."""


class ScenarioPlayerNode(Node):
    """Publishes what the world of a scenario does to the robot."""

    def __init__(self, **options: Any) -> None:
        super().__init__('scenario_player', **options)
        log_bridge.attach(self)
        self.finished = False
        self.parameters = declare(self, ScenarioPlayerParameters)
        self.player = ScenarioPlayer(self._scenario())
        self.start_ns: Optional[int] = None
        self._energy_j = 0.0
        self._phase = ''
        self._allotted: Optional[int] = None
        self._ended = False
        self._create_topics()
        self._calls = PatientCall(
            self.create_client(SetRequirements, topics.SET_REQUIREMENTS.name), self._on_answer,
            timeout_s=self.parameters.call_timeout_s)
        self.diagnostics = Diagnostics(self, hardware_id='campus')
        self.diagnostics.add('scenario', self._health)
        self.create_timer(1.0 / self.parameters.rate_hz, self._play)
        self.create_timer(POLL_S, self._poll, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def start(self) -> None:
        """Tell the world before the start, so that the first plan knows it."""
        self._play()

    def close(self) -> None:
        """Do nothing: there is nothing to flush."""

    def _scenario(self) -> Any:
        try:
            return scenario_of(self.parameters.scenario, self.parameters.seconds)
        except ScenarioError as error:
            raise ConfigError(f'scenario: {error}') from error

    def _create_topics(self) -> None:
        self._battery = self.create_publisher(
            BatteryState, topics.BATTERY_STATE.name,
            profile_of(topics.offered_by(topics.BATTERY_STATE, self.get_name())
                       or topics.SENSOR))
        self._allotment = self.create_publisher(
            UInt64, topics.MEMORY_ALLOTMENT.name, profile_of(topics.MEMORY_ALLOTMENT.profile))
        start = topics.SCENARIO_START
        self._starts = self.create_publisher(type(ns_to_time(0)), start.name,
                                             profile_of(start.profile))
        self.create_subscription(Feedback, topics.FEEDBACK.name, self._on_feedback,
                                 profile_of(topics.FEEDBACK.profile))
        self._plans = self.create_subscription(Plan, topics.PLAN.name, self._on_plan,
                                               profile_of(topics.PLAN.profile))

    # Callbacks

    def _play(self) -> None:
        """Publish this moment's world."""
        if self.start_ns is None and not self.parameters.wait_for_plan:
            self._announce()
        t_s = self.time_s()
        world = self.player.at(t_s, self._energy_j)
        self._publish(world)
        if self.player.finished(t_s) and not self._ended:
            self._ended = True
            self.get_logger().info(f'scenario {self.player.scenario.name} has ended, battery '
                                   f'{world.battery_ratio:.3f}')
            self.finished = self.parameters.exit_at_end

    def _poll(self) -> None:
        self._calls.poll()

    def _on_plan(self, message: Plan) -> None:
        if self.start_ns is None and not self._calls.waiting:
            self._announce()

    def _on_feedback(self, message: Feedback) -> None:
        if self.start_ns is not None and not math.isnan(message.energy_j):
            self._energy_j += message.energy_j

    def _on_answer(self, request: SetRequirements.Request,
                   response: SetRequirements.Response) -> None:
        if not response.accepted:
            self.get_logger().error(f'requirements were refused: {response.message}')
        elif response.message:
            self.get_logger().info(response.message)

    # The world

    def time_s(self) -> float:
        """Seconds since the start of the scenario, 0 before it."""
        if self.start_ns is None:
            return 0.0
        return max(0.0, (self.get_clock().now().nanoseconds - self.start_ns) / 1e9)

    def _announce(self) -> None:
        now_ns = self.get_clock().now().nanoseconds
        self.start_ns = now_ns + int(self.parameters.start_delay_s * 1e9)
        self._starts.publish(ns_to_time(self.start_ns))
        self.get_logger().info(f'scenario {self.player.scenario.name} starts, '
                               f'{self.player.scenario.duration_s:g} s')

    def _publish(self, world: WorldState) -> None:
        battery = BatteryState(
            voltage=NOMINAL_V, current=NAN, charge=NAN, capacity=self._capacity_ah(),
            design_capacity=NAN, temperature=NAN, percentage=world.battery_ratio, present=True,
            power_supply_status=BatteryState.POWER_SUPPLY_STATUS_DISCHARGING)
        battery.header.stamp = self.get_clock().now().to_msg()
        self._battery.publish(battery)
        if world.memory_allotted_bytes != self._allotted:
            self._allotted = world.memory_allotted_bytes
            self._allotment.publish(UInt64(data=world.memory_allotted_bytes))
        if world.phase != self._phase:
            self._phase = world.phase
            self._ask(world)

    def _capacity_ah(self) -> float:
        return self.player.scenario.capacity_j / 3600.0 / NOMINAL_V

    def _ask(self, world: WorldState) -> None:
        self.get_logger().info(f'{world.phase}: latency budget {world.latency_budget_s:g} s, '
                               f'accuracy floor {world.accuracy_floor:g}')
        self._calls.ask(SetRequirements.Request(requirements=Requirements(
            latency_budget_s=world.latency_budget_s, accuracy_floor=world.accuracy_floor,
            memory_budget_bytes=NAN, accuracy_weight=NAN)))

    def _health(self) -> Health:
        values = {'phase': self._phase, 'time_s': self.time_s(), 'energy_j': self._energy_j}
        if self._calls.tries > PATIENCE_TRIES and self._calls.waiting:
            return Health(WARN, 'set_requirements is not answered', values)
        if self.start_ns is None:
            return Health(message='waiting for the first plan', values=values)
        return Health(message='ended' if self._ended else 'playing', values=values)


def main() -> int:
    """Run this node alone."""
    return main_of('scenario_player')
