# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Writes what a robot says to a file of JSON lines: a witness apart from the robot's own nodes."""
from __future__ import annotations

import contextlib
import json
from typing import Any, Callable, Optional, TextIO

from rclpy.node import Node

from crowdhmt_ros.errors import ConfigError
from crowdhmt_ros.msg import Feedback, InferenceResult, ObstacleNear, Plan, ResourceStatus
from crowdhmt_ros.nodes import log_bridge, topics
from crowdhmt_ros.nodes.convert import to_plain
from crowdhmt_ros.nodes.declare import declare
from crowdhmt_ros.nodes.params import RecorderParameters
from crowdhmt_ros.nodes.process import main_of
from crowdhmt_ros.nodes.qos import profile_of

DEPTH = 1000
"""A slow disk must not make the witness miss a message."""


class RecorderNode(Node):
    """
    Subscribes `result`, `feedback`, `plan`, `resources`, `obstacle_near`; one line a message.

    A line: {"topic": name, "received_ns": node clock, "message": {...}}, NaN as null.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__('recorder', **options)
        log_bridge.attach(self)
        self.finished = False
        self._file = self._open(declare(self, RecorderParameters).out)
        recorded = ((topics.RESULT, InferenceResult), (topics.FEEDBACK, Feedback),
                    (topics.PLAN, Plan), (topics.RESOURCES, ResourceStatus),
                    (topics.OBSTACLE_NEAR, ObstacleNear))
        for topic, kind in recorded:
            self.create_subscription(kind, topic.name, self._writer(topic.name),
                                     profile_of(topic.profile, depth=DEPTH))

    def start(self) -> None:
        """Do nothing: recording starts with the subscriptions."""

    def close(self) -> None:
        """Write what is still held back."""
        if self._file is not None:
            try:
                self._file.close()
            except OSError as error:
                self._give_up(error)
        self._file = None

    def _open(self, path: str) -> TextIO:
        if not path:
            raise ConfigError('out is empty, name the file to write: -p out:=run.jsonl')
        try:
            return open(path, 'w', encoding='ascii', buffering=1)
        except OSError as error:
            raise ConfigError(
                f'out is {path!r}, it cannot be written: {error.strerror}') from error

    def _writer(self, topic: str) -> Callable[[Any], None]:

        def write(message: Any) -> None:
            if self._file is None:
                return
            line = {'topic': topic, 'received_ns': self.get_clock().now().nanoseconds,
                    'message': to_plain(message)}
            try:
                self._file.write(json.dumps(line, separators=(',', ':')) + '\n')
            except OSError as error:
                self._give_up(error)

        return write

    def _give_up(self, error: OSError) -> None:
        """Say once that nothing more is written; the robot goes on without its witness."""
        self.get_logger().error(
            f'recording stopped, the file cannot be written: {error.strerror}; free some space '
            'and start the recorder again')
        held: Optional[TextIO] = self._file
        self._file = None
        if held is not None:
            with contextlib.suppress(OSError):  # said above
                held.close()


def main() -> int:
    """Run this node alone."""
    return main_of('recorder')
