# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Publishes what was measured: closed windows once a second, news of peers at once."""
from __future__ import annotations

from dataclasses import replace
from typing import Callable, Tuple

from rclpy.node import Node

from crowdhmt_ros.msg import Feedback as Message
from crowdhmt_ros.nodes import topics
from crowdhmt_ros.nodes.convert import feedback_to_msg
from crowdhmt_ros.nodes.feedback_window import FeedbackWindow, WindowReport
from crowdhmt_ros.nodes.qos import incompatible_subscriber, profile_of
from crowdhmt_ros.types import Feedback, PeerStatus

LATE_WINDOW_S = 5.0


class FeedbackTopic:
    """
    The `feedback` of one node.

    :param node: owner of the publisher
    :param window: what closes
    :param robot_id: of this robot
    :param boot_id: of this robot, '' until it is known
    :param peers: what the channels know of peers now
    :param report: told when a subscriber's QoS does not fit
    """

    def __init__(self, node: Node, window: FeedbackWindow, *, robot_id: str,
                 boot_id: Callable[[], str], peers: Callable[[], Tuple[PeerStatus, ...]],
                 report: Callable[[str], None]) -> None:
        self._node = node
        self._window = window
        self._robot_id = robot_id
        self._boot_id = boot_id
        self._peers = peers
        self._clock_missed = False
        qos = profile_of(topics.FEEDBACK.profile)
        self.publisher = node.create_publisher(
            Message, topics.FEEDBACK.name, qos,
            event_callbacks=incompatible_subscriber(report, topics.FEEDBACK.name, qos))

    @property
    def heard(self) -> bool:
        """Whether anyone subscribes it."""
        return self.publisher.get_subscription_count() > 0

    def publish(self) -> None:
        """Publish all closed windows; without one, what is known of peers if there are any."""
        now_s = self._node.get_clock().now().nanoseconds / 1e9
        reports = self._window.flush(now_s)
        for report in reports:
            self._send(report)
        if not reports and self._peers():
            self.tell_peers()

    def tell_peers(self) -> None:
        """Publish what is known of peers, without frames."""
        now_s = self._node.get_clock().now().nanoseconds / 1e9
        self._send(WindowReport(Feedback(0, '', now_s, 0.0), ()))

    def overdue(self, *, sim_time: bool) -> bool:
        """Tell whether windows have grown old: without /clock the timer never fires."""
        if self._window.age_s <= LATE_WINDOW_S:
            return False
        if sim_time and not self._clock_missed:
            self._clock_missed = True
            self._node.get_logger().warning(
                'use_sim_time is set and /clock is missing or slow: feedback goes out every '
                f'{LATE_WINDOW_S:g} s, its stamps stand still; publish /clock')
        return True

    def _send(self, report: WindowReport) -> None:
        self.publisher.publish(feedback_to_msg(
            replace(report.feedback, peers=self._peers()),
            answered_stamps_ns=report.answered_stamps_ns, robot_id=self._robot_id,
            boot_id=self._boot_id()))
