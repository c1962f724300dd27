# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""SENSE as a node: what this machine has, once a second and as soon as it changes sharply."""
from __future__ import annotations

import time
import uuid
from collections import deque
from dataclasses import replace
from typing import Any, Deque, Optional, Tuple

from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import BatteryState
from std_msgs.msg import Float32, UInt64

from crowdhmt_ros.msg import ResourceStatus
from crowdhmt_ros.nodes import log_bridge, topics
from crowdhmt_ros.nodes.convert import snapshot_to_msg
from crowdhmt_ros.nodes.declare import declare, on_change
from crowdhmt_ros.nodes.diagnostics import WARN, Diagnostics, Health
from crowdhmt_ros.nodes.frame_age import FrameAges
from crowdhmt_ros.nodes.own_processes import OwnProcesses
from crowdhmt_ros.nodes.params import ResourceMonitorParameters
from crowdhmt_ros.nodes.process import main_of
from crowdhmt_ros.nodes.qos import incompatible_publisher, profile_of
from crowdhmt_ros.nodes.scalars import time_to_ns
from crowdhmt_ros.nodes.serving import Throttle
from crowdhmt_ros.nodes.starting_over import on_starting_over
from crowdhmt_ros.resources.battery import BatteryReport
from crowdhmt_ros.resources.jetson import JetsonProbe
from crowdhmt_ros.resources.linux import LinuxProbe
from crowdhmt_ros.resources.monitor import ResourceMonitor, changed_sharply
from crowdhmt_ros.resources.told import ToldProbe
from crowdhmt_ros.types import REPLAYED, ResourceSnapshot

SHORTEST_S = 0.2
"""Between two publications, however sharp the changes: at most 5 Hz."""
WELCOMES = 3
"""One less publications follow when somebody new listens, who may know of us a little later."""
MEMORY = 'memory_available_bytes'
LONGEST_AHEAD_S = 0.5
"""A battery message so little ahead of a played clock waits for it."""
SIM_DEPTH = 10
"""With a played clock none may be lost while an older one waits."""


