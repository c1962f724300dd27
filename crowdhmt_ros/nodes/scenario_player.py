# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Plays a scenario of the built-in campus for one robot: battery, allotted memory, requirements.

The battery drains by the scenario's base load and by the energy that the camera's feedback
estimates, so that a plan that saves energy shows.
"""
from __future__ import annotations

import math
from typing import Any, Optional, Set

from builtin_interfaces.msg import Time
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
from crowdhmt_ros.nodes.scalars import NAN, ns_to_time, time_to_ns
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
        self._planless: Set[str] = {'', *(
            name.strip('/') for name in self.parameters.wait_for_robots)}
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
            return scenario_of(self.parameters.scenario, self.parameters.seconds,
                               self.parameters.view)
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
        self._starts = self.create_publisher(Time, start.name, profile_of(start.profile))
        self.create_subscription(Feedback, topics.FEEDBACK.name, self._on_feedback,
                                 profile_of(topics.FEEDBACK.profile))
        self._plans = [self._listen_for_plan(name) for name in sorted(self._planless)]
        if self.parameters.start_of:
            self._followed = self.create_subscription(
                Time, of_robot(self.parameters.start_of, start), self._on_start,
                profile_of(start.profile))

    def _listen_for_plan(self, robot: str) -> Any:
        """Subscribe the plans of one robot; '' is this one."""

        def on_plan(message: Plan) -> None:
            if robot or not self._calls.waiting:  # our own must know what the world asks
                self._planless.discard(robot)
            self._start_when_ready()

        return self.create_subscription(Plan, of_robot(robot, topics.PLAN), on_plan,
                                        profile_of(topics.PLAN.profile))

    # Callbacks

    def _play(self) -> None:
        """Publish this moment's world."""
        if not self.parameters.wait_for_plan and not self.parameters.start_of:
            self._announce_once()
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

    def _start_when_ready(self) -> None:
        if not (self._planless or self.parameters.start_of):
            self._announce_once()

    def _on_start(self, message: Time) -> None:
        """Start with the robot that leads, at the same moment of the common clock."""
        self._start_at(time_to_ns(message))

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

    def _announce_once(self) -> None:
        if self.start_ns is None:
            now_ns = self.get_clock().now().nanoseconds
            self._start_at(now_ns + int(self.parameters.start_delay_s * 1e9))

    def _start_at(self, start_ns: int) -> None:
        if self.start_ns == start_ns:
            return
        self.start_ns = start_ns
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

    def _awaited(self) -> str:
        if self.parameters.start_of:
            return f'the start of {self.parameters.start_of}'
        others = ', '.join(sorted(name for name in self._planless if name))
        return 'the first plan' + (f' here and of {others}' if others else '')

    def _health(self) -> Health:
        values = {'phase': self._phase, 'time_s': self.time_s(), 'energy_j': self._energy_j}
        if self._calls.tries > PATIENCE_TRIES and self._calls.waiting:
            return Health(WARN, 'set_requirements is not answered', values)
        if self.start_ns is None:
            return Health(message=f'waiting for {self._awaited()}', values=values)
        return Health(message='ended' if self._ended else 'playing', values=values)


def of_robot(robot: str, topic: topics.Topic) -> str:
    """Return the name of a topic of another robot; '' is this one."""
    return f'/{robot.strip("/")}/{topic.name}' if robot.strip('/') else topic.name


def main() -> int:
    """Run this node alone."""
    return main_of('scenario_player')
