# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
What feedback teaches about the latency table (the online correction of P III-D1).

A correction is a ratio: inference measured over tabulated. Three things move it:

1. The candidate ran: its ratio follows the median of the window, its spread the 95th percentile.
2. Another candidate ran and its own, already settled ratio changed: whatever changed it (a
   neighbour, a lower clock) slows all, so every other ratio is scaled by the same change at once.
3. Time: a candidate that does not run drifts towards the ratio of those that do, and the frames
   that its correction rests on fade, until it is forgotten. So a verdict of one bad minute does
   not last for ever, and is not revised every other second either.

A candidate without a correction is taken to be as slow as the measured ones (`common_ratio`).

A peer has a correction of its own, under the id 'peer:ROBOT_ID': its time measured over what its
advertised rate promises. Another machine says nothing about this one, so it neither enters the
common ratio nor moves with it. A candidate that a peer helps has a ratio too; it is about the
part that stays here.

A candidate that may answer early has two: one for the machine, taken of frames as if all were of
mean depth, and under 'depth:CANDIDATE_ID' one for how deep frames go, which is no other
candidate's concern.

Preprocessing has no ratio. It depends on the frames of this camera and not on the candidate, so
its time itself is smoothed (`absorb_preprocess`).
"""
from __future__ import annotations

import math
from dataclasses import replace
from typing import Dict, List, Mapping, Optional, Sequence, Tuple

from crowdhmt_ros.profiling.exits import depth_of, per_frame
from crowdhmt_ros.profiling.latency import spread, summarise
from crowdhmt_ros.types import Away, CostCorrection, Feedback, FrontEntry

LOWEST_RATIO, HIGHEST_RATIO = 0.25, 20.0
"""No correction leaves this range: beyond it the table is wrong, not the moment."""
WARM_UP_FRAMES = 2
"""First frames of a new candidate: cold caches and page faults, not its latency."""
SLOWEST_GAIN = 0.3
"""Weight of a window of `FULL_WINDOW` frames against all that was learned before."""
FULL_WINDOW = 5
SPREAD_GAIN = 0.15
FRESH_S = 1.0
"""A window opens with its first answer: one that began so soon after a switch holds warm-up."""
SETTLED_SAMPLES = 20
"""Frames after which a change of a ratio is the machine's, not the table's."""
MOST_SAMPLES = 1000
FADE = 0.97
"""What remains of an unused correction's weight, and of its distance from the common ratio."""

PEER = 'peer:'
AWAY_SPREAD = 1.5
"""95th percentile over centre of the way to a peer and back, until it was measured."""
PEER_FADE = 0.9
"""As `FADE`, for peers: a link that was bad is tried again before the minute is over."""
DEGRADED_GAIN = 0.3
"""Weight of a window of `FULL_WINDOW` frames given to peers against all before."""
DEGRADED_FADE = 0.9
"""What remains of the share of degraded answers after a second without a frame for peers."""


DEPTH = 'depth:'
DEPTH_GAIN = 0.05
"""As `SLOWEST_GAIN`, for how deep frames go: single frames differ by more than the mean moves."""
APART = (PEER, DEPTH)
"""What such corrections say does not hold for candidates as a whole."""


def depth_id(candidate_id: str) -> str:
    """Return the name of the correction for how deep a candidate's frames go."""
    return DEPTH + candidate_id


def peer_id(robot_id: str) -> str:
    """Return the name of a peer's correction."""
    return PEER + robot_id


def peer_ratios(corrections: Sequence[CostCorrection]) -> Dict[str, float]:
    """Return robot_id -> time at that peer over what its advertised rate promises."""
    return {c.candidate_id[len(PEER):]: c.latency_ratio for c in corrections
            if c.candidate_id.startswith(PEER)}


def common_ratio(corrections: Sequence[CostCorrection]) -> Optional[float]:
    """
    Return the slowdown that all candidates share: the median ratio, weighted by frames.

    Those of peers and of depths do not count.

    :param corrections: what is known; unused ones weigh less with time
    :returns: None while nothing was measured
    """
    ordered = sorted((c for c in corrections if not c.candidate_id.startswith(APART)),
                     key=lambda c: (c.latency_ratio, c.candidate_id))
    half, seen = sum(c.samples for c in ordered) / 2.0, 0
    for correction in ordered:
        seen += correction.samples
        if seen >= half and correction.samples > 0:
            return correction.latency_ratio
    return None


