# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
The paper's Table IV, what each part of the engine brings, and its Table V, what levels bring.

Each row is a process of its own; all are ready at once and take turns, and each table is run in
fresh processes more than once. The row that others are compared with is there twice, for the
control; rows that decide go on until it is narrow. Rows of Table IV start from an unfused export
on one thread of an engine without optimisation. In Table V a robot whose one processor is shared
with other work has a peer with an idle one: head and tail of a shared row run in two processes,
over the channel that robots use.
"""
from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Dict, List, Mapping, Sequence, Tuple

import numpy as np

from benchmarks import parts, timing
from benchmarks._engine_ladder_child import PLAIN
from benchmarks._ladder_networks import (
    EDGE,
    LOW_RANK,
    ORIGINAL,
    PRUNED,
    SMALL,
    WIDTH,
    Said,
    graphs,
)
from benchmarks.lanes import Lane
from crowdhmt_ros.cli.figures import HIGHER, LOWER, Figure, claim, inform

GAIN, TIED = 2.07, 1.03
CLAIMS: parts.Claims = {
    'ladder_all_gain': (GAIN, HIGHER), 'ladder_all_latency_vs_best': (TIED, LOWER),
    'ladder_all_memory_vs_best': (TIED, LOWER)}
ALL, AGAIN = 'all', ' again'
PAPER: Mapping[str, float] = {
    'low_rank': 0.926, 'pruning': 0.688, 'parallelism': 0.886, 'fusion': 0.641,
    'low_rank+fusion': 0.624, 'pruning+fusion': 0.616, ALL: 0.484}
"""Latency over the original's, Table IV."""
PAPER_SHARED: Mapping[str, float] = {
    'compression+partition': 2.39 / 1.63, 'compression+engine': 4.72 / 1.63,
    'partition+engine': 2.91 / 1.63}
"""Latency over that of all three, Table V."""
SHARED = tuple(PAPER_SHARED)
TURNS, QUICK_TURNS, SETS, QUICK_SETS = 12, 4, 2, 1
MOST_TURNS, MOST_SHARED_TURNS = 100, 120
"""Of the rows that decide."""
LOOK_EVERY = 8
RUNS, SHARED_RUNS = 3, 9
"""In one turn; beside other work runs differ more."""
QUICK_WIDTH = 16
CHILD = 'benchmarks._engine_ladder_child'
ROBOT, PEER = 0, 1
"""Processors of Table V."""
BUSY = 'import os, sys\nos.sched_setaffinity(0, {%d})\nwhile True: sum(range(100000))' % ROBOT
ENGINE = {'engine': 'onnxruntime', 'memory': 'mapped'}
"""The robot's engine: the graph it rewrote once, on weights that stay in their file."""
Row = Dict[str, Any]
Times = Dict[str, List[float]]


def figures(quick: bool) -> List[Figure]:
    """
    Measure both tables.

    :param quick: a quarter of the channels, few turns, one set of processes
    """
    turns, sets = (QUICK_TURNS, QUICK_SETS) if quick else (TURNS, SETS)
    width = QUICK_WIDTH if quick else WIDTH
    with tempfile.TemporaryDirectory(prefix='crowdhmt-ladder-') as folder:
        said = graphs(Path(folder), width)
        engine = [measured(engine_rows(said), turns, most=turns if quick else MOST_TURNS,
                           control=ORIGINAL, deciding=(ALL,)) for _ in range(sets)]
        found = engine_figures(engine, said, width)
        keys = [key for key in CLAIMS if key.endswith('_vs_best')]
        return found + parts.tried(keys, CLAIMS, lambda: shared_figures(
            [measured(shared_rows(said), turns, busy=True, control=ALL, deciding=SHARED,
                      runs=RUNS if quick else SHARED_RUNS,
                      most=turns if quick else MOST_SHARED_TURNS) for _ in range(sets)], width))


def engine_rows(said: Mapping[str, Said]) -> Dict[str, Row]:
    """Return the rows of Table IV."""
    def row(name: str, threads: int = 1, **other: Any) -> Row:
        return {'engine': PLAIN, 'threads': threads, 'whole': said[name], **other}
    return {ORIGINAL: row(ORIGINAL), ORIGINAL + AGAIN: row(ORIGINAL),
            'low_rank': row(LOW_RANK), 'pruning': row(PRUNED),
            'parallelism': row(ORIGINAL, 2), 'fusion': row(ORIGINAL + '+'),
            'low_rank+fusion': row(LOW_RANK + '+'), 'pruning+fusion': row(PRUNED + '+'),
            'all_unoptimised': row(SMALL + '+', 2), ALL: row(SMALL + '+', 2, **ENGINE)}


def shared_rows(said: Mapping[str, Said]) -> Dict[str, Row]:
    """
    Return the rows of Table V.

    :raises RuntimeError: there is one processor only
    """
    if len(os.sched_getaffinity(0)) < 2:
        raise RuntimeError('robot and peer need a processor each, there is one here')
    base = {'engine': PLAIN, 'threads': 1, 'processor': ROBOT, 'peer_processor': PEER}

    def shared(name: str) -> Row:
        return {**base, 'head': said[name + '/head'], 'tail': said[name + '/tail']}
    return {'compression+partition': shared(SMALL),
            'compression+engine': {**base, **ENGINE, 'whole': said[SMALL + '+']},
            'partition+engine': {**shared(ORIGINAL + '+'), **ENGINE},
            ALL: {**shared(SMALL + '+'), **ENGINE},
            ALL + AGAIN: {**shared(SMALL + '+'), **ENGINE}}


