# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
import dataclasses
import json
import math

import pytest

from crowdhmt_ros.errors import CodecError
from crowdhmt_ros.offload import messages
from crowdhmt_ros.offload.messages import (
    Cancel,
    LeaseReply,
    LeaseRequest,
    Ping,
    Pong,
    Refusal,
    Release,
    RunReply,
    RunRequest,
    canonical,
    checked,
    pack,
    unpack,
)

NONCE = bytes(range(16))
SHA = 'ab' * 32
ASKER = {'robot_id': 'fleet/vehicle', 'boot_id': 'b0', 'request_seq': 7, 'nonce': NONCE}
RUN = RunRequest(**ASKER, lease_id='l1', segment_id='w100d2-c2-tail', segment_sha256=SHA,
                 codec='int8', budget_s=0.15, payload=b'abc')
LEASE = LeaseRequest(**ASKER, bundle_sha256=SHA, segment_ids=('a', 'b'), memory_bytes=12,
                     rate_hz=20.0, duration_s=30.0, key_fingerprint='00ff')
EVERY = (
    RUN, LEASE,
    LeaseReply(NONCE, 7, True, lease_id='l1', duration_s=30.0),
    LeaseReply(NONCE, 7, False, reason='busy', retry_after_s=1.5),
    RunReply('l1', NONCE, 7, 'a', True, payload=b'x' * 28, queue_s=0.001, run_s=0.01),
    Ping(**ASKER, payload=b'probe'),
    Pong('drone', 'b1', NONCE, 7, received_bytes=5),
    Cancel(**ASKER, lease_id='l1', cancelled_seq=6),
    Release(**ASKER, lease_id='l1'),
    Refusal('replayed', NONCE, 7), Refusal('not readable'))


def header(message):
    return json.loads(pack(message)[0])


def with_header(base, changes):
    content = {**header(base), **changes}
    return [json.dumps({k: v for k, v in content.items() if v is not ...}).encode(),
            pack(base)[1]]


@pytest.mark.parametrize('message', EVERY, ids=lambda m: type(m).__name__)
def test_every_message_comes_back_as_it_was(message):
    assert unpack(pack(message), max_payload_bytes=100) == message


def test_there_is_an_example_of_every_kind():
    assert {type(m) for m in EVERY} == set(messages.FIELDS)


@pytest.mark.parametrize('message', EVERY, ids=lambda m: type(m).__name__)
def test_every_field_is_in_the_header_or_is_the_payload(message):
    names = {f.name for f in dataclasses.fields(message)} - {'payload'}
    assert names == set(messages.FIELDS[type(message)])
    assert ('payload' in {f.name for f in dataclasses.fields(message)}) == (
        type(message) in messages.WITH_PAYLOAD)


def another(name, value):
    """Return another value that the field may hold."""
    if name in ('segment_sha256', 'bundle_sha256'):
        return 'cd' * 32
    if name == 'payload':
        return value + b'x'
    return {str: lambda: value + '0', bytes: lambda: NONCE[::-1], bool: lambda: not value,
            int: lambda: value + 1, float: lambda: value + 1, tuple: lambda: value[::-1],
            type(None): lambda: 1.0}[type(value)]()


@pytest.mark.parametrize('message', EVERY, ids=lambda m: type(m).__name__)
def test_a_changed_field_changes_what_is_signed(message):
    before = canonical(message)
    for field in dataclasses.fields(message):
        other = another(field.name, getattr(message, field.name))
        assert canonical(dataclasses.replace(message, **{field.name: other})) != before, field.name


def test_header_and_payload_cannot_trade_bytes_under_a_signature():
    seen = {canonical(dataclasses.replace(RUN, codec=c, payload=p))
            for c, p in (('raw', b''), ('ra', b'w'), ('raw', b'}'))}
    assert len(seen) == 3


def test_the_same_number_is_signed_alike_whole_or_not():
    assert canonical(dataclasses.replace(LEASE, memory_bytes=12.0)) == canonical(LEASE)


def test_messages_of_two_kinds_are_never_signed_alike():
    fields = {'robot_id': 'a', 'boot_id': 'b', 'request_seq': 1, 'nonce': NONCE}
    assert canonical(Ping(**fields)) != canonical(Release(lease_id='', **fields))


