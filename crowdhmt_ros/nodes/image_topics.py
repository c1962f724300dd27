# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Frames from anyone's camera driver: `image_raw` and `image_raw/compressed`."""
from __future__ import annotations

import time
from typing import Any, Callable, List, Optional, Tuple

from rclpy.node import Node
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import CompressedImage, Image

from crowdhmt_ros.errors import FrameError
from crowdhmt_ros.nodes import topics
from crowdhmt_ros.nodes.qos import (
    incompatible_publisher,
    profile_of,
    publishers_in_words,
    words,
)
from crowdhmt_ros.nodes.scalars import time_to_ns
from crowdhmt_ros.nodes.serving import Throttle
from crowdhmt_ros.vision.frame import PHOTOS, Frame
from crowdhmt_ros.vision.image_codec import decode_compressed, decode_raw

OTHER_TOPIC_S = 2.0
"""A driver often publishes both topics: the other one counts only after such a silence."""


class ImageTopics:
    """
    Subscribes both image topics and hands on each good frame.

    :param node: owner of the subscriptions
    :param emit: takes each frame
    :param reduced_to: (height, width) that a JPEG needs at least, None decodes in full
    :param report: is told about incompatible publishers
    """

    def __init__(self, node: Node, emit: Callable[[Frame], None], *,
                 reduced_to: Optional[Tuple[int, int]], report: Callable[[str], None]) -> None:
        self._node = node
        self._emit = emit
        self._reduced_to = reduced_to
        self._report = report
        self._subscriptions: List[Any] = []
        self._in_use, self._last_s = '', -float('inf')
        self._throttle = Throttle()
        self.bad = 0
        self.problem = ''

    def open(self) -> None:
        """Start listening."""
        self._subscribe(topics.IMAGE_RAW, Image, self._on_raw)
        self._subscribe(topics.IMAGE_COMPRESSED, CompressedImage, self._on_compressed)

    def close(self) -> None:
        """Stop listening."""
        while self._subscriptions:
            self._node.destroy_subscription(self._subscriptions.pop())

    def in_words(self) -> str:
        """Say which topics are listened to, who publishes them, and both sides' QoS."""
        said = []
        for subscription in self._subscriptions:
            name = subscription.topic_name
            found = publishers_in_words(self._node, name)
            said.append(f'{name} (asked for: {words(subscription.qos_profile)}; published by: '
                        f'{", ".join(found) or "nobody"})')
        return '; '.join(said)

    def _subscribe(self, topic: topics.Topic, kind: type, callback: Callable[[Any], None]) -> None:
        qos = profile_of(topic.profile)
        self._subscriptions.append(self._node.create_subscription(
            kind, topic.name, callback, qos,
            event_callbacks=incompatible_publisher(self._report, topic.name, qos),
            qos_overriding_options=QoSOverridingOptions.with_default_policies()))

    def _on_raw(self, message: Image) -> None:
        if self._accepts(topics.IMAGE_RAW.name):
            self._take(message, lambda: decode_raw(
                message.height, message.width, message.encoding, message.step,
                bool(message.is_bigendian), message.data))

    def _on_compressed(self, message: CompressedImage) -> None:
        if self._accepts(topics.IMAGE_COMPRESSED.name):
            self._take(message, lambda: decode_compressed(
                message.data, reduced_to=self._reduced_to))

    def _accepts(self, topic: str) -> bool:
        return self._in_use == topic or time.monotonic() - self._last_s >= OTHER_TOPIC_S

    def _take(self, message: Any, decode: Callable[[], Any]) -> None:
        try:
            image = decode()
        except FrameError as error:
            self._count_bad(error)
            return
        now_s = time.monotonic()
        self._in_use = (topics.IMAGE_RAW if isinstance(message, Image)
                        else topics.IMAGE_COMPRESSED).name
        self._last_s = now_s
        self._emit(Frame(image, time_to_ns(message.header.stamp), message.header.frame_id,
                         now_s, PHOTOS, message_header=message.header))

    def _count_bad(self, error: FrameError) -> None:
        self.bad += 1
        self.problem = str(error)
        if self._throttle.ready():
            self._node.get_logger().warning(f'image left out ({self.bad} so far): {error}')
