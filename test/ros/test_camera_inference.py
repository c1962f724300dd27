# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
import array
import shutil
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip('rclpy')
from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.msg import State, Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rclpy.parameter import Parameter
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from crowdhmt_ros.bundle.reader import SHIPPED, open_bundle
from crowdhmt_ros.errors import BackendError
from crowdhmt_ros.msg import Feedback, InferenceResult, LabelInfo, Plan
from crowdhmt_ros.nodes import topics
from crowdhmt_ros.nodes.answers import image_message
from crowdhmt_ros.nodes.camera_inference import CameraInferenceNode
from crowdhmt_ros.nodes.convert import candidate_to_msg, ns_to_time, stamps_ns, time_to_ns

PICTURE = np.random.default_rng(3).integers(0, 255, (48, 64, 3)).astype(np.uint8)


def picture(stamp_ns, image=PICTURE):
    message = image_message(image, Header())
    message.header.stamp = ns_to_time(stamp_ns)
    message.header.frame_id = 'front'
    return message


def plan_for(node, candidate, plan_seq, boot_id='b'):
    message = Plan(plan_seq=plan_seq, bundle_sha256=node.room.bundle.sha256, boot_id=boot_id)
    message.choice = candidate_to_msg(candidate)
    message.choice.energy_j = 0.002
    return message


def health(found, name):
    states = [s for array_ in found for s in array_.status if s.name.endswith(name)]
    return states[-1] if states else None


@pytest.fixture
def camera(stage):
    """A camera on topics, and functions to feed it and to see its answers."""
    stage.camera = stage.add(CameraInferenceNode)
    stage.images = stage.publisher(topics.IMAGE_RAW, Image)
    stage.results = stage.collect(topics.RESULT, InferenceResult)
    stage.feedback = stage.collect(topics.FEEDBACK, Feedback)
    stage.plans = stage.publisher(topics.PLAN, Plan)
    stage.until(lambda: stage.images.get_subscription_count() > 0
                and stage.plans.get_subscription_count() > 0
                and stage.peer.count_publishers(topics.RESULT.name) > 0)
    stage.spin(0.3)
    return stage


def test_a_frame_is_answered_with_its_own_header(camera):
    labels = camera.collect(topics.LABEL_INFO, LabelInfo, depth=1)
    sent = picture(time.time_ns())
    camera.images.publish(sent)
    camera.until(lambda: camera.results and labels)
    result = camera.results[0]
    assert result.header == sent.header
    assert result.label in labels[0].labels
    assert sum(result.scores) == pytest.approx(1.0)
    assert result.score == max(result.scores)
    assert result.plan_seq == 0
    assert not result.degraded
    assert result.capture_to_result_s > result.infer_s > 0.0
    assert result.boot_id == ''
    camera.plans.publish(plan_for(camera.camera, camera.camera.room.fallback, 1, boot_id='b1'))
    camera.until(lambda: camera.camera.figures.boot_id == 'b1')
    camera.images.publish(picture(time.time_ns()))
    camera.until(lambda: len(camera.results) == 2)
    assert camera.results[1].boot_id == 'b1'


@pytest.mark.parametrize(('change', 'said'), [
    ({'step': 5}, 'step is 5'), ({'data': array.array('B')}, 'data'),
    ({'encoding': '32FC1'}, 'encoding')])
def test_a_bad_image_gets_one_line_and_costs_no_other_frame(camera, change, said):
    found = camera.collect(topics.DIAGNOSTICS, DiagnosticArray)
    bad = picture(1)
    for name, value in change.items():
        setattr(bad, name, value)
    camera.images.publish(bad)
    camera.until(lambda: camera.camera._images.bad == 1)
    camera.images.publish(picture(time.time_ns()))
    camera.until(lambda: camera.results)
    assert len(camera.results) == 1
    assert said in camera.camera._images.problem
    assert '\n' not in camera.camera._images.problem
    camera.camera.diagnostics.publish()
    camera.until(lambda: health(found, 'frames') is not None
                 and said in health(found, 'frames').message)


@pytest.mark.parametrize(('encoding', 'image'), [
    ('rgb8', PICTURE), ('mono8', PICTURE[:, :, 0]), ('bgr8', PICTURE)])
def test_encodings_and_padded_rows_are_taken(camera, encoding, image):
    message = picture(time.time_ns())
    row_bytes = image.shape[1] * (1 if image.ndim == 2 else 3)
    rows = np.zeros((image.shape[0], row_bytes + 7), np.uint8)
    rows[:, :row_bytes] = image.reshape(image.shape[0], -1)
    message.encoding, message.step = encoding, rows.shape[1]
    message.data = array.array('B', rows.tobytes())
    camera.images.publish(message)
    camera.until(lambda: camera.results)


