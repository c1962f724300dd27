# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
A small diagnostic updater: tasks that say how they are, published on `/diagnostics`.

It takes the parameters of the package diagnostic_updater (`diagnostic_updater.period`,
`diagnostic_updater.use_fqn`), which exists for ROS distributions only.
"""
from __future__ import annotations

from dataclasses import dataclass, field
from typing import Callable, Dict, List, Mapping

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rcl_interfaces.msg import FloatingPointRange, ParameterDescriptor
from rclpy.clock import Clock, ClockType
from rclpy.node import Node

from crowdhmt_ros.nodes import topics
from crowdhmt_ros.nodes.qos import profile_of

OK, WARN, ERROR, STALE = (DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR,
                          DiagnosticStatus.STALE)


@dataclass(frozen=True)
class Health:
    """
    How one thing is.

    :param level: `OK`, `WARN`, `ERROR` or `STALE`
    :param message: one line
    :param values: further figures by name
    """

    level: bytes = OK
    message: str = 'ok'
    values: Mapping[str, object] = field(default_factory=dict)


class Diagnostics:
    """Publishes the health of one node at 1 Hz on the wall clock, paused simulations included."""

    def __init__(self, node: Node, *, hardware_id: str) -> None:
        self._node = node
        self._hardware_id = hardware_id
        self._tasks: Dict[str, Callable[[], Health]] = {}
        period_s = node.declare_parameter(
            'diagnostic_updater.period', 1.0, ParameterDescriptor(
                description='time between two diagnostics, s', read_only=True,
                floating_point_range=[FloatingPointRange(from_value=0.05, to_value=3600.0)])).value
        full = node.declare_parameter(
            'diagnostic_updater.use_fqn', False, ParameterDescriptor(
                description='put the namespace before the node name', read_only=True)).value
        self._prefix = node.get_fully_qualified_name() if full else node.get_name()
        self._publisher = node.create_publisher(
            DiagnosticArray, topics.DIAGNOSTICS.name, profile_of(topics.DIAGNOSTICS.profile))
        self._timer = node.create_timer(
            period_s, self.publish, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def add(self, name: str, task: Callable[[], Health]) -> None:
        """Add a task under the name 'node: NAME'."""
        self._tasks[name] = task

    def publish(self) -> None:
        """Ask every task and publish now."""
        message = DiagnosticArray(status=[self._status(n, t()) for n, t in self._tasks.items()])
        message.header.stamp = self._node.get_clock().now().to_msg()
        self._publisher.publish(message)

    def _status(self, name: str, health: Health) -> DiagnosticStatus:
        values: List[KeyValue] = [KeyValue(key=key, value=_text(value))
                                  for key, value in health.values.items()]
        return DiagnosticStatus(
            level=health.level, name=f'{self._prefix}: {name}', message=health.message,
            hardware_id=self._hardware_id, values=values)


def _text(value: object) -> str:
    return f'{value:.6g}' if isinstance(value, float) else str(value)
