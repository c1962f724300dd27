# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
import contextlib
import signal
import time

import pytest

from test.offload.guests import until

zmq = pytest.importorskip('zmq')
from crowdhmt_ros.errors import OffloadError  # noqa: E402
from crowdhmt_ros.offload.breaker import SILENCE_S, Breaker  # noqa: E402
from crowdhmt_ros.offload.messages import (  # noqa: E402
    RunRequest,
)
from test.offload.channel_ends import WISH, call, well  # noqa: E402


def test_calls_without_an_answer_open_the_breaker_and_pings_close_it(opened):
    changes = []
    door = opened.door(lambda request: [])
    channel = opened.channel(door.address, changed=lambda: changes.append(1))
    door.silent_to_pings = True
    time.sleep(SILENCE_S)
    for _ in range(2):
        pending = channel.submit(call(budget_s=0.05))
        assert pending.wait(0.05) is None
        pending.cancel()
    health = channel.health()
    assert health.failures == 2
    assert health.retry_in_s > 0.0
    assert health.connected
    assert changes
    with pytest.raises(OffloadError, match='left requests unanswered'):
        channel.submit(call())
    door.silent_to_pings = False
    door.answer = well
    until(lambda: channel.health().retry_in_s == 0.0)
    assert channel.submit(call()).wait(5.0).payload == b'logits'


def test_a_call_given_up_early_does_not_speak_against_the_peer(opened):
    channel = opened.channel(opened.door(lambda request: []).address)
    for _ in range(3):
        channel.submit(call(budget_s=30.0)).cancel()
    assert channel.health().failures == 0
    assert channel.health().queued == 0


def test_an_idle_peer_that_falls_silent_is_noticed_by_pings(opened):
    door = opened.door()
    channel = opened.channel(door.address)
    until(lambda: channel.health().bandwidth_bytes_per_s is not None)
    door.silent_to_pings = True
    until(lambda: channel.health().retry_in_s > 0.0)


def test_a_killed_peer_fails_the_call_under_way_at_once_and_comes_back(child, opened):
    process, address = child()
    channel = opened.channel(address)
    lease = channel.lease(WISH, 5.0)
    process.send_signal(signal.SIGSTOP)
    pending = channel.submit(call(lease.lease_id, 30.0))
    process.kill()
    began_s = time.monotonic()
    with pytest.raises(OffloadError, match='drone: the connection is lost'):
        pending.wait(30.0)
    assert time.monotonic() - began_s < 1.0, 'silence would take longer'
    with pytest.raises(OffloadError, match='cannot be asked'):
        channel.submit(call(lease.lease_id))
    assert channel.health().retry_in_s > 0.0
    assert channel.health().round_trip_s is None
    child(address)
    until(lambda: channel.health().connected and channel.health().retry_in_s == 0.0, 15.0)
    assert channel.health().reconnects == 1
    until(lambda: channel.health().round_trip_s is not None)
    with pytest.raises(OffloadError, match='drone refuses'):  # its leases are gone with it
        channel.submit(call(lease.lease_id)).wait(5.0)
    assert channel.lease(WISH, 5.0).lease_id != lease.lease_id


def test_a_stopped_peer_leaves_calls_unanswered_and_comes_back(child, opened):
    process, address = child()
    channel = opened.channel(address)
    lease = channel.lease(WISH, 5.0)
    process.send_signal(signal.SIGSTOP)
    time.sleep(SILENCE_S)
    for _ in range(2):
        pending = channel.submit(call(lease.lease_id, 0.05))
        assert pending.wait(0.05) is None
        pending.cancel()
    assert channel.health().retry_in_s > 0.0
    until(lambda: not channel.health().connected, 10.0)
    assert channel.health().problem == 'it has sent nothing for 1.5 s'
    process.send_signal(signal.SIGCONT)
    until(lambda: channel.health().connected and channel.health().retry_in_s == 0.0, 15.0)
    assert channel.submit(call(lease.lease_id)).wait(5.0) is not None


def test_stale_calls_are_never_sent(child, opened):
    process, address = child()
    channel = opened.channel(address, breaker=Breaker(chance=lambda: 0.0))
    lease = channel.lease(WISH, 5.0)
    process.send_signal(signal.SIGSTOP)
    megabyte = bytes(1 << 20)
    pendings = []
    with contextlib.suppress(OffloadError):  # the connection may be lost meanwhile
        for _ in range(20):
            pendings.append(channel.submit(call(lease.lease_id, 0.2, megabyte)))
    time.sleep(0.5)
    stale = [out for out in list(channel._outbox)
             if out.entry is not None and isinstance(out.entry.request, RunRequest)]
    assert pendings
    assert all(out.until_s < time.monotonic() for out in stale)
    before = channel.health().sent_bytes
    process.send_signal(signal.SIGCONT)
    until(lambda: not channel._outbox, 10.0)
    assert channel.health().sent_bytes - before < (1 << 20)
