# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
From an inference to messages.

This runs for every frame, so nothing is built twice: one result message is kept and refilled,
texts are looked up, sequences are arrays.
"""
from __future__ import annotations

import array
import time
from typing import Any, Callable, Dict, Mapping, Optional, Sequence, Tuple

import numpy as np
from builtin_interfaces.msg import Time
from rclpy.node import Node
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from crowdhmt_ros.bundle.reader import Bundle
from crowdhmt_ros.msg import InferenceResult, LabelInfo
from crowdhmt_ros.nodes import topics
from crowdhmt_ros.nodes.feedback_window import FeedbackWindow
from crowdhmt_ros.nodes.frame_age import FrameAges
from crowdhmt_ros.nodes.qos import incompatible_subscriber, profile_of
from crowdhmt_ros.nodes.scalars import NAN, number
from crowdhmt_ros.types import Candidate, Inference
from crowdhmt_ros.vision.frame import Frame
from crowdhmt_ros.vision.overlay import draw

try:
    from vision_msgs.msg import Classification, ObjectHypothesis
except ImportError:  # ROS without vision_msgs, for example by pip
    Classification = None

NS_IN_S = 1000000000


class AnswerPublisher:
    """
    Publishes the answer of each frame and notes it for the feedback.

    :param node: owner of the publishers
    :param labels: class names in order of the scores
    :param known: candidate_id -> candidate
    :param ages: age and period of frames
    :param window: takes what was measured
    :param boot_id: of this robot, '' until the first plan has told it
    :param luminance: mean brightness of the frame just answered
    """

    def __init__(self, node: Node, labels: Sequence[str], *, known: Mapping[str, Candidate],
                 ages: FrameAges, window: FeedbackWindow, boot_id: Callable[[], str],
                 luminance: Callable[[], Optional[float]],
                 report: Callable[[str], None]) -> None:
        self._labels = tuple(labels)
        self._known = known
        self.ages = ages
        self._window = window
        self._luminance = luminance
        self._boot_id = boot_id
        self._clock = node.get_clock()
        self._names: Dict[str, Tuple[str, str]] = {}
        self._message = InferenceResult(offload_s=NAN)
        self._scores = self._message.scores
        self._header = Header()
        self._lasting: Tuple[Any, ...] = ()
        qos = profile_of(topics.RESULT.profile)
        self._results = node.create_publisher(
            InferenceResult, topics.RESULT.name, qos,
            event_callbacks=incompatible_subscriber(report, topics.RESULT.name, qos))
        self._pictures = node.create_publisher(
            Image, topics.IMAGE_ANNOTATED.name, profile_of(topics.IMAGE_ANNOTATED.profile))
        self._classifications = None if Classification is None else node.create_publisher(
            Classification, topics.CLASSIFICATION.name,
            profile_of(topics.CLASSIFICATION.profile))
        self._stayed = True
        self.published = 0

    @property
    def heard(self) -> bool:
        """Whether anyone subscribes the results."""
        return self._results.get_subscription_count() > 0

    def destroy(self, node: Node) -> None:
        """Take the publishers down."""
        for publisher in (self._results, self._pictures, self._classifications):
            if publisher is not None:
                node.destroy_publisher(publisher)

    def publish(self, frame: Frame, inference: Inference, queue_s: float) -> None:
        """
        Publish one answer.

        :param frame: as it was answered
        :param inference: the answer
        :param queue_s: wait for the worker
        """
        message = self._fill(frame, inference, queue_s)
        self._results.publish(message)
        self.published += 1
        done_s = time.monotonic()
        # Without a played clock the node's clock is this one, at a fraction of the cost.
        now_ns = self._clock.now().nanoseconds if self.ages.sim_time else time.time_ns()
        age_s = self.ages.age_s(frame.stamp_ns, now_ns)
        self._window.answered(
            inference, stamp_ns=frame.stamp_ns, capture_to_result_s=done_s - frame.received_s,
            queue_s=queue_s, late=self.ages.is_late(age_s), domain=frame.domain,
            luminance=self._luminance())

    def publish_extras(self, frame: Frame) -> None:
        """Publish the other forms of the answer that was published last, to this frame."""
        if self._classifications is not None:
            self._classifications.publish(self._classification(self._message))
        if self._pictures.get_subscription_count():
            self._pictures.publish(annotated(frame, self._message))

    def _fill(self, frame: Frame, inference: Inference, queue_s: float) -> InferenceResult:
        message, scores = self._message, inference.scores
        lasting = (inference.fallback_id or inference.candidate_id, inference.plan_seq,
                   inference.exit_index, inference.degraded, self._boot_id())
        if lasting != self._lasting:
            self._fill_lasting(lasting)
        message.header = frame.message_header or refilled(self._header, frame)
        message.score = score = max(scores)
        message.label = self._labels[scores.index(score)]
        self._scores[:] = array.array('d', scores)
        message.queue_s = queue_s
        message.infer_s = inference.infer_s
        if inference.offload_s is not None or not self._stayed:
            self._stayed = inference.offload_s is None
            message.offload_s = number(inference.offload_s)
        message.capture_to_result_s = time.monotonic() - frame.received_s
        return message

    def _fill_lasting(self, lasting: Tuple[Any, ...]) -> None:
        """Fill in what is the same from frame to frame until another plan or exit answers."""
        message = self._message
        candidate_id, message.plan_seq, message.exit_index = lasting[:3]
        message.degraded, message.boot_id = lasting[3:]
        message.variant_id, message.placement = self._name(candidate_id)
        self._lasting = lasting

    def _name(self, candidate_id: str) -> Tuple[str, str]:
        found = self._names.get(candidate_id)
        if found is None:
            candidate = self._known[candidate_id]
            found = self._names[candidate_id] = (candidate.variant_id, candidate.placement.label)
        return found

    def _classification(self, message: InferenceResult) -> Any:
        return Classification(header=message.header, results=[
            ObjectHypothesis(class_id=label, score=score)
            for label, score in zip(self._labels, message.scores)])


def label_info(bundle: Bundle, stamp: Time) -> LabelInfo:
    """Return the class names behind the scores."""
    return LabelInfo(header=Header(stamp=stamp), bundle_name=bundle.manifest.name,
                     bundle_sha256=bundle.sha256, task=bundle.manifest.task,
                     labels=list(bundle.classes))


def refilled(header: Header, frame: Frame) -> Header:
    """Return the header after it took the stamp and name of a frame of our own source."""
    stamp = header.stamp
    stamp.sec, stamp.nanosec = divmod(frame.stamp_ns, NS_IN_S)
    header.frame_id = frame.frame_id
    return header


def annotated(frame: Frame, message: InferenceResult) -> Image:
    """Return the frame with its answer drawn in."""
    lines = (f'{message.variant_id} {message.placement}', f'plan {message.plan_seq}')
    image = draw(frame.image, message.label, message.score, lines, truth=frame.truth)
    return image_message(image, message.header)


def image_message(image: np.ndarray, header: Header) -> Image:
    """
    Return an image message.

    :param image: (H, W, 3) uint8 blue-green-red, or (H, W) uint8 grey
    """
    content = np.ascontiguousarray(image)
    data = array.array('B')
    data.frombytes(memoryview(content).cast('B'))
    height, width = content.shape[:2]
    channels = 1 if content.ndim == 2 else content.shape[2]
    return Image(header=header, height=height, width=width, step=width * channels, data=data,
                 encoding='mono8' if channels == 1 else 'bgr8')
