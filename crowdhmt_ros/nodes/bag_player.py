# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Plays a recorded bag into the robot's topics, at its own pace or one frame an answer.

Raw bytes are published as they were recorded. With `clock` the recording's time is /clock:
before the first message it runs up to the recording's start, so that the nodes can make a
first plan; with `loops` it jumps back.
"""
from __future__ import annotations

import importlib
import math
import threading
import time
from typing import Any, Callable, Dict, Optional

from rclpy.node import Node
from rclpy.serialization import deserialize_message, serialize_message
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import BatteryState

from crowdhmt_ros.errors import ConfigError, CrowdHMTError, SourceError
from crowdhmt_ros.msg import InferenceResult, Plan
from crowdhmt_ros.nodes import log_bridge, topics
from crowdhmt_ros.nodes.bag_file import (
    BATTERY_TYPE,
    IMAGE_TYPES,
    Bag,
    BagMessage,
    Rescale,
    header_stamp_ns,
    open_bag,
    rescale_for,
    restamped,
)
from crowdhmt_ros.nodes.declare import declare
from crowdhmt_ros.nodes.params import BagPlayerParameters
from crowdhmt_ros.nodes.process import main_of
from crowdhmt_ros.nodes.qos import profile_of
from crowdhmt_ros.nodes.scalars import ns_to_time, time_to_ns
from crowdhmt_ros.nodes.serving import SourceLog

TICK_S = 0.01
NO_PLANNER_S = 3.0
LINGER_S = 0.5
SETTLE_START_S = 0.5
"""Others that record need to find each other, too."""
LONGEST_LEAD_S = 1.25
"""In lockstep the recording's time runs at most so far ahead of the last plan."""
PLAN_TIMEOUT_S = 1.0
PLAN_TIMEOUTS = 3
"""So many plans missing in a row, and they are waited for no more."""
BATTERY_AGAIN_S = 0.2
"""Before the start the first battery message is repeated for those who come late."""
SETTLE_S = 0.02
"""A battery message gets this long to arrive before the clock reaches its time."""
EXIT_FAILED = 2
DEPTH = 50
NS = 1000000000


def message_class(type_name: str) -> Optional[Any]:
    """Return the Python class of 'package/msg/Type', None where it is not installed."""
    package, _, name = type_name.split('/')
    try:
        return getattr(importlib.import_module(f'{package}.msg'), name)
    except (ImportError, AttributeError):
        return None


def battery_of(data: bytes) -> BatteryState:
    """
    Return a recorded battery message.

    :raises SourceError: it cannot be read
    """
    try:
        return deserialize_message(data, BatteryState)
    except Exception as error:  # what the middleware raises differs
        raise SourceError('the recording is damaged: a battery message cannot be read '
                          f'({error})') from error


