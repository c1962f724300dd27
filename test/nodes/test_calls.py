# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
import pytest

pytest.importorskip('rclpy')
from crowdhmt_ros.nodes.calls import PatientCall

pytestmark = pytest.mark.ros


class Future:

    def __init__(self):
        self.value = None

    def done(self):
        return self.value is not None

    def result(self):
        return self.value


class Client:
    ready = True

    def __init__(self):
        self.sent, self.removed = [], []

    def service_is_ready(self):
        return self.ready

    def call_async(self, request):
        self.sent.append((request, Future()))
        return self.sent[-1][1]

    def remove_pending_request(self, future):
        self.removed.append(future)


@pytest.fixture
def made():
    client, answers, now = Client(), [], [0.0]
    call = PatientCall(client, lambda q, a: answers.append((q, a)), timeout_s=2.0,
                       monotonic=lambda: now[0])
    return call, client, answers, now


def test_a_wish_is_sent_once_and_its_answer_handed_on(made):
    call, client, answers, _ = made
    call.ask('wish')
    call.poll()
    call.poll()
    client.sent[0][1].value = 'yes'
    call.poll()
    call.poll()
    assert answers == [('wish', 'yes')]
    assert len(client.sent) == 1
    assert not call.waiting


def test_nothing_is_sent_before_the_service_is_there(made):
    call, client, _, _ = made
    client.ready = False
    call.ask('wish')
    call.poll()
    assert client.sent == []
    client.ready = True
    call.poll()
    assert len(client.sent) == 1


def test_an_unanswered_try_is_taken_back_and_sent_again(made):
    call, client, answers, now = made
    call.ask('wish')
    call.poll()
    now[0] = 2.1
    call.poll()
    assert client.removed == [client.sent[0][1]]
    now[0] = 2.7
    call.poll()
    assert call.tries == 2
    client.sent[1][1].value = 'late but here'
    call.poll()
    assert answers == [('wish', 'late but here')]


def test_a_new_wish_replaces_the_old_one(made):
    call, client, answers, _ = made
    call.ask('old')
    call.poll()
    call.ask('new')
    assert client.removed == [client.sent[0][1]]
    client.sent[0][1].value = 'for the old'
    call.poll()
    client.sent[1][1].value = 'for the new'
    call.poll()
    assert answers == [('new', 'for the new')]
