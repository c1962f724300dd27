# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A camera that a drone helps with, over real sockets: both nodes in this process."""
import time
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip('rclpy')
pytest.importorskip('zmq')
from rclpy.parameter import Parameter
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from crowdhmt_ros.msg import Feedback, InferenceResult, Plan
from crowdhmt_ros.nodes import topics
from crowdhmt_ros.nodes.answers import image_message
from crowdhmt_ros.nodes.camera_inference import SUCCESS, CameraInferenceNode
from crowdhmt_ros.nodes.convert import candidate_to_msg, ns_to_time, snapshot_to_msg, stamps_ns
from crowdhmt_ros.nodes.offload_server import OffloadServerNode
from crowdhmt_ros.offload.trust import throw_away
from crowdhmt_ros.types import (
    MEASURED,
    Candidate,
    Placement,
    Reading,
    ResourceSnapshot,
    SegmentPlacement,
)

TINY = str(Path(__file__).resolve().parents[1] / 'bundle' / 'data' / 'tiny')


class Pair:
    """A vehicle with a camera, a drone that serves, and plans by hand."""

    def __init__(self, stage, folder):
        self.stage = stage
        keys = throw_away(folder, ('robot', 'drone'))
        self.drone_keys = str(keys['drone'])
        self.drone = self.serve('d1')
        self.camera = stage.add(CameraInferenceNode, bundle=TINY, keys_dir=str(keys['robot']),
                                channel='zeromq')
        self.results = stage.collect(topics.RESULT, InferenceResult)
        self.feedback = stage.collect(topics.FEEDBACK, Feedback)
        self.sent = []
        self.seq = 0
        wide = self.camera.room.bundle.candidates()[0]
        self.fallback = self.camera.room.fallback
        self.helped = Candidate(wide.variant_id, wide.variant, Placement((SegmentPlacement(
            'whole', wide.placement.segments[0].segment_id, 'drone', 'jpeg'),)), wide.engine)

    def serve(self, boot_id):
        node = OffloadServerNode(namespace='/drone', parameter_overrides=[
            Parameter('bundle', value=TINY), Parameter('keys_dir', value=self.drone_keys)])
        self.stage.nodes.append(node)
        self.stage.executor.add_node(node)
        node.start()
        node._on_resources(snapshot_to_msg(ResourceSnapshot(
            1.0, robot_id='drone', boot_id=boot_id, battery_ratio=Reading(0.9, MEASURED, 0.0),
            memory_available_bytes=Reading(5e8, MEASURED, 0.0))))
        return node

    @property
    def leases(self):
        return self.drone.serving.server.health().leases

    def until_reachable(self):
        self.stage.until(lambda: self.camera.peers is not None and any(
            peer.link_round_trip_s is not None for peer in self.camera.peers.links.status()))

    def plan(self, candidate):
        self.seq += 1
        message = Plan(plan_seq=self.seq, bundle_sha256=self.camera.room.bundle.sha256)
        message.choice = candidate_to_msg(candidate)
        if candidate.placement.peers:
            message.choice.fallback_id = self.fallback.candidate_id
        message.requirements.latency_budget_s = 1.0
        self.camera._on_plan(message)

    def until_in_force(self, candidate):
        self.stage.until(
            lambda: self.camera.room.executor.active.candidate.candidate_id
            == candidate.candidate_id)

    def frame(self):
        """Have one frame answered and return the answer."""
        before = self.camera.answers.published
        stamp_ns = time.time_ns()
        message = image_message(np.full((48, 64, 3), 90, np.uint8), Header())
        message.header.stamp = ns_to_time(stamp_ns)
        self.sent.append(stamp_ns)
        seen = len(self.results)
        self.images.publish(message)
        self.stage.until(lambda: self.camera.answers.published > before
                         and len(self.results) > seen)
        return self.results[-1]

    def listen(self):
        self.images = self.stage.publisher(topics.IMAGE_RAW, Image)
        self.stage.until(lambda: self.images.get_subscription_count() > 0
                         and self.stage.peer.count_publishers(topics.RESULT.name) > 0)
        self.stage.spin(0.3)


@pytest.fixture
def pair(stage, tmp_path):
    made = Pair(stage, tmp_path)
    made.listen()
    made.until_reachable()
    return made


def test_a_peer_answers_and_when_it_goes_the_fallback_does_and_every_frame_is_told(pair):
    assert pair.frame().placement == 'local'
    pair.plan(pair.helped)
    pair.until_in_force(pair.helped)
    helped = pair.frame()
    assert (helped.variant_id, helped.placement, helped.degraded) == ('wide', 'drone', False)
    assert helped.offload_s > 0.0
    assert pair.leases == 1
    pair.drone.trigger_deactivate()
    alone = pair.frame()
    assert (alone.variant_id, alone.placement, alone.degraded) == ('narrow', 'local', True)
    assert alone.plan_seq == helped.plan_seq
    pair.plan(pair.fallback)
    home = pair.frame()
    assert (home.degraded, np.isnan(home.offload_s)) == (False, True)
    pair.stage.until(lambda: sum(len(f.capture_to_result_s) for f in pair.feedback) == 4)
    told = [s for f in pair.feedback for s in stamps_ns(f.answered_stamps)]
    assert sorted(told) == pair.sent
    assert sum(f.degraded for f in pair.feedback) == 1


def test_an_open_lease_goes_back_with_cleanup_and_comes_again_after_it(pair):
    pair.plan(pair.helped)
    pair.until_in_force(pair.helped)
    assert pair.camera.trigger_deactivate() == SUCCESS
    assert pair.camera.trigger_cleanup() == SUCCESS
    pair.stage.until(lambda: pair.leases == 0)
    assert pair.camera.trigger_configure() == SUCCESS
    assert pair.camera.trigger_activate() == SUCCESS
    pair.listen()
    pair.until_reachable()
    assert pair.frame().placement == 'local'
    pair.plan(pair.helped)
    pair.until_in_force(pair.helped)
    assert pair.frame().placement == 'drone'
    assert pair.leases == 1


def test_a_camera_that_ends_while_a_peer_is_asked_ends_at_once(pair):
    with pair.drone.serving.server._granting:  # it is asked, and does not answer
        pair.plan(pair.helped)
        pair.stage.spin(0.2)
        assert pair.camera.room.switcher.preparing
        started_s = time.monotonic()
        pair.camera.close()
        assert time.monotonic() - started_s < 2.0
    assert pair.camera.room is None


def test_after_its_peer_restarted_the_same_plan_leases_anew(pair):
    pair.plan(pair.helped)
    pair.until_in_force(pair.helped)
    assert not pair.frame().degraded
    pair.drone.close()
    pair.drone = pair.serve('d2')
    pair.stage.until(lambda: any(
        peer.boot_id == 'd2' and peer.link_round_trip_s is not None
        for peer in pair.camera.peers.links.status()))

    def helps_again():
        pair.plan(pair.helped)
        pair.stage.spin(0.1)
        return not pair.frame().degraded

    pair.stage.until(helps_again)
    assert pair.leases == 1