class ResourceMonitorNode(Node):
    """Samples this machine; battery and allotted memory come by topics."""

    def __init__(self, **options: Any) -> None:
        super().__init__('resource_monitor', **options)
        log_bridge.attach(self)
        self.finished = False
        self.parameters = declare(self, ResourceMonitorParameters)
        on_change(self, lambda: self.parameters, self._accept)
        self.robot_id = self.parameters.robot_id or self.get_namespace().strip('/')
        self.boot_id = uuid.uuid4().hex[:12]
        self._battery = ToldProbe(stale_after_s=self.parameters.battery_timeout_s)
        self._allotment = ToldProbe()
        self._ahead: Deque[Tuple[float, BatteryState]] = deque(maxlen=SIM_DEPTH)
        self._battery_problem = ''
        self._throttle = Throttle()
        self._ages = FrameAges(sim_time=bool(self.get_parameter('use_sim_time').value))
        self._last: Optional[ResourceSnapshot] = None
        self._published_s = -float('inf')
        self._monitor = self._make_monitor()
        self._memory_watch = LinuxProbe()
        self._publisher = self.create_publisher(
            ResourceStatus, topics.RESOURCES.name, profile_of(topics.RESOURCES.profile))
        self._listen()
        self.diagnostics = Diagnostics(self, hardware_id=self.robot_id or 'robot')
        self.diagnostics.add('battery', self._battery_health)
        self.diagnostics.add('sensors', self._sensor_health)
        # Behind the messages that are there when a timer fires.
        self._sampling = self.create_guard_condition(self._sample)
        self._looking = self.create_guard_condition(self._look)
        self._due = False
        self._listeners = self._welcomes = 0
        self.create_timer(1.0 / self.parameters.rate_hz, self._on_time)
        self.create_timer(SHORTEST_S, self._looking.trigger,
                          clock=Clock(clock_type=ClockType.STEADY_TIME))
        self._jump = on_starting_over(self, self._start_over)

    def start(self) -> None:
        """Do nothing: sampling starts with the timers."""

    def close(self) -> None:
        """Do nothing: there is nothing to flush."""

    def _make_monitor(self) -> ResourceMonitor:
        probes = [self._battery, self._allotment]
        if self.parameters.jetson == 'auto':
            probes.append(JetsonProbe())
        probes.append(LinuxProbe(OwnProcesses(self.get_namespace())))
        return ResourceMonitor(probes)

    def _listen(self) -> None:
        battery = profile_of(topics.BATTERY_STATE.profile,
                             depth=SIM_DEPTH if self._ages.sim_time else 0)
        self.create_subscription(
            BatteryState, topics.BATTERY_STATE.name, self._on_battery, battery,
            event_callbacks=incompatible_publisher(
                self.get_logger().warning, topics.BATTERY_STATE.name, battery),
            qos_overriding_options=QoSOverridingOptions.with_default_policies())
        self.create_subscription(
            UInt64, topics.MEMORY_ALLOTMENT.name, self._on_allotment,
            profile_of(topics.MEMORY_ALLOTMENT.profile))
        if self.parameters.cpu_load_topic:
            self.create_subscription(
                Float32, self.parameters.cpu_load_topic, self._on_cpu_load,
                profile_of(topics.SENSOR))

    # Callbacks

    def _on_time(self) -> None:
        self._due = True
        self._sampling.trigger()

    def _sample(self) -> None:
        if not self._due:
            return
        self._due = False
        self._take_batteries()
        self._publish(self._monitor.snapshot(self._now_s(), self.robot_id, self.boot_id))

    def _on_battery(self, message: BatteryState) -> None:
        self._ahead.append((self._taken_s(message), message))
        self._take_batteries()

    def _take_batteries(self) -> None:
        """Take what has come; a played clock may still have to reach a message's time."""
        while self._ahead:
            taken_s, message = self._ahead[0]
            if self._ages.sim_time and 0.0 < taken_s - self._now_s() <= LONGEST_AHEAD_S:
                return
            self._ahead.popleft()
            self._tell_battery(message, taken_s)

    def _tell_battery(self, message: BatteryState, taken_s: float) -> None:
        problems = self._battery.tell_battery(_report(message), taken_s)
        self._battery_problem = '; '.join(problems)
        if problems and self._throttle.ready():
            self.get_logger().warning(self._battery_problem)

    def _on_allotment(self, message: UInt64) -> None:
        self._allotment.tell('memory_allotted_bytes', float(message.data), self._now_s())
        self._look()

    def _on_cpu_load(self, message: Float32) -> None:
        self._allotment.tell('cpu_load_ratio', float(message.data), self._now_s(),
                             source=REPLAYED)

    def _start_over(self, now_s: float) -> None:
        """Forget the battery of a time yet to come; the next look is the timer's."""
        kept = [told for told in self._ahead if told[0] <= now_s + LONGEST_AHEAD_S]
        self._ahead.clear()
        self._ahead.extend(kept)
        self._battery.forget_after(now_s)
        self._last = None
        self._due = False

    def _look(self) -> None:
        """Publish before the second is over when what was told, or memory, changed sharply."""
        self._take_batteries()
        if self._last is None or time.monotonic() - self._published_s < SHORTEST_S:
            return
        if self._is_welcoming():
            self._on_time()
            return
        now_s = self._now_s()
        told = {**self._allotment.sample(now_s), **self._battery.sample(now_s)}
        available = self._memory_watch.sample(now_s).get(MEMORY)
        if available is not None:
            told[MEMORY] = available
        current = replace(self._last, stamp_s=now_s, **told)
        if changed_sharply(self._last, current):
            self._publish(current)

    def _is_welcoming(self) -> bool:
        """Whether somebody new listens: no peer is served before boot_id is known."""
        listeners = self._publisher.get_subscription_count()
        if listeners > self._listeners and not self._ages.sim_time:
            self._welcomes = WELCOMES
        self._listeners = listeners
        self._welcomes -= self._welcomes > 0
        return self._welcomes > 0

    def _publish(self, snapshot: ResourceSnapshot) -> None:
        self._last, self._published_s = snapshot, time.monotonic()
        self._publisher.publish(snapshot_to_msg(snapshot))

    def _accept(self, wanted: ResourceMonitorParameters) -> Optional[str]:
        self.parameters = wanted
        self._battery.stale_after_s = wanted.battery_timeout_s
        return None

    def _taken_s(self, message: BatteryState) -> float:
        """Return when a battery message was taken: its stamp where that can be believed."""
        now_ns = self.get_clock().now().nanoseconds
        stamp_ns = time_to_ns(message.header.stamp)
        if self._ages.sim_time:  # a recording's message may come before its own clock message
            return (stamp_ns or now_ns) / 1e9
        known = self._ages.age_s(stamp_ns, now_ns) is not None
        return (stamp_ns if known else now_ns) / 1e9

    def _now_s(self) -> float:
        return float(self.get_clock().now().nanoseconds / 1e9)

    # Words

    def _battery_health(self) -> Health:
        if self._battery_problem:
            return Health(WARN, self._battery_problem)
        ratio = self._last.battery_ratio if self._last is not None else None
        if ratio is None or ratio.value is None:
            topic = self.resolve_topic_name(topics.BATTERY_STATE.name)
            return Health(WARN, f'battery unknown: no usable message on {topic}')
        return Health(values={'battery_ratio': ratio.value, 'age_s': ratio.age_s})

    def _sensor_health(self) -> Health:
        problems = self._monitor.problems
        return Health(WARN, '; '.join(problems)) if problems else Health()


def _report(message: BatteryState) -> BatteryReport:
    return BatteryReport(
        percentage=message.percentage, voltage=message.voltage, current=message.current,
        charge=message.charge, capacity=message.capacity,
        design_capacity=message.design_capacity, present=bool(message.present),
        power_supply_status=int(message.power_supply_status))


def main() -> int:
    """Run this node alone."""
    return main_of('resource_monitor')