def absorb(corrections: Sequence[CostCorrection], feedbacks: Sequence[Feedback],
           front: Sequence[FrontEntry], *, current_id: str = '',
           current_since_s: float = -math.inf) -> Tuple[CostCorrection, ...]:
    """
    Return the corrections after these feedbacks.

    A feedback teaches about the candidate that it names, whichever plan is in force now.
    Candidates outside the front and windows without usable frames teach nothing.

    :param corrections: known so far
    :param feedbacks: windows in any order
    :param front: holds the tabulated latencies, and what peers compute
    :param current_id: candidate in force
    :param current_since_s: since when, node clock; a window that begins by `FRESH_S` later
        holds its warm-up
    :returns: in order of candidate_id
    """
    wanted = {f.candidate_id for f in feedbacks}
    named = {e.candidate.candidate_id: e for e in front if e.candidate.candidate_id in wanted}
    table = {name: e.latency_s.mean for name, e in named.items() if e.latency_s.mean > 0.0}
    known = {c.candidate_id: c for c in corrections}
    measured: List[str] = []
    for feedback in sorted(feedbacks, key=lambda f: (f.stamp_s, f.plan_seq, f.candidate_id)):
        entry = named.get(feedback.candidate_id)
        if entry is not None and entry.away is not None:
            measured += _learn_peer(known, feedback, entry.away)
        if entry is not None and entry.exits:
            measured += _learn_depth(known, feedback, entry)
        before = known.get(feedback.candidate_id)
        began_s = feedback.stamp_s - feedback.window_s
        fresh = before is None or (feedback.candidate_id == current_id
                                   and began_s <= current_since_s + FRESH_S)
        times = [] if entry is None else _usable_times(
            per_frame(entry, feedback), feedback.degraded, skip=WARM_UP_FRAMES if fresh else 0)
        if feedback.candidate_id not in table or not times:
            continue
        after = _learn(feedback.candidate_id, before, common_ratio(tuple(known.values())),
                       times, table[feedback.candidate_id])
        if before is not None and before.samples >= SETTLED_SAMPLES:
            known = _scale_others(known, after, after.latency_ratio / before.latency_ratio)
        known[after.candidate_id] = after
        measured.append(after.candidate_id)
    return _age(known, measured) if measured else _ordered(known)


def _usable_times(infer_s: Sequence[float], degraded: int, *, skip: int) -> List[float]:
    """Return the times of the engine; the longest are left out where a fallback ran as well."""
    times = [t for t in infer_s[skip:] if math.isfinite(t) and t > 0.0]
    return sorted(times)[:-degraded] if degraded else times


def _learn_depth(known: Dict[str, CostCorrection], feedback: Feedback, entry: FrontEntry
                 ) -> List[str]:
    """Let one window teach how deep frames go; returns the id of the correction."""
    depths = depth_of(entry, feedback)
    if not depths:
        return []
    name = depth_id(entry.candidate.candidate_id)
    before = known.get(name, CostCorrection(name, 1.0, 1.0, 0))
    gain = DEPTH_GAIN * min(1.0, len(depths) / FULL_WINDOW)
    ratio = before.latency_ratio + gain * (sum(depths) / len(depths) - before.latency_ratio)
    known[name] = CostCorrection(name, _clamp(ratio), 1.0,
                                 min(MOST_SAMPLES, before.samples + len(depths)))
    return [name]


def _learn_peer(known: Dict[str, CostCorrection], feedback: Feedback, away: Away) -> List[str]:
    """Let one window teach about the peer that helped in it; returns the id of its correction."""
    rows = [row for row in zip(feedback.link_s, feedback.remote_queue_s, feedback.remote_infer_s)
            if all(math.isfinite(t) and t >= 0.0 for t in row)]
    name = peer_id(away.robot_id)
    before = known.get(name)
    rows = rows[WARM_UP_FRAMES:] if before is None else rows
    if not rows:
        return []
    after = _learn(name, before, None, [queue + infer for _, queue, infer in rows],
                   away.remote_s)
    # The spread is that of the whole way: on a radio link it is the link's more than the peer's.
    way = summarise([sum(row) for row in rows])
    seen, gain = spread(way.mean, way.p95), SPREAD_GAIN * min(1.0, len(rows) / FULL_WINDOW)
    start = before.spread_ratio if before is not None else seen
    known[name] = replace(after, spread_ratio=start + gain * (seen - start))
    return [name]