def test_compressed_frames_are_taken_but_not_beside_raw_ones_of_the_same_driver(camera):
    compressed = camera.publisher(topics.IMAGE_COMPRESSED, CompressedImage)
    camera.until(lambda: compressed.get_subscription_count() > 0)
    jpeg = CompressedImage(format='jpeg',
                           data=array.array('B', cv2.imencode('.jpg', PICTURE)[1].tobytes()))
    jpeg.header.stamp = ns_to_time(5)
    compressed.publish(jpeg)
    camera.until(lambda: camera.results)
    camera.images.publish(picture(6))
    camera.spin(0.3)
    assert [time_to_ns(r.header.stamp) for r in camera.results] == [5]


def test_switching_plans_loses_no_frame(camera):
    node = camera.camera
    candidates = node.room.bundle.candidates(threads=(1,))[::2]
    came, offer = [], node.server.offer

    def note_and_offer(frame):  # the topic is best effort: what counts is what came in
        came.append(frame.stamp_ns)
        offer(frame)

    node.server.offer = note_and_offer
    for number in range(60):
        if number % 10 == 0:
            candidate = candidates[number // 10 % len(candidates)]
            camera.plans.publish(plan_for(node, candidate, 1 + number // 10))
        camera.images.publish(picture(time.time_ns()))
        camera.spin(0.02)
    camera.until(lambda: node.server._slot._frame is None)
    camera.spin(0.3)
    node._on_window()
    camera.until(lambda: len(told(camera)) >= len(came))
    assert len(came) > 30
    answered = [time_to_ns(r.header.stamp) for r in camera.results]
    assert sorted(told(camera)) == came
    assert len(set(answered)) == len(answered)
    assert len({r.variant_id for r in camera.results}) > 1
    assert node.room.switcher.switches > 1


def told(stage):
    """Return each stamp that was answered or reported as superseded."""
    return [time_to_ns(r.header.stamp) for r in stage.results] + [
        stamp for f in stage.feedback for stamp in stamps_ns(f.superseded_stamps)]


def test_feedback_tells_what_ran_and_what_it_took(camera):
    node = camera.camera
    candidate = node.room.fallback
    camera.plans.publish(plan_for(node, candidate, 7))
    camera.until(lambda: node.room.executor.active.plan_seq == 7)
    stamps = [time.time_ns() + number for number in range(3)]
    for number, stamp in enumerate(stamps):
        camera.images.publish(picture(stamp))
        camera.until(lambda number=number: len(camera.results) == number + 1)
    camera.until(lambda: sum(len(f.answered_stamps) for f in camera.feedback) == 3)
    window = camera.feedback[-1]
    assert (window.plan_seq, window.candidate_id) == (7, candidate.candidate_id)
    assert window.boot_id == 'b'
    assert window.condition == 'photos'
    assert window.energy_j == pytest.approx(0.002 * len(window.answered_stamps))
    assert window.energy_source == 'estimated'
    assert 0.0 < window.luminance_ratio < 1.0


def test_a_candidate_that_cannot_be_compiled_is_told_and_not_compiled_with_every_plan(
        camera, monkeypatch):
    node, tries = camera.camera, []

    def full(segment, options):
        tries.append(segment)
        raise BackendError('disk full')

    monkeypatch.setattr(node.room.pool._backend, 'compile', full)
    other = next(c for c in node.room.bundle.candidates(threads=(1,))
                 if c.variant_id != node.room.fallback.variant_id)
    for number in (1, 2, 3):
        camera.plans.publish(plan_for(node, other, number))
        camera.until(lambda number=number: f'plan {number}:' in node.room.switcher.failure)
    camera.until(lambda: [f for f in camera.feedback if f.plan_seq == 3])
    window = camera.feedback[-1]
    assert (window.candidate_id, window.window_s) == (other.candidate_id, 0.0)
    assert len(tries) == 1
    assert node.room.executor.active.plan_seq == 0


def test_a_plan_for_another_bundle_is_refused_and_the_old_one_stays(camera):
    message = plan_for(camera.camera, camera.camera.room.fallback, 9)
    message.bundle_sha256 = 'f' * 64
    camera.plans.publish(message)
    camera.until(lambda: 'another bundle' in camera.camera.door.problem)
    assert camera.camera.room.executor.active.plan_seq == 0


@pytest.mark.parametrize(('field', 'text', 'said'), [
    ('engine_json', '{"threads": 1, "cores": [0, 1]}', 'cores'),
    ('engine_json', 'none', 'JSON'), ('variant_json', '{"stages": [[1]]}', 'TypeError')])
def test_a_plan_of_another_version_is_one_line_and_the_old_one_stays(camera, field, text, said):
    node = camera.camera
    message = plan_for(node, node.room.fallback, 5)
    message.choice.candidate_id = 'of/another/version'
    setattr(message.choice, field, text)
    camera.plans.publish(message)
    camera.until(lambda: 'plan 5 cannot be brought into force' in node.door.problem)
    for part in (said, 'of/another/version', 'the one before stays', 'one version of this'):
        assert part in node.door.problem
    assert '\n' not in node.door.problem
    assert node.room.executor.active.plan_seq == 0
    camera.images.publish(picture(time.time_ns()))
    camera.until(lambda: camera.results)
    camera.plans.publish(plan_for(node, node.room.fallback, 6))
    camera.until(lambda: node.room.executor.active.plan_seq == 6)
    assert node.door.problem == ''


def test_a_worker_that_dies_is_an_error_of_the_node_and_its_frame_is_told(camera, monkeypatch):
    monkeypatch.setattr('threading.excepthook', lambda args: None)
    found = camera.collect(topics.DIAGNOSTICS, DiagnosticArray)
    node = camera.camera
    node.destroy_publisher(node.answers._results)
    stamp = time.time_ns()
    camera.images.publish(picture(stamp))
    camera.until(lambda: health(found, 'frames') is not None
                 and health(found, 'frames').level == b'\x02')
    assert 'no frame is answered any more' in health(found, 'frames').message
    camera.until(lambda: told(camera) == [stamp])


def test_silence_is_reported_with_topic_publisher_and_both_qos(stage):
    node = stage.add(CameraInferenceNode, no_frame_warn_s=0.4)
    found = stage.collect(topics.DIAGNOSTICS, DiagnosticArray)
    stage.publisher(topics.IMAGE_RAW, Image)
    stage.until(lambda: '/robot/image_raw' in node._silent and '/robot/peer' in node._silent)
    assert 'asked for: best_effort, volatile' in node._silent
    assert '[sensor_msgs/msg/Image; reliable, volatile]' in node._silent
    node.diagnostics.publish()
    stage.until(lambda: 'no frame' in health(found, 'frames').message
                if health(found, 'frames') else False)


def test_a_failed_configure_can_be_tried_again(stage, tmp_path):
    broken = tmp_path / 'campus7'
    shutil.copytree(SHIPPED / 'campus7', broken)
    weights = broken / 'weights.bin'
    content = bytearray(weights.read_bytes())
    content[100] ^= 1
    weights.write_bytes(bytes(content))
    found = stage.collect(topics.DIAGNOSTICS, DiagnosticArray)
    stage.until(lambda: stage.peer.count_publishers('/diagnostics') == 0)
    node = stage.add(CameraInferenceNode, start=False, bundle=str(broken))
    node.start()
    assert state_of(stage) == State.PRIMARY_STATE_UNCONFIGURED
    stage.until(lambda: health(found, 'engine') is not None)
    assert health(found, 'engine').level == b'\x02'
    assert 'weights.bin' in health(found, 'engine').message
    assert node.set_parameters([Parameter('bundle', value='campus7')])[0].successful
    for transition in (Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE):
        request = ChangeState.Request()
        request.transition.id = transition
        assert stage.call(ChangeState, 'camera_inference/change_state', request).success
    assert state_of(stage) == State.PRIMARY_STATE_ACTIVE
    assert not node.set_parameters([Parameter('bundle', value='other')])[0].successful


def state_of(stage):
    return stage.call(GetState, 'camera_inference/get_state',
                      GetState.Request()).current_state.id


def test_a_node_that_was_cleaned_up_can_be_configured_and_answers_again(stage):
    node = stage.add(CameraInferenceNode)
    for step in (node.trigger_deactivate, node.trigger_cleanup, node.trigger_configure,
                 node.trigger_activate):
        step()
    assert state_of(stage) == State.PRIMARY_STATE_ACTIVE
    results = stage.collect(topics.RESULT, InferenceResult)
    images = stage.publisher(topics.IMAGE_RAW, Image)
    stage.until(lambda: images.get_subscription_count()
                and node.answers._results.get_subscription_count())
    images.publish(picture(time.time_ns()))
    stage.until(lambda: results)


@pytest.mark.parametrize('from_active', [True, False])
def test_a_shut_down_node_goes_on_saying_how_it_is(stage, from_active):
    found = stage.collect(topics.DIAGNOSTICS, DiagnosticArray)
    node = stage.add(CameraInferenceNode)
    if not from_active:
        node.trigger_deactivate()
    request = ChangeState.Request()
    request.transition.id = (Transition.TRANSITION_ACTIVE_SHUTDOWN if from_active
                             else Transition.TRANSITION_INACTIVE_SHUTDOWN)
    assert stage.call(ChangeState, 'camera_inference/change_state', request).success
    assert state_of(stage) == State.PRIMARY_STATE_FINALIZED
    found.clear()
    stage.until(lambda: health(found, 'engine') is not None)
    assert health(found, 'engine').message == 'not configured'
    assert health(found, 'frames').message == 'not active'


def test_without_autostart_a_lifecycle_manager_decides(stage):
    stage.add(CameraInferenceNode, autostart=False)
    assert state_of(stage) == State.PRIMARY_STATE_UNCONFIGURED


def test_a_clock_set_back_resets_ages_and_goes_on_answering(stage):
    clock = stage.peer.create_publisher(Clock, '/clock', 10)
    node = stage.add(CameraInferenceNode, use_sim_time=True)
    images = stage.publisher(topics.IMAGE_RAW, Image)
    results = stage.collect(topics.RESULT, InferenceResult)
    stage.until(lambda: images.get_subscription_count() and clock.get_subscription_count())
    stage.spin(0.3)
    for second in (100, 101, 50):
        clock.publish(Clock(clock=Time(sec=second)))
        stage.until(lambda s=second: node.get_clock().now().nanoseconds == s * 10**9)
        images.publish(picture(second * 10**9))
        stage.until(lambda s=second: results and results[-1].header.stamp.sec == s)
    assert node.ages.resets >= 1
    assert node.ages.period_s is None


def test_without_a_clock_windows_go_out_all_the_same_with_one_warning(stage, monkeypatch):
    monkeypatch.setattr('crowdhmt_ros.nodes.feedback_topic.LATE_WINDOW_S', 0.5)
    node = stage.add(CameraInferenceNode, use_sim_time=True)
    images = stage.publisher(topics.IMAGE_RAW, Image)
    feedback = stage.collect(topics.FEEDBACK, Feedback)
    stage.until(lambda: images.get_subscription_count()
                and node.feedback.heard)
    warned = []
    monkeypatch.setattr(node.get_logger(), 'warning', warned.append)
    for stamp in (1, 2):
        images.publish(picture(stamp * 10**9))
        stage.until(lambda s=stamp: len(feedback) >= s)
    assert node.window.age_s == 0.0
    assert len([text for text in warned if '/clock' in text]) == 1


def test_own_sources_are_read_and_every_frame_is_told_at_the_end(stage, tmp_path):
    log = tmp_path / 'frames.csv'
    results = stage.collect(topics.RESULT, InferenceResult)
    feedback = stage.collect(topics.FEEDBACK, Feedback)
    node = stage.add(CameraInferenceNode, source='campus', rate_hz=50.0, seconds=30.0,
                     start_timeout_s=0.6, source_log=str(log), backend_repeat=300)
    stage.until(lambda: len(results) >= 5 and any(f.superseded_stamps for f in feedback), 20.0)
    node.trigger_deactivate()
    stage.results, stage.feedback = results, feedback
    sent = [int(line.split(',')[0]) for line in log.read_text().splitlines()[1:]]
    stage.until(lambda: len(told(stage)) >= len(sent))
    assert sorted(told(stage)) == sorted(sent)
    assert {line.split(',')[2] for line in log.read_text().splitlines()[1:]} == {'noon'}


def test_a_wrong_scenario_fails_activate_with_one_line(stage):
    node = stage.add(CameraInferenceNode, source='campus', scenario='moon')
    assert "no scenario 'moon'" in node._problem
    assert state_of(stage) == State.PRIMARY_STATE_INACTIVE


def test_annotated_frames_come_only_while_someone_listens(camera):
    def one_more_frame():  # best effort: a single frame may go astray
        camera.images.publish(picture(time.time_ns()))
        camera.spin(0.1)

    while not camera.results:
        one_more_frame()
    pictures = camera.collect(topics.IMAGE_ANNOTATED, Image)
    camera.until(lambda: camera.camera.answers._pictures.get_subscription_count() > 0)
    deadline_s = time.monotonic() + 10.0
    while not pictures and time.monotonic() < deadline_s:
        one_more_frame()
    assert pictures[0].encoding == 'bgr8'
    assert pictures[0].header in [result.header for result in camera.results]


def test_the_shipped_bundle_is_there():
    assert Path(SHIPPED, 'campus7').is_dir()
    assert open_bundle('campus7').classes
