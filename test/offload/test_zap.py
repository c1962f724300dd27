# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
import pytest
from zmq.utils import z85

from crowdhmt_ros.errors import TrustError
from crowdhmt_ros.offload import zap

KEY = bytes(range(32))
QUESTION = [b'1.0', b'7', b'crowdhmt', b'10.0.0.9', b'', b'CURVE', KEY]


def trusting(key):
    return 'vehicle' if key == z85.encode(KEY) else None


def test_a_trusted_key_goes_with_every_message_of_its_connection():
    told = []
    assert zap.answer(QUESTION, trusting, told.append) == [
        b'1.0', b'7', b'200', b'OK', z85.encode(KEY), b'']
    assert told == []


@pytest.mark.parametrize(('changed', 'said'), [
    ({6: b'x' * 32}, '10.0.0.9: its key is not trusted here'),
    ({6: b'short'}, 'it does not use CURVE'),
    ({5: b'PLAIN'}, 'it does not use CURVE'),
    ({5: b'NULL', 3: b'\xff'}, 'it does not use CURVE')])
def test_everybody_else_is_refused_with_a_reason(changed, said):
    told = []
    question = [changed.get(i, part) for i, part in enumerate(QUESTION)]
    assert zap.answer(question, trusting, told.append)[2:4] == [b'400', b'not trusted']
    assert said in told[0]


def test_a_trust_store_that_cannot_be_read_lets_nobody_in():
    told = []

    def broken(key):
        raise TrustError('vehicle.pub is open to other users')

    assert zap.answer(QUESTION, broken, told.append)[2] == b'400'
    assert 'open to other users' in told[0]


@pytest.mark.parametrize('question', [[], [b'1.0'], [b'2.0', *QUESTION[1:]]])
def test_what_is_no_question_has_no_answer(question):
    assert zap.answer(question, trusting, print) is None
