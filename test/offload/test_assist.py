# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from crowdhmt_ros.errors import CodecError, OffloadError
from crowdhmt_ros.offload.assist import HOLD_OFF_S, RemotePart
from crowdhmt_ros.offload.channel import Lease, Reply
from crowdhmt_ros.offload.codec import decode, decode_image
from crowdhmt_ros.types import Segment, TensorSpec

FEATURES = TensorSpec('features', 'float32', (1, 6))
LOGITS = TensorSpec('logits', 'float32', (1, 2))
TAIL = Segment('wide/tail', '1' * 64, '', (FEATURES,), (LOGITS,), 5000)
ANSWER = np.array([[1.0, 3.0]], np.float32)


class Pending:
    def __init__(self, reply):
        self.reply, self.cancelled = reply, False
        self.waits = []

    def wait(self, timeout_s):
        self.waits.append(timeout_s)
        return self.reply

    def cancel(self):
        self.cancelled = True


class Channel:
    robot_id = 'drone'
    kind = 'zeromq'

    def __init__(self):
        self.calls, self.released, self.refusal = [], [], None
        self.reply = Reply(ANSWER.tobytes(), 0.001, 0.002, 0.010)

    def submit(self, call):
        if self.refusal is not None:
            raise self.refusal
        self.calls.append(call)
        self.pending = Pending(self.reply)
        return self.pending

    def release(self, lease):
        self.released.append(lease.lease_id)


@pytest.fixture
def channel():
    return Channel()


def part_of(channel, codec='raw'):
    return RemotePart(channel, Lease('lease1', (TAIL.segment_id,), 30.0), TAIL, codec)


def crossing(value=0.5):
    return np.full(FEATURES.shape, value, np.float32)


def test_a_call_names_lease_segment_and_the_time_that_is_left(channel):
    part_of(channel).ask([crossing()], 0.15)
    call, = channel.calls
    assert (call.lease_id, call.segment_id, call.segment_sha256) == (
        'lease1', TAIL.segment_id, TAIL.sha256)
    assert 0.1 < call.budget_s <= 0.15
    assert decode('raw', call.payload, TAIL.inputs)[0].tolist() == crossing().tolist()


def test_an_answer_comes_with_what_the_crossing_has_cost(channel):
    asked = part_of(channel).ask([crossing()], 0.15)
    outputs, cost = asked.wait(0.1)
    assert outputs[0].tolist() == ANSWER.tolist()
    assert (cost.robot_id, cost.remote_queue_s, cost.remote_infer_s) == ('drone', 0.001, 0.002)
    assert cost.link_s == pytest.approx(0.007)
    assert (cost.sent_bytes, cost.received_bytes) == (24, 8)
    assert cost.encode_s >= 0.0


def test_a_moment_that_has_passed_only_looks(channel):
    channel.reply = None
    asked = part_of(channel).ask([crossing()], 0.15)
    assert asked.wait(-3.0) is None
    assert channel.pending.waits == [0.0]
    asked.cancel()
    assert channel.pending.cancelled


def test_images_are_sent_as_pictures(channel):
    part = part_of(channel, 'jpeg')
    assert part.takes_image
    image = np.full((8, 6, 3), 120, np.uint8)
    part.ask([image], 0.15)
    assert abs(int(decode_image(channel.calls[0].payload, 8, 6).mean()) - 120) <= 1


def test_without_time_nobody_is_asked(channel):
    with pytest.raises(OffloadError, match='no time is left to ask drone'):
        part_of(channel).ask([crossing()], HOLD_OFF_S)
    assert channel.calls == []


@pytest.mark.parametrize('value', [np.nan, np.inf])
def test_what_no_codec_can_carry_is_an_offload_error(channel, value):
    with pytest.raises(OffloadError):
        part_of(channel, 'int8').ask([crossing(value)], 0.15)


@pytest.mark.parametrize('payload', [b'', b'abc', np.full((1, 2), np.nan, np.float32).tobytes()])
def test_an_answer_of_another_form_is_an_offload_error(channel, payload):
    channel.reply = Reply(payload, 0.0, 0.0, 0.01)
    with pytest.raises(CodecError):
        part_of(channel).ask([crossing()], 0.15).wait(0.1)


def test_the_lease_is_given_back_once(channel):
    part = part_of(channel)
    part.release()
    part.release()
    assert channel.released == ['lease1']


def test_it_is_lost_with_a_channel_that_was_taken_down(channel):
    part = part_of(channel)
    assert not part.lost
    channel.closed = True
    assert part.lost
