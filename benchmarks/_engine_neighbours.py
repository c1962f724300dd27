# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
An engine beside a busy neighbour, and alone: ONNX Runtime's defaults against the schedule.

Two threads are allowed. The neighbour is an endless loop in a process of its own at the usual
priority, in the session of the engines: Linux groups processes by session when it shares the
processor, and robots start all of theirs in one. Both engines stay loaded in processes of their
own and run in turns, never at once; a turn begins when all threads of the one before sleep, for
those of ONNX Runtime spin on for 50 ms of processor time behind an answer and would be another
neighbour. Nothing tells ours of the neighbour but the counters of the kernel. The median of a
turn is one time; the control is a second process of ONNX Runtime's.
"""
from __future__ import annotations

import contextlib
import functools
import hashlib
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import (
    Any,
    Callable,
    Dict,
    Iterator,
    List,
    Mapping,
    NamedTuple,
    Optional,
    Sequence,
    Tuple,
)

import numpy as np
import onnx
import torch

from benchmarks import parts, timing
from benchmarks.lanes import Lane
from crowdhmt_ros.cli.figures import HIGHER, LOWER, Figure, inform
from crowdhmt_ros.elastic.backbones import BACKBONES
from crowdhmt_ros.elastic.export import to_onnx

CHILD = 'benchmarks._engine_neighbours_child'
NETWORKS = {'resnet18': ('resnet18', 224), 'mobilenet_v2': ('mobilenet_v2', 224),
            'resnet18@32': ('resnet18', 32)}
HEAD = 'resnet18'
"""Beside other neighbours, too."""
GAIN, COST = 1.3, 1.03
CLAIMS: parts.Claims = {
    **{'busy_neighbour_gain/' + name: (GAIN, HIGHER) for name in NETWORKS},
    **{'quiet_cost/' + name: (COST, LOWER) for name in NETWORKS}}
PROCESSES, MOST_PROCESSES, TURNS, ADAPT_EVERY = 5, 12, 40, 20
QUICK_TURNS, INFORMING_TURNS = 3, 8
TURN_S, BUSY_TURN_S, LEAST_RUNS = 0.1, 0.4, 5
"""A turn of runs would take so long on the idle machine, or a little more; beside a neighbour
it is longer, as the system moves threads in periods of its own."""
GAP_S, MOST_GAP_S = 0.01, 5.0
"""Between turns, and until an engine that does not come to rest is an error."""
BUSY_LOOP = 'while True: pass'
RUNNABLE = 'R'
CLASSES = 1000


class Condition(NamedTuple):
    """
    What runs beside the engines.

    :param neighbours: endless loops
    :param core: on which they are kept, None where the system decides
    :param own_session: whether they are a session of their own
    """

    neighbours: int
    core: Optional[int] = None
    own_session: bool = False

    def __str__(self) -> str:
        """Return it in words."""
        where = '' if self.core is None else ' on core %d' % self.core
        return '%d busy loop%s%s in %s session' % (
            self.neighbours, 's' * (self.neighbours != 1), where,
            'their own' if self.own_session else 'the same')


class Turns(NamedTuple):
    """
    What engines did in turns.

    :param rounds: title -> median seconds of a turn, by round
    :param times_s: title -> seconds of each run
    :param reasons: why ours ran as it did, by process
    """

    rounds: List[Dict[str, float]]
    times_s: Dict[str, List[float]]
    reasons: List[str]


def figures(quick: bool) -> List[Figure]:
    """Measure beside a neighbour and alone; other neighbours inform."""
    found: List[Figure] = []
    with tempfile.TemporaryDirectory() as folder:
        for name in [HEAD] if quick else NETWORKS:
            network = Network(Path(folder), name, quick=quick)
            for key, make in (('busy_neighbour_gain', busy_figure),
                              ('quiet_cost', quiet_figure)):
                found += parts.tried(('%s/%s' % (key, name),), CLAIMS,
                                     functools.partial(_alone, make, network, quick))
            if name == HEAD and not quick:
                found += other_neighbours(network)
    return found


Measure = Callable[['Network', bool], Figure]


def _alone(measure: Measure, network: Network, quick: bool) -> List[Figure]:
    return [measure(network, quick)]


class Network:
    """An untrained backbone in a folder, with its times on this machine alone."""

    def __init__(self, folder: Path, name: str, *, quick: bool) -> None:
        self.title = name
        backbone, edge = NETWORKS[name]
        torch.manual_seed(0)
        net = BACKBONES[backbone](CLASSES, edge=edge).eval()
        path = folder / (self.title + '.onnx')
        onnx.save_model(to_onnx(net, torch.zeros(1, 3, edge, edge)), path)
        self.said: Mapping[str, Any] = {
            'name': self.title, 'sha256': hashlib.sha256(path.read_bytes()).hexdigest(),
            'path': str(path), 'plain_path': str(path), 'weight_bytes': path.stat().st_size,
            'inputs': [('image', 'float32', (1, 3, edge, edge))],
            'outputs': [('logits', 'float32', (1, CLASSES))]}
        self.times_s: Mapping[str, float] = timing.in_fresh_process(
            CHILD, {'how': 'alone', 'said': self.said, 'runs': 11 if quick else 31})

    def runs(self, condition: Condition) -> int:
        """Return how many runs a turn has beside neighbours, or alone."""
        turn_s = BUSY_TURN_S if condition.neighbours else TURN_S
        return max(LEAST_RUNS, math.ceil(turn_s / min(self.times_s.values())))


def until_asleep(pid: int, *, most_s: float = MOST_GAP_S) -> None:
    """
    Wait until no thread of a process runs or wants to.

    :raises RuntimeError: after `most_s`
    """
    end_s = time.monotonic() + most_s
    time.sleep(GAP_S)
    while any(state == RUNNABLE for state in _states(pid)):
        if time.monotonic() > end_s:
            raise RuntimeError('an engine that has answered still runs after %.0f s' % most_s)
        time.sleep(GAP_S)


def _states(pid: int) -> Iterator[str]:
    for path in Path('/proc/%d/task' % pid).glob('*/stat'):
        with contextlib.suppress(OSError):  # that thread has ended
            yield path.read_text().rpartition(')')[2].split()[0]


def _end(process: subprocess.Popen[Any]) -> None:
    process.kill()
    process.wait()


@contextlib.contextmanager
def beside(condition: Condition) -> Iterator[None]:
    """Let neighbours run."""
    loops: List[subprocess.Popen[Any]] = []
    try:
        for _ in range(condition.neighbours):
            loop = subprocess.Popen([sys.executable, '-c', BUSY_LOOP],
                                    start_new_session=condition.own_session)
            loops.append(loop)
            if condition.core is not None:
                os.sched_setaffinity(loop.pid, {condition.core})
        yield
    finally:
        for loop in loops:
            _end(loop)


THEIRS, AGAIN, OURS = 'theirs', 'theirs again', 'ours'


def in_turns(network: Network, condition: Condition, titles: Sequence[str], turns: int) -> Turns:
    """
    Run engines in turns, each in a fresh process.

    :param titles: of `THEIRS`, `AGAIN`, `OURS`; ours last
    """
    found = Turns([], {title: [] for title in titles}, [])
    with beside(condition), contextlib.ExitStack() as stack:
        engines = {title: stack.enter_context(Lane(CHILD, {
            'how': OURS if title == OURS else THEIRS, 'said': network.said,
            'times_s': network.times_s}, rest=until_asleep)) for title in titles}
        runs = network.runs(condition)
        for turn in range(turns):
            if turn % ADAPT_EVERY == 0:
                reason = engines[OURS].ask({'do': 'adapt'})['reason']
            times_s = {}
            for title in timing.order(titles, turn):
                times_s[title] = engines[title].ask({'do': 'run', 'runs': runs})
                found.times_s[title] += times_s[title]
            found.rounds.append({t: statistics.median(s) for t, s in times_s.items()})
        found.reasons.append(reason)
    return found


def gathered(network: Network, condition: Condition, quick: bool, *, inverse: bool
             ) -> Tuple[timing.Compared, Turns]:
    """
    Run ours, theirs and theirs again in fresh processes until the control is narrow.

    :param inverse: theirs over ours, not ours over theirs
    """
    def measure() -> List[Turns]:
        return [in_turns(network, condition, (THEIRS, AGAIN, OURS),
                         QUICK_TURNS if quick else TURNS)]

    def control(found: Sequence[Turns]) -> timing.Ratio:
        return timing.median_ratio([(r[THEIRS], r[AGAIN]) for t in found for r in t.rounds])
    found = timing.gathered(measure, control, least=1 if quick else PROCESSES,
                            most=1 if quick else MOST_PROCESSES)
    rounds = [r for t in found for r in t.rounds]
    pairs = [(r[OURS], r[THEIRS]) if inverse else (r[THEIRS], r[OURS]) for r in rounds]
    merged = {title: [s for t in found for s in t.times_s[title]] for title in (THEIRS, OURS)}
    return (timing.Compared(timing.median_ratio(pairs), control(found)),
            Turns(rounds, merged, [t.reasons[-1] for t in found]))


def busy_figure(network: Network, quick: bool) -> Figure:
    """Return what is gained beside one busy neighbour; the slowest runs count as well."""
    found, turns = gathered(network, Condition(1), quick, inverse=True)
    theirs, ours = _tails_s(turns)
    return timing.claim_ratio(
        'busy_neighbour_gain/' + network.title, {'': found}, GAIN, better=HIGHER,
        also=ours <= theirs, how="%s, two threads, %s: ONNX Runtime's defaults over ours, whose "
        '95th percentile must not be above theirs; %s' % (
            network.title, Condition(1), _told(network, Condition(1), turns)))


def quiet_figure(network: Network, quick: bool) -> Figure:
    """Return what the schedule costs where nobody else is busy."""
    found, turns = gathered(network, Condition(0), quick, inverse=False)
    return timing.claim_ratio(
        'quiet_cost/' + network.title, {'': found}, COST, better=LOWER,
        how="%s, two threads, nobody else: ours over ONNX Runtime's defaults; %s" % (
            network.title, _told(network, Condition(0), turns)))


def _tails_s(turns: Turns) -> Tuple[float, float]:
    theirs, ours = (float(np.percentile(turns.times_s[t], 95)) for t in (THEIRS, OURS))
    return theirs, ours


def _told(network: Network, condition: Condition, turns: Turns) -> str:
    medians = [statistics.median(turns.times_s[t]) for t in (THEIRS, OURS)]
    theirs, ours = _tails_s(turns)
    return ('medians %.1f and %.1f ms, 95th percentiles %.1f and %.1f ms, %d runs each in %d '
            'fresh processes, pairs of turns of %d; ours: %s' % (
                1e3 * medians[0], 1e3 * medians[1], 1e3 * theirs, 1e3 * ours,
                len(turns.times_s[OURS]), len(turns.reasons), network.runs(condition),
                turns.reasons[-1]))


def other_neighbours(network: Network) -> List[Figure]:
    """Return what is gained beside other neighbours, one process each."""
    conditions: Mapping[str, Condition] = {
        'own_session': Condition(1, own_session=True), 'on_core_0': Condition(1, core=0),
        'two_neighbours': Condition(2)}
    found = []
    for title, condition in conditions.items():
        turns = in_turns(network, condition, (THEIRS, OURS), INFORMING_TURNS)
        ratio = timing.median_ratio([(r[OURS], r[THEIRS]) for r in turns.rounds])
        found.append(inform('busy_neighbour_gain_beside/' + title, ratio.value, better=HIGHER,
                            how='%s, %s: %s; %s' % (network.title, condition, ratio.text,
                                                    _told(network, condition, turns))))
    return found