class BagPlayerNode(Node):
    """Publishes a recording; a thread of its own keeps the pace."""

    def __init__(self, **options: Any) -> None:
        super().__init__('bag_player', **options)
        log_bridge.attach(self)
        self.finished = False
        self.exit_code = 0
        self.parameters = declare(self, BagPlayerParameters)
        self.sent = 0
        self.unanswered = 0
        self._answered = threading.Condition()
        self._answer_ns = -1
        self._planned = False
        self._plan_ns = 0
        self._missed_plans = 0
        self._stopping = threading.Event()
        self._roles: Dict[str, Callable[[BagMessage], None]] = {}
        self._others: Dict[str, Any] = {}
        self._rescale: Optional[Rescale] = None
        self._images: Optional[Any] = None
        self._first_battery: Optional[BagMessage] = None
        self._playing = False
        duration_s = self.parameters.duration_s
        self._duration_s = math.inf if math.isnan(duration_s) else duration_s
        with open_bag(self.parameters.bag) as bag:
            self._assign(bag)
            self._start_ns = bag.start_ns
        source_log = self.parameters.source_log
        self._source_log = SourceLog(source_log) if source_log else None
        self._clock = self.create_publisher(
            Clock, topics.CLOCK.name, profile_of(topics.CLOCK.profile)) \
            if self.parameters.clock else None
        self.create_subscription(InferenceResult, topics.RESULT.name, self._on_result,
                                 profile_of(topics.RESULT.profile, depth=DEPTH))
        self.create_subscription(Plan, topics.PLAN.name, self._on_plan,
                                 profile_of(topics.PLAN.profile))
        self._thread = threading.Thread(target=self._run, name='bag', daemon=True)

    def start(self) -> None:
        """Start playing."""
        self._thread.start()

    def close(self) -> None:
        """Stop playing."""
        self._stopping.set()
        with self._answered:
            self._answered.notify_all()
        if self._thread.is_alive():
            self._thread.join(1.0)
        if self._source_log is not None:
            self._source_log.close()

    # Which topic plays which role

    def _assign(self, bag: Bag) -> None:
        wanted = self.parameters
        image = bag.the_topic(wanted.image_topic, IMAGE_TYPES, parameter='image_topic')
        compressed = bag.types[image] == IMAGE_TYPES[1]
        role = topics.IMAGE_COMPRESSED if compressed else topics.IMAGE_RAW
        self._images = self._publisher(bag.types[image], role)
        self._roles[image] = self._play_image
        battery = bag.the_topic(wanted.battery_topic, (BATTERY_TYPE,),
                                parameter='battery_topic', needed=bool(wanted.battery_rescale))
        if battery:
            self._batteries = self._publisher(BATTERY_TYPE, topics.BATTERY_STATE)
            self._roles[battery] = self._play_battery
            self._look_at_battery(bag, battery)
        for name in wanted.other_topics:
            if name:
                self._assign_other(bag, name)

    def _publisher(self, type_name: str, role: topics.Topic) -> Any:
        offered = topics.offered_by(role, 'bag_player') or role.profile
        return self.create_publisher(message_class(type_name), role.name,
                                     profile_of(offered, depth=DEPTH))

    def _look_at_battery(self, bag: Bag, topic: str) -> None:
        recorded = list(bag.messages([topic], duration_s=self._duration_s))
        self._first_battery = recorded[0] if recorded else None
        if self.parameters.battery_rescale:
            ratios = (battery_of(m.data).percentage for m in recorded)
            self._rescale = rescale_for(self.parameters.battery_rescale,
                                        [ratio for ratio in ratios if math.isfinite(ratio)])

    def _assign_other(self, bag: Bag, name: str) -> None:
        if name not in bag.types:
            raise ConfigError(f'other_topics names {name!r}, the bag {bag.path} holds '
                              f'{bag.topics_in_words()}')
        kind = message_class(bag.types[name])
        if kind is None:
            raise ConfigError(f'other_topics names {name!r} of type {bag.types[name]}, which is '
                              'not installed here: install its package or leave the topic out')
        self._others[name] = self.create_publisher(
            kind, name.lstrip('/'), profile_of(topics.RESULT.profile, depth=DEPTH))
        self._roles[name] = lambda message: self._others[name].publish(message.data)

    # Callbacks

    def _on_result(self, message: InferenceResult) -> None:
        with self._answered:
            self._answer_ns = time_to_ns(message.header.stamp)
            self._answered.notify_all()

    def _on_plan(self, message: Plan) -> None:
        with self._answered:
            self._planned = True
            self._plan_ns = time_to_ns(message.header.stamp)
            self._answered.notify_all()

    # The thread

    def _run(self) -> None:
        failed = True
        try:
            self._play()
            failed = False
            if not self._stopping.is_set():
                self.get_logger().info(f'the bag has ended: {self.sent} frames sent, '
                                       f'{self.unanswered} of them not answered in time')
        except CrowdHMTError as error:
            self.get_logger().error(f'{error}; {self.sent} frames were sent before')
        finally:  # a defect of ours ends the process, too
            failed = failed and not self._stopping.is_set()
            self.exit_code = EXIT_FAILED if failed else 0
            self.finished = failed or self.parameters.exit_at_end

    def _play(self) -> None:
        self._wait_until_ready()
        self._stopping.wait(SETTLE_START_S)
        if self._first_battery is not None:
            self._play_battery(self._first_battery)
            self._stopping.wait(BATTERY_AGAIN_S)
        self._playing = True
        for _ in range(self.parameters.loops):
            self._play_once()
        self._stopping.wait(LINGER_S)

    def _wait_until_ready(self) -> None:
        """Wait for who listens, and for a first plan where a planner runs."""
        began_s = time.monotonic()
        limit_s = self.parameters.wait_s
        next_battery_s = 0.0
        while not self._stopping.is_set() and not self._ready(time.monotonic() - began_s):
            waited_s = time.monotonic() - began_s
            if waited_s >= limit_s:
                self.get_logger().warning(self._missing(limit_s))
                return
            # The time before the recording, so that 1 Hz timers fire and a plan can be made.
            self._tick(self._start_ns - int((limit_s + 1.0 - waited_s) * NS))
            if waited_s >= next_battery_s and self._first_battery is not None:
                next_battery_s = waited_s + BATTERY_AGAIN_S
                self._play_battery(self._first_battery)
            self._stopping.wait(TICK_S)

    def _ready(self, waited_s: float) -> bool:
        if not self._images.get_subscription_count():
            return False
        if self.parameters.pace == 'lockstep' and not self.count_publishers(topics.RESULT.name):
            return False
        if not self.parameters.wait_for_plan or self._planned:
            return True
        return waited_s >= NO_PLANNER_S and not self.count_publishers(topics.PLAN.name)

    def _missing(self, limit_s: float) -> str:
        listeners = self._images.get_subscription_count()
        what = 'there is no plan yet' if listeners else (
            f'nobody listens to {self.resolve_topic_name(self._images.topic_name)}')
        return f'{what} after {limit_s:g} s, playing all the same'

    def _play_once(self) -> None:
        lockstep = self.parameters.pace == 'lockstep'
        self._tick(self._start_ns)
        with self._answered:
            self._plan_ns = min(self._plan_ns, self._start_ns)  # plans of a time played before
        self._stopping.wait(SETTLE_S)
        began_s = time.monotonic()
        with open_bag(self.parameters.bag) as bag:
            for message in bag.messages(list(self._roles), duration_s=self._duration_s):
                if lockstep:
                    self._await_plan(message.time_ns)
                else:
                    self._keep_pace(message.time_ns, began_s)
                if self._stopping.is_set():
                    return
                self._roles[message.topic](message)

    def _keep_pace(self, time_ns: int, began_s: float) -> None:
        rate = self.parameters.rate
        due_s = began_s + (time_ns - self._start_ns) / NS / rate
        while not self._stopping.is_set():
            left_s = due_s - time.monotonic()
            if left_s <= 0.0:
                return
            self._tick(time_ns - int(left_s * rate * NS))
            self._stopping.wait(min(TICK_S, left_s))

    def _await_plan(self, time_ns: int) -> None:
        """Let the planner keep up, so that each plan sees what was recorded last."""
        if self._clock is None or not self._planned or self._missed_plans >= PLAN_TIMEOUTS:
            return
        due_ns = time_ns - int(LONGEST_LEAD_S * NS)
        with self._answered:
            came = self._answered.wait_for(
                lambda: self._plan_ns >= due_ns or self._stopping.is_set(), PLAN_TIMEOUT_S)
        self._missed_plans = 0 if came else self._missed_plans + 1

    def _tick(self, time_ns: int) -> None:
        if self._clock is not None:
            self._clock.publish(Clock(clock=ns_to_time(max(0, time_ns))))

    def _play_image(self, message: BagMessage) -> None:
        data = message.data
        self._tick(max(message.time_ns, header_stamp_ns(data)))
        if self.parameters.restamp:
            data = restamped(data, self.get_clock().now().nanoseconds)
        self._answer_ns = -1
        stamp_ns = header_stamp_ns(data)
        if self._source_log is not None:
            self._source_log.note(stamp_ns)
        self._images.publish(data)
        self.sent += 1
        if self.parameters.pace == 'lockstep':
            self._await_answer(stamp_ns)

    def _play_battery(self, message: BagMessage) -> None:
        data = message.data
        if self.parameters.restamp:
            data = restamped(data, self.get_clock().now().nanoseconds)
        if self._rescale is not None:
            battery = battery_of(data)
            if math.isfinite(battery.percentage):
                battery.percentage = self._rescale(battery.percentage)
            data = serialize_message(battery)
        self._batteries.publish(data)
        if self._playing and self._clock is not None:
            self._stopping.wait(SETTLE_S)
            self._tick(message.time_ns)

    def _await_answer(self, stamp_ns: int) -> None:
        with self._answered:
            answered = self._answered.wait_for(
                lambda: self._answer_ns == stamp_ns or self._stopping.is_set(),
                self.parameters.answer_timeout_s)
        if not answered:
            self.unanswered += 1
            self.get_logger().warning(
                f'frame {stamp_ns} was not answered within {self.parameters.answer_timeout_s:g} '
                's, going on with the next')


def main() -> int:
    """Run this node alone."""
    return main_of('bag_player')