def absorb_degraded(ratio: float, feedbacks: Sequence[Feedback]) -> float:
    """
    Return the smoothed share of frames given to peers that a fallback answered.

    It fades while nothing is given to peers, so that one bad minute is not held against all
    peers for ever.

    :param ratio: known so far, 0 at first
    :param feedbacks: windows in any order
    :returns: 0..1
    """
    for feedback in sorted(feedbacks, key=lambda f: (f.stamp_s, f.plan_seq, f.candidate_id)):
        given = max(feedback.degraded, sum(1 for s in feedback.offload_s if s is not None))
        if given > 0:
            gain = DEGRADED_GAIN * min(1.0, given / FULL_WINDOW)
            ratio += gain * (min(1.0, feedback.degraded / given) - ratio)
        elif feedback.window_s > 0.0 and math.isfinite(feedback.window_s):
            ratio *= DEGRADED_FADE ** min(60.0, feedback.window_s)
    return ratio


def absorb_preprocess(preprocess_s: Optional[float], feedbacks: Sequence[Feedback]
                      ) -> Optional[float]:
    """
    Return the smoothed time from frame to tensor after these feedbacks.

    Each window counts by its median, whichever candidate ran.

    :param preprocess_s: known so far, None at first
    :param feedbacks: windows in any order
    :returns: None while nothing was measured
    """
    for feedback in sorted(feedbacks, key=lambda f: (f.stamp_s, f.plan_seq, f.candidate_id)):
        skip = WARM_UP_FRAMES if preprocess_s is None else 0
        times = [t for t in feedback.preprocess_s[skip:] if math.isfinite(t) and t >= 0.0]
        if not times:
            continue
        seen = summarise(times).mean
        gain = SLOWEST_GAIN * min(1.0, len(times) / FULL_WINDOW)
        preprocess_s = seen if preprocess_s is None else \
            preprocess_s + gain * (seen - preprocess_s)
    return preprocess_s


def _clamp(ratio: float) -> float:
    return min(HIGHEST_RATIO, max(LOWEST_RATIO, ratio))


def _learn(candidate_id: str, before: Optional[CostCorrection], common: Optional[float],
           times: Sequence[float], tabulated_s: float) -> CostCorrection:
    seen = summarise(times)
    count = len(times)
    ratio, spread_ratio = _clamp(seen.mean / tabulated_s), spread(seen.mean, seen.p95)
    if before is None:
        start = common if common is not None else ratio
        gain = count / (count + float(FULL_WINDOW))
        return CostCorrection(candidate_id, _clamp(start + gain * (ratio - start)),
                              spread_ratio, count)
    settled = SLOWEST_GAIN * min(1.0, count / FULL_WINDOW)
    gain = max(settled, count / float(count + before.samples + FULL_WINDOW))
    gained = SPREAD_GAIN * min(1.0, count / FULL_WINDOW)
    return CostCorrection(
        candidate_id,
        _clamp(before.latency_ratio + gain * (ratio - before.latency_ratio)),
        before.spread_ratio + gained * (spread_ratio - before.spread_ratio),
        min(MOST_SAMPLES, before.samples + count))


def _scale_others(known: Mapping[str, CostCorrection], cause: CostCorrection,
                  change: float) -> Dict[str, CostCorrection]:
    return {name: c if name == cause.candidate_id or name.startswith(APART) else CostCorrection(
        name, _clamp(c.latency_ratio * change), c.spread_ratio, c.samples)
        for name, c in known.items()}


def _age(known: Mapping[str, CostCorrection], measured: Sequence[str]
         ) -> Tuple[CostCorrection, ...]:
    common = common_ratio([known[name] for name in sorted(set(measured))])
    kept = {}
    for name, c in known.items():
        if name in measured:
            kept[name] = c
        elif name.startswith(PEER):
            kept[name] = _faded(c, PEER_FADE, 1.0, AWAY_SPREAD)
        elif name.startswith(DEPTH):
            kept[name] = _faded(c, FADE, 1.0, 1.0)
        else:
            kept[name] = c if common is None else _faded(c, FADE, common, c.spread_ratio)
    return _ordered({name: c for name, c in kept.items() if c.samples > 0})


def _faded(c: CostCorrection, fade: float, ratio: float, spread_ratio: float) -> CostCorrection:
    """Return a correction that was not used, a step nearer to what is assumed without it."""
    return CostCorrection(c.candidate_id, ratio + fade * (c.latency_ratio - ratio),
                          spread_ratio + fade * (c.spread_ratio - spread_ratio),
                          int(c.samples * fade))


def _ordered(known: Mapping[str, CostCorrection]) -> Tuple[CostCorrection, ...]:
    return tuple(known[name] for name in sorted(known))