@pytest.mark.parametrize(('changes', 'line'), [
    ({'robot_id': '/vehicle'}, 'robot_id'), ({'robot_id': '../x'}, 'robot_id'),
    ({'robot_id': 'a\n'}, 'robot_id'), ({'robot_id': ''}, 'robot_id'),
    ({'robot_id': 'a' * 65}, 'robot_id'), ({'robot_id': None}, 'robot_id'),
    ({'request_seq': -1}, 'request_seq'), ({'request_seq': 2 ** 63}, 'request_seq'),
    ({'request_seq': 1.0}, 'request_seq'), ({'request_seq': True}, 'request_seq'),
    ({'nonce': '00' * 15}, 'nonce'), ({'nonce': 'zz' * 16}, 'nonce'), ({'nonce': 5}, 'nonce'),
    ({'nonce': ''}, 'nonce'), ({'segment_sha256': 'AB' * 32}, 'segment_sha256'),
    ({'segment_sha256': '../../etc/passwd'}, 'segment_sha256'),
    ({'segment_id': 'x' * 129}, 'segment_id'), ({'segment_id': 'a\u0000'}, 'segment_id'),
    ({'segment_id': '\ud800'}, 'segment_id'), ({'segment_id': ['a']}, 'segment_id'),
    ({'budget_s': -0.1}, 'budget_s'), ({'budget_s': '1'}, 'budget_s'),
    ({'budget_s': None}, 'budget_s'), ({'budget_s': False}, 'budget_s'),
    ({'budget_s': 10 ** 400}, 'budget_s'),
    ({'extra': 1}, 'extra'), ({'codec': ...}, 'codec'),
    ({'protocol': 2}, 'protocol 2'), ({'protocol': ...}, 'protocol None'),
    ({'protocol': True}, 'protocol'), ({'message': 'Exec'}, 'unknown kind'),
    ({'message': ['RunRequest']}, 'unknown kind'), ({'message': 'Ping'}, 'other fields')])
def test_a_request_with_a_wrong_field_is_refused_in_one_line(changes, line):
    with pytest.raises(CodecError, match=line) as caught:
        unpack(with_header(RUN, changes), max_payload_bytes=100)
    assert '\n' not in str(caught.value)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize('changes', [
    {'segment_ids': 'ab'}, {'segment_ids': ['']}, {'segment_ids': [1]},
    {'segment_ids': [['a']]}, {'segment_ids': ['a'] * 65}, {'segment_ids': {'a': 1}}])
def test_segment_names_are_a_short_list_of_texts(changes):
    with pytest.raises(CodecError, match='segment_ids'):
        unpack(with_header(LEASE, changes), max_payload_bytes=0)


@pytest.mark.parametrize('text', [
    b'', b'{', b'[]', b'null', b'\xff\xfe', b'[' * 4096, b'{"a":' * 800, b'1' * 4096,
    b'{"protocol":1,"protocol":1}', b'{"protocol":1,"budget_s":NaN}',
    b'{"protocol":1,"budget_s":Infinity}', b'{"protocol":1,"budget_s":1e999}', b' ' * 5000])
def test_what_is_no_header_is_refused(text):
    with pytest.raises(CodecError):
        unpack([text, b''], max_payload_bytes=100)


def test_an_infinite_number_hidden_in_a_long_one_is_refused():
    text = pack(RUN)[0].replace(b'0.15', b'1e999')
    with pytest.raises(CodecError, match='budget_s'):
        unpack([text, b''], max_payload_bytes=100)


@pytest.mark.parametrize('count', [0, 1, 3])
def test_a_message_has_two_parts(count):
    with pytest.raises(CodecError, match='%d parts' % count):
        unpack([b'{}'] * count, max_payload_bytes=100)


def test_a_payload_above_the_cap_is_refused_unseen():
    with pytest.raises(CodecError, match='3 bytes: 2 are allowed'):
        unpack(pack(RUN), max_payload_bytes=2)


def test_a_message_without_payload_brings_none():
    with pytest.raises(CodecError, match='no payload'):
        unpack([pack(LEASE)[0], b'x'], max_payload_bytes=100)


@pytest.mark.parametrize(('message', 'changes'), [
    (RUN, {'budget_s': math.nan}), (RUN, {'budget_s': math.inf}), (RUN, {'payload': 'abc'}),
    (LEASE, {'segment_ids': ['a']}), (LEASE, {'segment_ids': ('a' * 100,) * 60}),
    (RUN, {'nonce': 'x' * 16})])
def test_what_must_not_travel_is_refused_before_it_leaves(message, changes):
    with pytest.raises(CodecError):
        pack(dataclasses.replace(message, **changes))


def test_the_other_door_checks_with_the_same_rules():
    assert checked(RUN) is RUN
    with pytest.raises(CodecError, match='robot_id'):
        checked(dataclasses.replace(RUN, robot_id='a b'))


def test_any_reason_travels_as_one_short_line():
    reply = RunReply('l', NONCE, 1, 's', False, reason='k\u00f6nnte\nnicht ' + 'x' * 500)
    found = unpack(pack(reply), max_payload_bytes=0)
    assert found.reason.startswith('k?nnte nicht xxx')
    assert len(found.reason) == 200
    assert found == reply


def test_a_payload_is_not_printed():
    assert 'abc' not in repr(RUN)


def test_parts_that_are_views_are_read():
    frames = [memoryview(part) for part in pack(RUN)]
    found = unpack(frames, max_payload_bytes=100)
    assert found == RUN
    assert type(found.payload) is bytes
