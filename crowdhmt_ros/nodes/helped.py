# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Makes ready what a plan with a peer needs: head and fallback here, a lease there. No ROS."""
from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import Callable, Mapping, Optional, Protocol, Sequence, Set

from crowdhmt_ros.engine.backend import Executable
from crowdhmt_ros.engine.pool import Pool
from crowdhmt_ros.errors import CrowdHMTError, OffloadError
from crowdhmt_ros.hedge import Hedge, Remote
from crowdhmt_ros.types import HERE, Candidate, Segment

DEFAULT_BUDGET_S = 0.2
"""From frame to answer where the plan states no latency budget: two periods of 10 Hz."""
LONGEST_BUDGET_S = 5.0
"""However patient a plan is: a peer takes no longer, and no other frame is answered meanwhile."""
JOIN_S = 6.0
"""Longer than a request for a lease is waited for."""


@dataclass(frozen=True)
class Terms:
    """
    What a plan says beside its candidate, for one that a peer takes part in.

    :param fallback: answers when the peer does not
    :param budget_s: from the frame in memory to the answer
    """

    fallback: Candidate
    budget_s: float = DEFAULT_BUDGET_S


class Peers(Protocol):
    """Where the peer's part comes from; `nodes.peer_links.PeerLinks` is one."""

    def remote_part(self, robot_id: str, segment: Segment, codec: str) -> Remote:
        """
        Lease a segment at a peer; may take a while.

        :raises OffloadError: it cannot be reached or refuses
        """


@dataclass(frozen=True, eq=False)
class Ready:
    """A candidate with a peer that can come into force."""

    candidate: Candidate
    terms: Terms
    hedge: Hedge
    executable: Executable

    def serves(self, candidate: Candidate, terms: Terms) -> bool:
        """Whether it is what a plan asks for and can be had still, but for the budget of time."""
        return (not self.hedge.remote.lost
                and self.candidate.candidate_id == candidate.candidate_id
                and self.terms.fallback.candidate_id == terms.fallback.candidate_id)


Done = Callable[[Candidate, Optional[Ready], Optional[CrowdHMTError]], None]
"""Told of a finished preparation: ready or an error, never both."""


class HelpedPlans:
    """
    Prepares candidates that a peer takes part in, with the engine options that they name.

    `peers` is set once there is a way to them; None means that offloading is off.

    :param pool: compiles what stays here
    :param segments: of the bundle, those that a peer runs among them
    """

    def __init__(self, pool: Pool, segments: Mapping[str, Segment]) -> None:
        self._pool = pool
        self._segments = segments
        self._threads: Set[threading.Thread] = set()
        self.peers: Optional[Peers] = None

    def prepare_in_background(self, candidate: Candidate, terms: Terms, done: Done) -> None:
        """
        Prepare in a thread of its own: a lease waits for another robot.

        :param done: called once, in that thread, whatever happens
        """
        def work() -> None:
            ready: Optional[Ready] = None
            failure: Optional[CrowdHMTError] = OffloadError(
                'preparing %s ended unexpectedly, see the traceback' % candidate.candidate_id)
            try:
                ready = self.prepare(candidate, terms)
                failure = None
            except CrowdHMTError as error:
                failure = error
            finally:
                try:
                    done(candidate, ready, failure)
                finally:
                    self._threads.discard(threading.current_thread())

        thread = threading.Thread(target=work, name='lease', daemon=True)
        self._threads.add(thread)
        thread.start()

    def missing_bytes(self, candidate: Candidate, terms: Terms) -> float:
        """Return what `prepare` is going to take, as far as known."""
        return self._pool.missing_bytes(terms.fallback) + self._pool.missing_bytes(candidate)

    def close(self) -> None:
        """Lease nothing any more and wait for what is being prepared; close the way first."""
        self.peers = None
        until_s = time.monotonic() + JOIN_S
        for thread in tuple(self._threads):
            if thread is not threading.current_thread():
                thread.join(max(0.0, until_s - time.monotonic()))

    def prepare(self, candidate: Candidate, terms: Terms) -> Ready:
        """
        Compile head and fallback, lease the rest; it takes a while.

        :raises CrowdHMTError: when one of them cannot be had; nothing stays reserved
        """
        peers = self.peers
        placed = candidate.placement.segments[-1]
        if peers is None or placed.device == HERE or len(candidate.placement.peers) != 1:
            raise OffloadError('%s needs one peer for its last part, and offloading must be on'
                               % candidate.candidate_id)
        segment = self._segments.get(placed.segment_id)
        if segment is None:
            raise OffloadError('%s names the segment %s, which this bundle does not have'
                               % (candidate.candidate_id, placed.segment_id))
        fallback = self._pool.prepare(terms.fallback)
        heads = self._pool.prepare_all(candidate)
        _check_crossing(candidate, heads, segment)
        remote = peers.remote_part(placed.device, segment, placed.codec)
        try:
            hedge = Hedge(remote, heads[0] if heads else None, fallback, terms.budget_s)
        except CrowdHMTError:
            remote.release()
            raise
        return Ready(candidate, terms, hedge, fallback)


def _check_crossing(candidate: Candidate, heads: Sequence[Executable], segment: Segment) -> None:
    """Refuse a head that gives anything beside what the peer takes: it would never be told."""
    gives = [(o.dtype, o.shape) for o in heads[-1].outputs] if heads else []
    takes = [(i.dtype, i.shape) for i in segment.inputs]
    if heads and gives != takes:
        raise OffloadError('%s: what runs here gives %r and the peer takes %r, so it is not for '
                           'sharing' % (candidate.candidate_id, gives, takes))
