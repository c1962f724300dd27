# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
import time
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='ROS 2 is not installed')
pytest.importorskip('crowdhmt_ros.msg', reason='the messages are not built: pip install -e .')
from std_msgs.msg import Header  # noqa: E402

from crowdhmt_ros.nodes.obstacle_watch import ObstacleWatch  # noqa: E402
from crowdhmt_ros.nodes.params import CameraInferenceParameters  # noqa: E402
from crowdhmt_ros.types import Inference  # noqa: E402
from crowdhmt_ros.vision.frame import SCENES, Frame  # noqa: E402

pytestmark = pytest.mark.ros
LABELS = ('pedestrian', 'bicycle', 'car', 'building')


class Told(list):
    """A publisher that keeps what it is given."""

    publish = list.append


@pytest.fixture
def watch():
    told = Told()
    node = SimpleNamespace(create_publisher=lambda kind, name, qos: told,
                           destroy_publisher=lambda publisher: told.append('down'))
    return ObstacleWatch(node, LABELS, CameraInferenceParameters()), told


def frame(stamp_ns, **given):
    return Frame(image=np.zeros((8, 8, 3), np.uint8), stamp_ns=stamp_ns, frame_id='front',
                 received_s=time.monotonic() - 0.02, domain=SCENES, **given)


def answer(*scores):
    return Inference(candidate_id='w', plan_seq=7, scores=scores, exit_index=0,
                     preprocess_s=0.0, infer_s=0.0)


def test_the_event_belongs_to_its_frame_and_says_how_long_it_took(watch):
    watched, told = watch
    watched.look(frame(3_000_000_005), answer(0.1, 0.8, 0.0, 0.1))
    (event,) = told
    assert (event.near, event.label, event.plan_seq) == (True, 'bicycle', 7)
    assert (event.header.stamp.sec, event.header.stamp.nanosec) == (3, 5)
    assert event.header.frame_id == 'front'
    assert event.score == pytest.approx(0.9)
    assert 0.02 <= event.capture_to_event_s < 1.0
    assert np.isnan(event.area_ratio)


def test_the_header_of_a_camera_driver_stays_untouched(watch):
    watched, told = watch
    header = Header(frame_id='optical')
    watched.look(frame(1, message_header=header), answer(0.9, 0.0, 0.0, 0.1))
    assert told[0].header == header


def test_the_answer_is_published_before_the_event(watch):
    watched, told = watch
    publish = watched.after(lambda *given: told.append('answer'))
    publish(frame(1), answer(0.9, 0.0, 0.0, 0.1), 0.0)
    assert told[0] == 'answer'
    assert told[1].near


def test_two_free_frames_are_told_once(watch):
    watched, told = watch
    for scores in ((0.9, 0.0, 0.0, 0.1), *[(0.0, 0.0, 0.0, 1.0)] * 4):
        watched.look(frame(1), answer(*scores))
    assert [event.near for event in told] == [True, False]
