# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The drone's engine killed and stopped in the middle of a request: no frame is lost."""
from __future__ import annotations

import signal
from dataclasses import dataclass
from pathlib import Path
from typing import List, Optional, Sequence, Tuple

from benchmarks._pair_rig import HELPER, NEWEST, Rig, in_work, spoiled
from crowdhmt_ros.cli.figures import HIGHER, LOWER, Figure, claim, inform

TIMES, QUICK_TIMES = 20, 3
TRIES_RATIO = 2
DOWN_S = 1.0
STOPPED_S = 1.5
RETURN_TIMEOUT_S = 30.0
RETURN_BOUND_S = 5.0
SLOW = 4
"""The drone runs each request so many times over: long enough to be hit in the middle."""
CLAIMS = {'peer_kill_frames_lost': (0, LOWER), 'peer_return_s': (RETURN_BOUND_S, LOWER),
          'peer_hits': (2 * TIMES, HIGHER)}


@dataclass(frozen=True)
class Fault:
    """
    One signal to the drone's engine.

    :param kind: 'kill' or 'stop'
    :param hit: whether a frame was in work at that moment, and the fallback answered it
    :param return_s: from the engine running again to the next frame that it answered, None when
        it did not come back
    """

    kind: str
    hit: bool
    return_s: Optional[float]


@dataclass(frozen=True)
class Outcome:
    """Faults of one run, and what the separate counter found after it."""

    faults: Tuple[Fault, ...]
    frames: int
    lost: int
    doubled: int
    late_ratio: float


def one_fault(rig: Rig, kind: str) -> Fault:
    """Hit the engine once, have it run again, and wait for its help."""
    at_ns = rig.hit(signal.SIGKILL if kind == 'kill' else signal.SIGSTOP)
    rig.wait(DOWN_S if kind == 'kill' else STOPPED_S)
    struck = in_work(rig.watch.answers[-NEWEST:], at_ns)
    again_ns = rig.revive() if kind == 'kill' else rig.carry_on()
    return_s = rig.help_after(again_ns, RETURN_TIMEOUT_S)
    rig.until(lambda: rig.watch.is_steady(again_ns), RETURN_TIMEOUT_S, 'no steady help')
    return Fault(kind, struck is not None and struck.degraded, return_s)


def run_faults(folder: Path, kind: str, times: int) -> Outcome:
    """
    Run the pair and hit the engine until so many hits were in the middle of a request.

    :param folder: existing and empty
    :raises CrowdHMTError: when the pair does not run
    """
    faults: List[Fault] = []
    with Rig(folder, own_parameters={HELPER: {'offload_server:backend_repeat': SLOW}}) as rig:
        while sum(f.hit for f in faults) < times and len(faults) < TRIES_RATIO * times:
            faults.append(one_fault(rig, kind))
    counted = rig.counted()
    lost, doubled = spoiled(counted)
    return Outcome(tuple(faults), int(counted['emitted']), lost, doubled,
                   float(counted['late_ratio']))


def figures_of(outcomes: Sequence[Outcome], times: int) -> List[Figure]:
    """
    Return the figures of all runs.

    :param times: hits that were asked for, of each kind
    """
    faults = [fault for outcome in outcomes for fault in outcome.faults]
    hits = sum(fault.hit for fault in faults)
    returns = [fault.return_s for fault in faults]
    known = sorted(r for r in returns if r is not None)
    doubled = sum(outcome.doubled for outcome in outcomes)
    how = '%d frames, %d faults (%s)' % (
        sum(o.frames for o in outcomes), len(faults), ', '.join(
            '%d x %s' % (sum(f.kind == kind for f in faults), kind) for kind in ('kill', 'stop')))
    return [
        claim('peer_kill_frames_lost', sum(o.lost for o in outcomes), 0, better=LOWER,
              also=doubled == 0, how='%s, counted by a separate process; doubled or unknown %d' % (
                  how, doubled)),
        claim('peer_hits', hits, len(outcomes) * times, better=HIGHER,
              how='faults in the middle of a request, whose frame the fallback answered'),
        claim('peer_return_s', max(known) if known and len(known) == len(returns) else None,
              RETURN_BOUND_S, better=LOWER, how='the longest of %d, from the engine running again '
              '(started, or continued) to the next frame that it answered' % len(returns)),
        *(inform('peer_return_s/%s' % kind, _median([
            f.return_s for f in faults if f.kind == kind and f.return_s is not None]),
            how='median') for kind in ('kill', 'stop')),
        inform('peer_fault_late_ratio', max((o.late_ratio for o in outcomes), default=None),
               how='answers older than two frame periods, faults included')]


def _median(values: Sequence[float]) -> Optional[float]:
    return sorted(values)[len(values) // 2] if values else None


def fault_figures(folder: Path, *, quick: bool) -> List[Figure]:
    """Return the figures of 20 kills and 20 stops, 3 each when quick."""
    times = QUICK_TIMES if quick else TIMES
    outcomes = []
    for kind in ('kill', 'stop'):
        out = folder / kind
        out.mkdir(parents=True)
        outcomes.append(run_faults(out, kind, times))
    return figures_of(outcomes, times)
