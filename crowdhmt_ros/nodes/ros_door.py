# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
The door over ROS services: the same segment server, signed messages, small payloads.

ROS vouches for nobody, so each request carries an HMAC that only the trusted robot can make, and
so does each answer. rclpy answers a service when its callback returns, and the one executor
thread of a robot must not stand still while a segment runs: the callbacks are coroutines in a
reentrant group. While one waits it gives the thread back after half a millisecond each time.
"""
from __future__ import annotations

import array
import math
import threading
from typing import Any, Dict, Generator, Generic, Optional, TypeVar

from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.node import Node

from crowdhmt_ros.errors import CodecError, TrustError
from crowdhmt_ros.nodes import topics
from crowdhmt_ros.offload import refusals as why
from crowdhmt_ros.offload.channel import ROS_PAYLOAD_MAX_BYTES
from crowdhmt_ros.offload.messages import (
    Answer,
    LeaseReply,
    LeaseRequest,
    RunReply,
    RunRequest,
    canonical,
    checked,
)
from crowdhmt_ros.offload.server import SegmentServer
from crowdhmt_ros.offload.signing import shared_secret, sign, verify
from crowdhmt_ros.offload.trust import KeyStore
from crowdhmt_ros.srv import RequestLease, RunSegment

LOOK_S = 0.0005
LONGEST_S = 10.0
"""No request waits longer, whatever becomes of the server."""
PING_SEGMENT = 'ping'
"""A run of this segment under no lease asks only whether anybody is here."""
T = TypeVar('T')


class Deferred(Generic[T]):
    """An answer that another thread gives; awaited by a coroutine of an executor."""

    def __init__(self) -> None:
        self._there = threading.Event()
        self._answer: Optional[T] = None

    def set(self, answer: T) -> None:
        """Give the answer."""
        self._answer = answer
        self._there.set()

    def __await__(self) -> Generator[None, None, Optional[T]]:
        for _ in range(int(LONGEST_S / LOOK_S)):
            if self._there.wait(LOOK_S):
                break
            yield
        return self._answer


class RosDoor:
    """
    Answers `request_lease` and `run_segment`.

    :param node: spun by one thread
    :param server: behind the door
    :param keys: whose robots are let in; read again at each request for a lease
    :raises TrustError: without the library `cryptography`
    """

    def __init__(self, node: Node, server: SegmentServer, keys: KeyStore) -> None:
        shared_secret(keys.secret, keys.public)  # says now what is missing
        self._node = node
        self._server = server
        self._keys = keys
        self._secrets: Dict[bytes, bytes] = {}
        self.problem = ''
        self.received = 0
        group = ReentrantCallbackGroup()
        self._services = [
            node.create_service(RequestLease, topics.REQUEST_LEASE.name, self._on_lease,
                                callback_group=group),
            node.create_service(RunSegment, topics.RUN_SEGMENT.name, self._on_run,
                                callback_group=group)]

    def close(self) -> None:
        """Take the services down; safe to call twice."""
        services, self._services = self._services, []
        for service in services:
            self._node.destroy_service(service)

    # Services

    async def _on_lease(self, request: Any, response: Any) -> Any:
        self.received += 1
        nonce = bytes(request.nonce)
        try:
            secret = self._secret_of(request.robot_id, again=True)
        except why.Refused as refused:
            return _lease_response(response, self._no_lease(refused, nonce), None)
        try:
            asked = checked(LeaseRequest(
                request.robot_id, request.boot_id, 0, nonce, request.bundle_sha256,
                tuple(request.segment_ids), request.memory_bytes, request.rate_hz,
                request.duration_s, request.key_fingerprint, request.protocol_version))
            self._check_signature(secret, asked, request)
        except (CodecError, why.Refused) as error:
            return _lease_response(response, self._no_lease(error, nonce), secret)
        deferred: Deferred[LeaseReply] = Deferred()
        self._server.lease_later(asked.robot_id, asked, deferred.set)
        reply = await deferred
        return _lease_response(response, reply or LeaseReply(nonce, 0, False, 'no answer'), secret)

    async def _on_run(self, request: Any, response: Any) -> Any:
        self.received += 1
        try:
            secret = self._secret_of(request.robot_id)
        except why.Refused as refused:
            return _run_response(response, self._no_run(refused, request), None)
        if not request.lease_id and request.segment_id == PING_SEGMENT:
            return _run_response(response, _unrun(request, 'a ping'), secret)
        try:
            asked = self._asked(request)
            self._check_signature(secret, asked, request)
        except (CodecError, why.Refused) as error:
            return _run_response(response, self._no_run(error, request), secret)
        deferred: Deferred[RunReply] = Deferred()
        self._server.run(asked.robot_id, asked, deferred.set)
        reply = await deferred
        if reply is not None and len(reply.payload) > ROS_PAYLOAD_MAX_BYTES:
            reply = _unrun(request, f'the answer has {len(reply.payload)} bytes, a service may '
                           f'carry {ROS_PAYLOAD_MAX_BYTES}: use channel zeromq')
        return _run_response(response, reply or _unrun(request, 'no answer'), secret)

    # Trust

    def _asked(self, request: Any) -> RunRequest:
        """
        Return a request as the server takes it; which start asks stands in the lease.

        :raises CodecError: a field that cannot be
        :raises Refused: too large, or under no lease
        """
        if len(request.payload) > ROS_PAYLOAD_MAX_BYTES:
            raise why.Refused(why.SIZE, f'a payload of {len(request.payload)} bytes, a service '
                              f'may carry {ROS_PAYLOAD_MAX_BYTES}: use channel zeromq')
        boot_id = self._server.boot_id_of(request.lease_id)
        if not boot_id:
            raise why.Refused(why.LEASE, 'there is no such lease: ask for one')
        return checked(RunRequest(
            request.robot_id, boot_id, request.lease_id, request.request_seq,
            bytes(request.nonce), request.segment_id, request.segment_sha256, request.codec,
            request.budget_s, bytes(request.payload)))

    def _secret_of(self, robot_id: str, *, again: bool = False) -> bytes:
        """
        Return the secret shared with a robot.

        :param again: read the keys again first
        :raises Refused: it is not trusted
        """
        try:
            if again:
                self._keys.reload()
            public = self._keys.public_of(robot_id)
            if public is not None and public not in self._secrets:
                self._secrets[public] = shared_secret(self._keys.secret, public)
        except TrustError as error:
            self.problem = str(error)
            public = None
        if public is None:
            raise why.Refused(why.UNKNOWN_KEY, 'this robot is not trusted here')
        return self._secrets[public]

    def _check_signature(self, secret: bytes, asked: Any, request: Any) -> None:
        """Raise Refused unless the robot that it names has signed a request."""
        if not verify(secret, canonical(asked), bytes(request.authentication)):
            raise why.Refused(why.SIGNATURE, 'the signature is wrong: compare the keys of both '
                              'robots with crowdhmt keys list')

    # Refusals

    def _no_lease(self, error: Exception, nonce: bytes) -> LeaseReply:
        self._server.count(getattr(error, 'kind', why.UNREADABLE))
        return LeaseReply(nonce, 0, False, str(error))

    def _no_run(self, error: Exception, request: Any) -> RunReply:
        self._server.count(getattr(error, 'kind', why.UNREADABLE))
        return _unrun(request, str(error))


def _unrun(request: Any, reason: str) -> RunReply:
    return RunReply(request.lease_id, bytes(request.nonce), request.request_seq,
                    request.segment_id, False, reason)


def _signature(reply: Answer, secret: Optional[bytes]) -> Any:
    """Return the signature of an answer; none for strangers and for what cannot be echoed."""
    if secret is None:
        return array.array('B')
    try:
        return array.array('B', sign(secret, canonical(reply)))
    except CodecError:
        return array.array('B')


def _lease_response(response: Any, reply: LeaseReply, secret: Optional[bytes]) -> Any:
    response.granted, response.reason = reply.granted, reply.reason
    response.lease_id, response.duration_s = reply.lease_id, float(reply.duration_s)
    response.retry_after_s = math.nan if reply.retry_after_s is None \
        else float(reply.retry_after_s)
    response.nonce = array.array('B', reply.nonce)
    response.authentication = _signature(reply, secret)
    return response


def _run_response(response: Any, reply: RunReply, secret: Optional[bytes]) -> Any:
    response.ok, response.reason, response.codec = reply.ok, reply.reason, reply.codec
    response.lease_id, response.nonce = reply.lease_id, array.array('B', reply.nonce)
    response.request_seq, response.segment_id = reply.request_seq, reply.segment_id
    response.payload = array.array('B', reply.payload)
    response.queue_s, response.run_s = float(reply.queue_s), float(reply.run_s)
    response.authentication = _signature(reply, secret)
    return response
