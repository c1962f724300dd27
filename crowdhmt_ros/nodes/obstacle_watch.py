# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Tells once when a pedestrian, bicycle or car fills enough of the view, and once when it is gone.

The models say what the picture shows, not where; what counts as near is in `near_rule`.
"""
from __future__ import annotations

import time
from typing import Any, Callable, Optional, Protocol, Sequence, Tuple

from rclpy.node import Node

from crowdhmt_ros.msg import ObstacleNear
from crowdhmt_ros.nodes import topics
from crowdhmt_ros.nodes.near_rule import Change, NearRule
from crowdhmt_ros.nodes.qos import profile_of
from crowdhmt_ros.nodes.scalars import NAN, ns_to_time
from crowdhmt_ros.nodes.serving import Answer
from crowdhmt_ros.types import Inference
from crowdhmt_ros.vision.frame import Frame


class ObstacleParameters(Protocol):
    """The parameters of camera_inference that the watch takes."""

    obstacle_labels: Tuple[str, ...]
    obstacle_score: float
    obstacle_free_score: float
    obstacle_free_frames: int


class ObstacleWatch:
    """
    Publishes `obstacle_near` for a camera node.

    :param node: publishes
    :param labels: classes of the model, in the order of its scores
    :param parameters: what counts as near
    :param sink: gets each message as well, for tests
    """

    def __init__(self, node: Node, labels: Sequence[str], parameters: ObstacleParameters, *,
                 sink: Optional[Callable[[Any], None]] = None) -> None:
        self.rule = NearRule(
            labels, watched=parameters.obstacle_labels, score=parameters.obstacle_score,
            free_score=parameters.obstacle_free_score,
            free_frames=parameters.obstacle_free_frames)
        self._sink = sink
        self._publisher = node.create_publisher(
            ObstacleNear, topics.OBSTACLE_NEAR.name, profile_of(topics.OBSTACLE_NEAR.profile))

    def after(self, publish: Answer) -> Answer:
        """Return what publishes an answer and then looks at it."""
        def both(frame: Frame, inference: Inference, queue_s: float) -> None:
            publish(frame, inference, queue_s)
            self.look(frame, inference)

        return both

    def look(self, frame: Frame, inference: Inference) -> None:
        """
        Take one published answer.

        :param frame: as it was answered
        :param inference: the answer
        """
        change = self.rule.look(inference.scores)
        if change is not None:
            self._publish(frame, inference, change)

    def _publish(self, frame: Frame, inference: Inference, change: Change) -> None:
        message = ObstacleNear(near=change.near, label=change.label, score=change.score,
                               area_ratio=NAN, plan_seq=inference.plan_seq)
        if frame.message_header is not None:
            message.header = frame.message_header
        else:
            message.header.stamp = ns_to_time(frame.stamp_ns)
            message.header.frame_id = frame.frame_id
        message.capture_to_event_s = time.monotonic() - frame.received_s
        self._publisher.publish(message)
        if self._sink is not None:
            self._sink(message)

    def destroy(self, node: Node) -> None:
        """Take the publisher down."""
        node.destroy_publisher(self._publisher)