def measured(rows: Mapping[str, Row], turns: int, *, control: str, deciding: Sequence[str],
             most: int, runs: int = RUNS, busy: bool = False
             ) -> Tuple[Times, Dict[str, Dict[str, Any]]]:
    """
    Run rows in turns.

    Each row is started once before: what the engine makes once and keeps, is there then.

    :param turns: of each row
    :param control: the row that is there twice
    :param deciding: rows that go on with these two until the control is narrow
    :param most: turns of theirs
    :param runs: in a turn; the first is not counted, its caches were another row's
    :param busy: with other work on the robot's processor
    :returns: row -> seconds of its turns; row -> what it took
    """
    for row in rows.values():
        if row['engine'] != PLAIN:
            with Lane(CHILD, row):
                pass
    with ExitStack() as stack:
        lanes = {name: stack.enter_context(Lane(CHILD, row)) for name, row in rows.items()}
        if busy:
            other = subprocess.Popen([sys.executable, '-c', BUSY])
            stack.callback(other.wait)
            stack.callback(other.kill)
        times: Times = {name: [] for name in lanes}
        left = list(lanes)
        for turn in range(most):
            if turn == turns:
                left = [control, control + AGAIN, *deciding]
            if turn >= turns and turn % LOOK_EVERY == 0 and _narrow(times, control):
                break
            for name in timing.order(left, turn):
                times[name].append(statistics.median(lanes[name].ask(runs)[1:]))
        return times, {name: lane.first for name, lane in lanes.items()}


def _narrow(times: Times, name: str) -> bool:
    control = timing.median_ratio(list(zip(times[name], times[name + AGAIN])))
    return control.high - control.low <= timing.WIDEST_CONTROL


def engine_figures(found: Sequence[Tuple[Times, Mapping[str, Any]]], said: Mapping[str, Said],
                   width: int) -> List[Figure]:
    """Return Table IV: each row's share of the original's latency, and the gain of all."""
    made = []
    for name in found[0][0]:
        if name in (ORIGINAL, ORIGINAL + AGAIN):
            continue
        share = ratio(found, ORIGINAL, name)
        paper = '; the paper %.3f' % PAPER[name] if name in PAPER else ''
        made.append(inform('ladder_latency/' + name, share.value, how=(
            'over the original, median of pairs %s; private memory %s MB of %s MB%s' % (
                share.text, _mb(found, name, 'anon_mb'), _mb(found, ORIGINAL, 'anon_mb'),
                paper))))
    gain = compared(found, ALL, ORIGINAL, ORIGINAL)
    weights = said[SMALL]['weight_bytes'] / said[ORIGINAL]['weight_bytes']
    return [timing.claim_ratio(
        'ladder_all_gain', {'': gain}, GAIN, better=HIGHER,
        how='latency of the unfused export of %s on 1 thread of ONNX Runtime '
        'without optimisation, over that of half the channels (%.0f %% of the weights), fused, on '
        'the optimised mapped graph and 2 threads; untrained, so nothing is said of accuracy; '
        'median of pairs' % (_title(width), 100 * weights)), *made]


def shared_figures(found: Sequence[Tuple[Times, Mapping[str, Any]]], width: int) -> List[Figure]:
    """Return Table V: each pair of levels beside all three, in latency and in memory."""
    others = [name for name in found[0][0] if name not in (ALL, ALL + AGAIN)]
    latency = {'over ' + name: compared(found, name, ALL, ALL) for name in others}
    memory = {name: _taken(found, ALL, 'rss_mb') / _taken(found, name, 'rss_mb')
              for name in others}
    how = ('all three levels over each two, %s; compression: half the channels, partition: behind '
           'the stem, the rest at a peer over the encrypted channel between processes, engine: '
           'fused, optimised, mapped (else unfused, optimisation off); robot on processor %d '
           'beside other work, peer alone on processor %d' % (_title(width), ROBOT, PEER))
    return [
        timing.claim_ratio('ladder_all_latency_vs_best', latency, TIED, better=LOWER, how=how),
        claim('ladder_all_memory_vs_best', max(memory.values()), TIED, better=LOWER,
              how=how + ": the robot's process grows by, resident: " + ', '.join(
                  '%s %s MB' % (n, _mb(found, n, 'rss_mb')) for n in (*others, ALL))),
        *(inform('ladder_pair_latency/' + name, ratio(found, ALL, name).value,
                 how='over that of all three; the paper %.2f' % PAPER_SHARED[name])
          for name in others)]


def _title(width: int) -> str:
    quarter = '' if width == WIDTH else ', %d channels at its stem' % width
    return 'ResNet18 at %d pixels%s' % (EDGE, quarter)


def ratio(found: Sequence[Tuple[Times, Any]], first: str, second: str) -> timing.Ratio:
    """Return the median ratio of two rows, second over first, turn by turn."""
    return timing.median_ratio([pair for times, _ in found
                                for pair in zip(times[first], times[second])])


def compared(found: Sequence[Tuple[Times, Any]], first: str, second: str, control: str
             ) -> timing.Compared:
    """Return the same with its control: a row over that beside it."""
    return timing.Compared(ratio(found, first, second), ratio(found, control, control + AGAIN))


def _taken(found: Sequence[Tuple[Any, Mapping[str, Any]]], name: str, key: str) -> float:
    return float(np.median([taken[name][key] for _, taken in found]))


def _mb(found: Sequence[Tuple[Any, Mapping[str, Any]]], name: str, key: str) -> str:
    return '%.1f' % _taken(found, name, key)
