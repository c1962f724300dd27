# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
How many threads an engine gets, whether they spin, and on which cores they run (P III-C1).

Pure: what the cores do at this moment and what the segment takes on an idle machine go in, a
schedule with its reason comes out. Two things decide. A thread that spins while it waits is the
fastest on a core of its own, and on a shared core it burns its share without working. And the
thread that hands out the work must never share a core while another one is free: a helper that
is off the processor costs its own part only, for the rest is done without it.
"""
from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from crowdhmt_ros.types import CoreLoad, EngineOptions

ENTER_CORES, LEAVE_CORES = 0.6, 0.35
"""So many cores of load make a neighbour, and so few end it: sharing halves what it shows."""
FULL_RATIO = 0.05
"""With less idle time than this per core, others would take more if they got it."""
STAY_RATIO = 0.25
"""Another core must be freer by this before threads are moved."""
BLOCKING_COST = 1.08
"""Of several threads that sleep between operators over ones that spin, nobody beside them."""
SPINNING_WASTE = 1.15
"""Of threads that spin on shared cores: what they burn of their own share by waiting."""
WORTH_RATIO = 0.97
"""More threads must gain at least this much: they take cores that others may want."""


class Setting(NamedTuple):
    """What an executable is compiled for."""

    threads: int = 1
    spinning: bool = False


@dataclass(frozen=True)
class Work:
    """
    What is to be scheduled.

    :param latency_s: setting -> seconds on the idle machine, as far as measured; a setting that
        is missing is derived from its like, or not considered
    :param max_threads: as many as the plan allows
    :param may_spin: whether the engine gives that choice
    :param may_place: whether the engine's threads can be told where to run
    :param accelerated: whether another processor than this computes
    """

    latency_s: Mapping[Setting, float]
    max_threads: int
    may_spin: bool = True
    may_place: bool = True
    accelerated: bool = False


@dataclass(frozen=True)
class Schedule:
    """
    How an engine is to run from now on.

    :param setting: what it has to be compiled for
    :param cores: that its threads may use; () for all that the process may use
    :param pinned: whether thread i runs on core i of `cores` alone, the caller's first
    :param neighbours: how many busy threads of others were found
    :param expected_s: latency by the model, None where nothing was measured
    :param reason: for people
    """

    setting: Setting
    cores: Tuple[int, ...] = ()
    pinned: bool = False
    neighbours: int = 0
    expected_s: Optional[float] = None
    reason: str = ''

    def arranged(self, options: EngineOptions) -> EngineOptions:
        """Return engine options with this setting, never more threads than they had."""
        return replace(options, threads=min(options.threads, self.setting.threads),
                       spinning=self.setting.spinning and options.threads > 1)


def decide(work: Work, cores: Sequence[CoreLoad], previous: Optional[Schedule] = None
           ) -> Schedule:
    """
    Choose how an engine runs beside what others do at this moment.

    :param work: what it has to do
    :param cores: those that the process may use, as they were lately; () where unknown
    :param previous: in force while `cores` were looked at
    """
    if work.accelerated:
        return _feeding(work)
    if not cores:
        return Schedule(Setting(work.max_threads), reason='nothing is known of the cores: '
                        'threads sleep while they wait')
    neighbours = count_neighbours(cores, previous)
    order = _freest_first(cores, previous)
    beside = _beside(order, neighbours)
    options = [_predict(work, setting, order, beside) for setting in _settings(work, len(cores))]
    limit_s = min(option.expected_s for option in options) / WORTH_RATIO
    best = [option for option in options if option.expected_s <= limit_s][-1]
    measured = any(math.isfinite(s) for s in work.latency_s.values())
    return Schedule(best.setting, best.cores, best.pinned, neighbours,
                    best.expected_s if measured else None,
                    _reason(best, neighbours, cores, measured))


def _feeding(work: Work) -> Schedule:
    """
    Return how an accelerator is fed: by one thread, and none waits for it by spinning.

    The operators that it does not know are computed here. More threads have to be worth it.
    """
    known = {s.threads: t for s, t in work.latency_s.items() if not s.spinning}
    limit_s = min(known.values(), default=math.inf) / WORTH_RATIO
    threads = min(n for n, t in known.items() if t <= limit_s) if 1 in known else 1
    return Schedule(Setting(threads), expected_s=known.get(threads), reason=(
        'another processor computes: one thread feeds it' if threads == 1 else
        'another processor computes: %d threads feed it and do what it leaves' % threads))


def count_neighbours(cores: Sequence[CoreLoad], previous: Optional[Schedule] = None) -> int:
    """
    Return how many threads of others want a core of their own.

    Where idle time is left, they get what they want, so it is their load. Where none is, all get
    equal parts: their number is to ours as their load is to ours. More than one a core changes
    nothing.

    :param cores: as they were lately
    :param previous: what we ran meanwhile
    """
    others = sum(core.others_ratio for core in cores)
    idle = sum(core.idle_ratio for core in cores)
    known = previous is not None and previous.neighbours > 0
    if others < (LEAVE_CORES if known else ENTER_CORES):
        return 0
    count = others
    own = len(cores) - others - idle
    if idle < FULL_RATIO * len(cores) and previous is not None and own > 0.0:
        count = max(count, previous.setting.threads * others / own)
    return max(1, min(len(cores), int(count + 0.4)))


class _Option(NamedTuple):
    setting: Setting
    cores: Tuple[int, ...]
    pinned: bool
    expected_s: float


def _settings(work: Work, core_count: int) -> List[Setting]:
    """Return what could be compiled, what takes the least of the machine last."""
    most = max(1, min(work.max_threads, core_count))
    found = []
    for threads in range(most, 0, -1):
        if threads == 1 or not _known(work, most) or _known(work, threads):
            spin = work.may_spin and threads > 1
            found += [Setting(threads, True)] if spin else []
            found.append(Setting(threads))
    return found


def _known(work: Work, threads: int) -> bool:
    return any(Setting(threads, spin) in work.latency_s for spin in (False, True))


def _idle_latency_s(work: Work, setting: Setting) -> float:
    """Return seconds on the idle machine; where nothing was measured, one thread takes 1 s."""
    found = work.latency_s.get(setting)
    if found is not None:
        return found
    like = work.latency_s.get(setting._replace(spinning=not setting.spinning))
    cost = BLOCKING_COST if setting.threads > 1 else 1.0
    if like is not None:
        return like / cost if setting.spinning else like * cost
    if setting.threads == 1 and not setting.spinning:
        return min((s.threads * t for s, t in work.latency_s.items()), default=1.0)
    return _idle_latency_s(work, Setting()) / setting.threads * (
        1.0 if setting.spinning else cost)


def _predict(work: Work, setting: Setting, order: Sequence[int], beside: Mapping[int, int]
             ) -> _Option:
    """Return where a setting would run, and how long it would take there."""
    threads = setting.threads
    alone_s = _idle_latency_s(work, setting)
    free = tuple(core for core in order if not beside[core])
    if threads <= len(free):
        everywhere = len(free) == len(order) or threads == 1 or not work.may_place
        return _Option(setting, () if everywhere else tuple(sorted(free)), False, alone_s)
    chosen = tuple(order[:threads])
    shares = [1.0 / (1 + beside[core]) for core in chosen]
    if setting.spinning or threads == 1:
        waste = SPINNING_WASTE if setting.spinning else 1.0
        return _Option(setting, (), False, alone_s / min(shares) * waste)
    if not free or not work.may_place:
        return _Option(setting, (), False, alone_s * threads / sum(shares))
    single_s = _idle_latency_s(work, Setting())
    helper = max(0.0, single_s / alone_s * BLOCKING_COST - 1.0) / (threads - 1)
    # Squared: what a helper holds when it is put off the processor is waited for.
    speed = shares[0] + helper * sum(share * share for share in shares[1:])
    return _Option(setting, chosen, True, single_s / speed)


def _freest_first(cores: Sequence[CoreLoad], previous: Optional[Schedule]) -> List[int]:
    """Return the cores, the least used by others first; those in use keep their rank."""
    load: Dict[int, float] = {core.core: core.others_ratio for core in cores}
    order = sorted(load, key=lambda core: (load[core], core))
    kept = [c for c in (previous.cores if previous is not None and previous.pinned else ())
            if c in load]
    if kept and load[kept[0]] <= load[order[0]] + STAY_RATIO:
        order = kept + [core for core in order if core not in kept]
    return order


def _beside(order: Sequence[int], neighbours: int) -> Dict[int, int]:
    """Return core -> threads of others on it, the most used cores first."""
    each, rest = divmod(neighbours, len(order))
    return {core: each + (rank >= len(order) - rest) for rank, core in enumerate(order)}


def _reason(best: _Option, neighbours: int, cores: Sequence[CoreLoad], measured: bool) -> str:
    load = ', '.join('core %d %.0f %%' % (c.core, 100 * c.others_ratio) for c in cores)
    text = '%s (others: %s): %s' % (
        'nobody else is busy' if not neighbours else '%d busy thread%s of others' % (
            neighbours, '' if neighbours == 1 else 's'), load, _manner(best))
    return text + (', %.3g ms expected' % (1e3 * best.expected_s) if measured else '')


def _manner(best: _Option) -> str:
    setting = best.setting
    text = '1 thread' if setting.threads == 1 else '%d threads that %s while they wait' % (
        setting.threads, 'spin' if setting.spinning else 'sleep')
    if best.pinned:
        text += ', the first on core %d, its helpers on %s' % (
            best.cores[0], ', '.join(map(str, best.cores[1:])))
    elif best.cores:
        text += ', on the free cores %s' % ', '.join(map(str, best.cores))
    return text
