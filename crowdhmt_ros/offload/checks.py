# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What a request is compared with before anything is done for it; nothing here keeps state."""
from __future__ import annotations

from typing import Mapping, Optional

from crowdhmt_ros.offload import refusals as why
from crowdhmt_ros.offload.channel import PROTOCOL_VERSION
from crowdhmt_ros.offload.leases import Granted
from crowdhmt_ros.offload.messages import LeaseRequest, RunRequest
from crowdhmt_ros.offload.served import Served, ServerSettings


def check_name(peer: str, robot_id: str) -> None:
    """
    Compare the name in a request with the one that its key belongs to.

    :raises Refused: they differ
    """
    if robot_id != peer:
        raise why.Refused(why.NAME, 'the key belongs to %s, the request says %s' % (
            peer, robot_id))


def check_lease(own: ServerSettings, served: Mapping[str, Served], request: LeaseRequest) -> None:
    """
    Compare a wish with what is served here.

    :raises Refused: another protocol or bundle, or a segment that is not here
    """
    if request.protocol_version != PROTOCOL_VERSION:
        raise why.Refused(why.PROTOCOL, '%s speaks protocol %d, %s asks in %d: update the older '
                          'one' % (own.robot_id, PROTOCOL_VERSION, request.robot_id,
                                   request.protocol_version))
    if request.bundle_sha256 != own.bundle_sha256:
        raise why.Refused(why.BUNDLE, '%s runs bundle %.12s, %s asks for %.12s: give both the '
                          'same' % (own.robot_id, own.bundle_sha256, request.robot_id,
                                    request.bundle_sha256))
    unknown = [s for s in request.segment_ids if s not in served]
    if unknown or not request.segment_ids:
        raise why.Refused(why.SEGMENT, '%s serves no segment %s' % (
            own.robot_id, unknown[0] if unknown else 'of an empty list'))


def covering(granted: Optional[Granted], peer: str, request: RunRequest) -> Granted:
    """
    Return the lease that a request names.

    :raises Refused: there is none, or it is of another robot or another of its starts
    """
    if granted is None or granted.peer != peer or granted.boot_id != request.boot_id:
        raise why.Refused(why.LEASE, '%s has no lease %s: ask for one' % (
            peer, request.lease_id), 0.0)
    return granted


def check_run(granted: Granted, served: Mapping[str, Served], request: RunRequest) -> None:
    """
    Compare a request with its lease and with this robot's bundle.

    :raises Refused: it asks for what the lease does not cover, or for another graph, or comes in
        a form that cannot be right
    """
    if request.segment_id not in granted.segment_ids:
        raise why.Refused(why.SEGMENT, 'the lease covers no segment %s' % request.segment_id)
    here = served[request.segment_id]
    if request.segment_sha256 != here.segment.sha256:
        raise why.Refused(why.DIGEST, 'segment %s is %.12s here, %.12s was asked for: give both '
                          'robots the same bundle' % (
                              request.segment_id, here.segment.sha256, request.segment_sha256))
    if request.codec not in here.codecs:
        raise why.Refused(why.CODEC, 'segment %s takes %s, not %s' % (
            request.segment_id, ', '.join(here.codecs), request.codec))
    if len(request.payload) > here.max_payload_bytes:
        raise why.Refused(why.SIZE, 'segment %s takes at most %d bytes, %d came' % (
            request.segment_id, here.max_payload_bytes, len(request.payload)))
    if request.budget_s <= 0.0:
        raise why.Refused(why.EXPIRED, 'no time was left for it')
