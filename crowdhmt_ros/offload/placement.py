# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Which candidates the peers of the moment add to the front (P III-B1, III-D3).

A prebuilt way to answer with a peer's help (`RemoteOption`) and a peer that can be asked make one
candidate. With it goes the fallback that answers when the peer does not: the most accurate way
to run here that fits in memory beside the head and leaves the peer its time. Its bytes count.
Pure: a recorded plan derives the same candidates again.
"""
from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Callable, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from crowdhmt_ros.types import (
    HERE,
    Away,
    Candidate,
    CostEstimate,
    Estimate,
    FrontEntry,
    PeerStatus,
    Placement,
    RemoteOption,
    SegmentPlacement,
)
from crowdhmt_ros.types.fleet import DISPATCH_S

GONE_AFTER_S = 2.5
DEADLINE_S = 0.2
"""From frame to answer where nobody states a latency budget."""
MOST_PEERS = 8
"""The nearest are considered, so that a step of the loop stays short in any fleet."""
MOST_OFFERS = 24
"""Of all peers together; of those that nothing beats the extremes and a spread over accuracy."""
ENTRY_ROOM = 1.25
"""A candidate that is not in force must leave its fallback time even when it is so much slower."""

AccuracyOf = Callable[[Mapping[str, float]], float]


def mean_of(accuracy: Mapping[str, float]) -> float:
    """Return the mean over all conditions; 0 without any."""
    return sum(accuracy.values()) / len(accuracy) if accuracy else 0.0


def objection(peer: PeerStatus, now_s: float, *, in_use: bool = False) -> str:
    """
    Return why a peer cannot be asked now, '' when it can.

    :param peer: as known
    :param now_s: node clock
    :param in_use: whether the candidate in force uses it: then it holds a lease already
    """
    if peer.age_s is None or not peer.age_s <= GONE_AFTER_S:
        return 'nothing is heard of it'
    if peer.retry_at_s is not None and peer.retry_at_s > now_s:
        times = f'{peer.failures} times in a row' if peer.failures > 1 else 'lately'
        return f'it did not answer {times}, asked again in {peer.retry_at_s - now_s:.1f} s'
    if not _has_link(peer):
        return 'there is no measured link to it'
    if not _is_rate(peer.capacity_macs_per_s):
        return 'it does not tell how fast it computes'
    if peer.free_leases <= 0 and not in_use:
        return 'it has no free lease'
    return ''


def is_reachable(peer: PeerStatus, now_s: float) -> bool:
    """Whether the way to a peer is open now, whatever else speaks against it."""
    return _has_link(peer) and (peer.retry_at_s is None or peer.retry_at_s <= now_s)


def _has_link(peer: PeerStatus) -> bool:
    return _is_time(peer.link_round_trip_s) and _is_rate(peer.link_bandwidth_bytes_per_s)


def _is_rate(value: Optional[float]) -> bool:
    return value is not None and math.isfinite(value) and value > 0.0


def _is_time(value: Optional[float]) -> bool:
    return value is not None and math.isfinite(value) and value >= 0.0


def uses(candidate_id: str, robot_id: str) -> bool:
    """Whether a candidate, by its name, places a part at a robot."""
    return f'@{robot_id}:' in candidate_id


def candidate_of(option: RemoteOption, robot_id: str) -> Candidate:
    """Return the candidate that an option and a peer make."""
    segments = [SegmentPlacement(option.remote_role, option.remote_segment_id, robot_id,
                                 option.codec)]
    if option.head_segment_id:
        segments.insert(0, SegmentPlacement('head', option.head_segment_id, HERE))
    return Candidate(option.variant_id, option.variant, Placement(tuple(segments)),
                     option.engine)


def worth_offering(remote: Sequence[RemoteOption]) -> Tuple[RemoteOption, ...]:
    """
    Return the options that no other equals or beats in everything whatever the peer, in order.

    To be called once, when the options are built: the fewer, the shorter each step.
    """
    conditions = sorted({c for option in remote for c in option.accuracy})
    rows = [(*_figures(option), *(-option.accuracy.get(c, mean_of(option.accuracy))
                                  for c in conditions)) for option in remote]
    kept: List[int] = []
    # Whoever beats a row comes before it in this order, so that one look back is enough.
    for i in sorted(range(len(rows)), key=lambda i: (*rows[i], i)):
        if not any(all(a <= b for a, b in zip(rows[k], rows[i])) for k in kept):
            kept.append(i)
    return tuple(remote[i] for i in sorted(kept))


def _figures(option: RemoteOption) -> Tuple[float, ...]:
    return (option.head_latency_s.mean, option.head_memory_bytes.mean,
            option.head_energy_j.mean, float(option.head_macs), float(option.head_words),
            float(option.engine.threads), option.sent_bytes, option.received_bytes,
            option.codec_s, float(option.remote_macs), option.remote_memory_bytes or 0.0)


class _Facts(NamedTuple):
    """One option, as far as no peer matters: what it costs here, and its accuracy now."""

    option: RemoteOption
    here_s: float
    joules: float
    memory_bytes: float
    payload_bytes: float
    errors: float


class _Way(NamedTuple):
    """One option at one peer under its link, and how long it takes."""

    facts: _Facts
    usual_s: float

    @property
    def rest(self) -> Tuple[float, float, float]:
        """What is to be small beside the time: energy, memory, errors."""
        return self.facts.joules, self.facts.memory_bytes, self.facts.errors


@dataclass(frozen=True)
class _Home:
    """One way to run here, as a fallback."""

    entry: FrontEntry
    accuracy: float
    latency_s: float
    memory_bytes: float


def offers(remote: Sequence[RemoteOption], peers: Sequence[PeerStatus],
           front: Sequence[FrontEntry], *, memory_budget_bytes: Optional[float], now_s: float,
           home: Sequence[CostEstimate] = (), deadline_s: Optional[float] = None,
           current_id: str = '', fallback_id: str = '', accuracy_of: AccuracyOf = mean_of,
           peer_ratios: Optional[Mapping[str, float]] = None) -> Tuple[FrontEntry, ...]:
    """
    Return the candidates that peers make possible now.

    Of one peer only those that no other of it beats in time, energy, memory and accuracy.

    :param remote: what the bundle offers
    :param peers: as known, with their links
    :param front: candidates that stay here, for the fallback
    :param memory_budget_bytes: for head and fallback together, None for no limit; a candidate
        that cannot keep it is counted with the leanest fallback
    :param now_s: node clock
    :param home: what each of `front` is expected to do now; without them its tables count
    :param deadline_s: from frame to answer, None takes `DEADLINE_S`
    :param current_id: candidate in force, which stays while its peer can be asked
    :param fallback_id: its fallback, which stays while it leaves the peer its time
    :param accuracy_of: accuracy by condition -> accuracy to expect now
    :param peer_ratios: robot_id -> time at the peer over what its capacity promises
    :returns: in order of peers as given, then of options
    """
    if not remote or not peers or not front:
        return ()
    homes = _homes(front, home, accuracy_of)
    deadline = DEADLINE_S if deadline_s is None else deadline_s
    near = _nearest(peers, now_s, current_id)
    facts = [_facts(option, accuracy_of) for option in remote]
    found: List[FrontEntry] = []
    for peer in near:
        ways = _ways(facts, peer, (peer_ratios or {}).get(peer.robot_id, 1.0))
        keeps = _current(ways, peer, current_id)
        # Without a free lease the part leased already is all that may be asked for.
        most = max(1, MOST_OFFERS // len(near)) if peer.free_leases > 0 else 0
        for index in _worth(ways, most, keeps):
            way = ways[index]
            fallback = _fallback(way, homes, memory_budget_bytes, deadline,
                                 fallback_id if index == keeps else None)
            if fallback is not None:
                found.append(_entry(way, peer, fallback.entry))
    return tuple(found)


def _facts(option: RemoteOption, accuracy_of: AccuracyOf) -> _Facts:
    joules, payload = option.head_energy_j.mean, option.sent_bytes + option.received_bytes
    if option.coefficients is not None:
        awake_s = option.engine.threads * option.head_latency_s.mean + option.codec_s
        joules += (option.coefficients.idle_w * awake_s
                   + option.coefficients.joules_per_byte * payload)
    here_s = option.preprocess_s + option.head_latency_s.mean + option.codec_s
    return _Facts(option, here_s, joules, option.head_memory_bytes.mean, payload,
                  -accuracy_of(option.accuracy))


def _ways(facts: Sequence[_Facts], peer: PeerStatus, ratio: float) -> List[_Way]:
    """Return what fits at a peer, with the time that each takes by it."""
    # The times of `Away`, in one line: this runs for every option at every peer.
    away = _away(facts[0].option, peer)
    fixed_s = away.round_trip_s + DISPATCH_S * ratio
    per_byte_s, per_mac_s = 1.0 / away.bandwidth_bytes_per_s, ratio / away.capacity_macs_per_s
    return [_Way(fact, fact.here_s + fixed_s + fact.payload_bytes * per_byte_s
                 + fact.option.remote_macs * per_mac_s)
            for fact in facts if _fits_there(fact.option, peer)]


def _current(ways: Sequence[_Way], peer: PeerStatus, current_id: str) -> int:
    """Return which way is the candidate in force, -1 when none is."""
    if uses(current_id, peer.robot_id):
        for index, way in enumerate(ways):
            option = way.facts.option
            if current_id.startswith(option.variant_id + '/') and \
                    candidate_of(option, peer.robot_id).candidate_id == current_id:
                return index
    return -1


def _worth(ways: Sequence[_Way], most: int, keeps: int) -> List[int]:
    """
    Return which ways are offered: those that none beats in time, energy, memory and accuracy.

    Where that are too many: the best in each, and of the rest a spread over the accuracy.

    :param most: in all, beside `keeps`
    :param keeps: one that stays whatever beats it, -1 without one
    """
    kept = [keeps] if keeps >= 0 else []
    if most == 0:
        return kept
    best: List[int] = []
    beaten_by: List[_Facts] = []
    for i in sorted(range(len(ways)), key=lambda i: (ways[i].usual_s, ways[i].rest, i)):
        joules, memory, errors = ways[i].rest
        for f in beaten_by:
            if f.joules <= joules and f.memory_bytes <= memory and f.errors <= errors:
                break
        else:
            best.append(i)
            beaten_by.append(ways[i].facts)
    if len(best) > most:
        best.sort(key=lambda i: (ways[i].rest[2], i))
        spread = best[::-(-len(best) // most)]
        extremes = [best[0], min(best, key=lambda i: ways[i].usual_s),
                    min(best, key=lambda i: ways[i].facts.joules),
                    min(best, key=lambda i: ways[i].facts.memory_bytes)]
        best = list(dict.fromkeys([*extremes, *spread]))[:most]
    return sorted({*best, *kept})


def _nearest(peers: Sequence[PeerStatus], now_s: float, current_id: str) -> List[PeerStatus]:
    """Return the peers that can be asked, in their order; the nearest where there are many."""
    usable = [p for p in peers if not objection(p, now_s, in_use=uses(current_id, p.robot_id))]
    near = sorted(usable, key=lambda p: (not uses(current_id, p.robot_id),
                                         p.link_round_trip_s or 0.0, p.robot_id))[:MOST_PEERS]
    return [p for p in usable if p in near]


def _fits_there(option: RemoteOption, peer: PeerStatus) -> bool:
    needed, has = option.remote_memory_bytes, peer.memory_headroom_bytes
    return needed is None or has is None or needed <= has


def _away(option: RemoteOption, peer: PeerStatus) -> Away:
    capacity, bandwidth = peer.capacity_macs_per_s, peer.link_bandwidth_bytes_per_s
    round_trip_s = peer.link_round_trip_s
    assert capacity is not None, 'an eligible peer tells it'
    assert bandwidth is not None, 'an eligible peer has a measured link'
    assert round_trip_s is not None, 'an eligible peer has a measured link'
    return Away(peer.robot_id, option.remote_macs, capacity, option.sent_bytes,
                option.received_bytes, option.codec_s, bandwidth, round_trip_s)


def _homes(front: Sequence[FrontEntry], home: Sequence[CostEstimate], accuracy_of: AccuracyOf
           ) -> List[_Home]:
    """
    Return the ways to run here, best fallback first.

    One that may answer early is none: what a fallback takes has to be known before it runs.
    """
    known = {e.candidate.candidate_id: e for e in home}
    found = []
    for entry in (e for e in front if not e.exits):
        now = known.get(entry.candidate.candidate_id)
        found.append(_Home(
            entry, now.accuracy.mean if now else accuracy_of(entry.accuracy),
            now.latency_s.p95 if now else entry.latency_s.p95, entry.memory_bytes.mean))
    # By the table, not by the moment: a fallback that changes has to be prepared anew.
    return sorted(found, key=lambda h: (-h.accuracy, h.entry.latency_s.mean, h.memory_bytes,
                                        h.entry.candidate.candidate_id))


def _fallback(way: _Way, homes: Sequence[_Home], memory_budget_bytes: Optional[float],
              deadline_s: float, held_id: Optional[str]) -> Optional[_Home]:
    """
    Return who answers when the peer does not; None when nobody leaves the peer its time.

    :param held_id: who does now, for the candidate in force; None for others
    """
    if not homes:
        return None
    head = way.facts.memory_bytes
    fitting = [h for h in homes
               if memory_budget_bytes is None or head + h.memory_bytes <= memory_budget_bytes]
    if not fitting:
        fitting = [min(homes, key=lambda h: h.memory_bytes)]
    held = next((h for h in fitting if h.entry.candidate.candidate_id == held_id), None)
    if held is not None and held.latency_s <= deadline_s - way.usual_s:
        # A better one is prepared only where the times of both may waver without its going again.
        left_s = deadline_s / ENTRY_ROOM - way.usual_s
        better = fitting[:fitting.index(held)]
        return next((h for h in better if h.latency_s <= left_s), held)
    for room in (ENTRY_ROOM,) if held_id is None else (ENTRY_ROOM, 1.0):
        left_s = deadline_s - way.usual_s * room
        found = next((h for h in fitting if h.latency_s <= left_s), None)
        if found is not None:
            return found
    return None


def _entry(way: _Way, peer: PeerStatus, fallback: FrontEntry) -> FrontEntry:
    entry = _without_fallback(way.facts.option, _away(way.facts.option, peer))
    memory = entry.memory_bytes.mean + fallback.memory_bytes.mean
    return FrontEntry(
        entry.candidate, entry.accuracy, entry.latency_s,
        Estimate(memory, memory, fallback.memory_bytes.source), entry.energy_j, entry.macs,
        entry.words, entry.coefficients, entry.preprocess_s, entry.away,
        fallback.candidate.candidate_id, fallback.accuracy)


def _without_fallback(option: RemoteOption, away: Away) -> FrontEntry:
    return FrontEntry(
        candidate_of(option, away.robot_id), option.accuracy, option.head_latency_s,
        option.head_memory_bytes, option.head_energy_j, option.head_macs, option.head_words,
        option.coefficients, option.preprocess_s, away)


def entries_named(candidate_ids: Sequence[str], remote: Sequence[RemoteOption],
                  peers: Sequence[PeerStatus]) -> Tuple[FrontEntry, ...]:
    """
    Return the candidates of these names, so that what was measured of them teaches.

    Whether their peer may be asked at this moment does not matter; its figures must be known.
    Without a fallback: not to be chosen.

    :param candidate_ids: as feedback names them; names of others are passed over
    """
    found = []
    for name in candidate_ids:
        for peer in peers:
            if not uses(name, peer.robot_id) or not _is_known(peer):
                continue
            for option in remote:
                if name.startswith(option.variant_id + '/') and \
                        candidate_of(option, peer.robot_id).candidate_id == name:
                    found.append(_without_fallback(option, _away(option, peer)))
    return tuple(found)


def _is_known(peer: PeerStatus) -> bool:
    return _is_rate(peer.capacity_macs_per_s) and _has_link(peer)
