# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
The engine that was chosen here against the best that a user could have picked by hand, in fp32.

What runs on our side is what `engine.choice` picks in a race of its own, run as the robot runs
it. The peers are used as their manuals say, in one process with ours: everybody has a turn a
round, the order moves on, and pairs of one round are compared. The control is ours, loaded a
second time in the same process. One thread decides; two inform.
"""
from __future__ import annotations

import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any, Dict, List, Mapping, Sequence, Tuple

from benchmarks import parts, timing
from benchmarks._engine_memory import NETWORKS, Said, network
from benchmarks._engine_memory_child import segment_of
from crowdhmt_ros.choose_child import run_heat
from crowdhmt_ros.choose_engines import to_choose_from
from crowdhmt_ros.cli.figures import LOWER, Figure, inform
from crowdhmt_ros.engine.choice import Entrant, Heat, fastest, offers
from crowdhmt_ros.types import EngineOptions

CHILD = 'benchmarks._engine_peers_child'
OURS, AGAIN = 'ours', 'ours again'
COMPILED = 'torch.compile'
TITLES = {'onnxruntime': 'ONNX Runtime', 'openvino': 'OpenVINO f32', 'ncnn': 'ncnn',
          COMPILED: COMPILED}
QUICK_NETWORKS = ('resnet18@32',)
PROCESSES, MOST_PROCESSES = 6, 16
SPAN_S, QUICK_SPAN_S, FIRST_SPAN_S = 4.0, 1.0, 3.0
"""Of a process, and of the first, in which all peers are."""
ROUNDS, FIRST_ROUNDS = 12, 4
"""At least, where one takes long."""
CHILD_S = 400.0
MOST = 1.03
SLOWER_FILTER = 1.2
"""A peer that is so far behind, the worse end of its interval too, is not loaded again."""
CLAIMS: parts.Claims = {'fp32_vs_best_peer/' + name: (MOST, LOWER) for name in NETWORKS}


def figures(quick: bool) -> List[Figure]:
    """Measure every network under one thread and under two."""
    found: List[Figure] = []
    with tempfile.TemporaryDirectory(prefix='crowdhmt-peers-') as folder:
        for name in QUICK_NETWORKS if quick else NETWORKS:
            key = 'fp32_vs_best_peer/' + name
            found += parts.tried([key], CLAIMS, lambda n=name: _network(  # type: ignore[misc]
                n, Path(folder), quick))
    return found


def _network(name: str, folder: Path, quick: bool) -> List[Figure]:
    backbone, edge = NETWORKS[name]
    said = network(folder, backbone, edge=edge)
    span_s = QUICK_SPAN_S if quick else SPAN_S
    try:
        one = measured(said, backbone, edge, threads=1, processes=(1, 1) if quick else (
            PROCESSES, MOST_PROCESSES), span_s=span_s, compiled=not quick)
        two = measured(said, backbone, edge, threads=2, processes=(1, 1), span_s=span_s,
                       compiled=False)
    finally:
        for path in folder.iterdir():
            path.unlink()
    return [_figure('fp32_vs_best_peer/' + name, one, 1),
            _figure('fp32_vs_best_peer_2_threads/' + name, two, 2)]


class Measured:
    """
    What ours and its peers took.

    :param options: what was chosen
    """

    def __init__(self, options: EngineOptions) -> None:
        self.options = options
        self.rounds: List[Dict[str, float]] = []
        self.missing: Mapping[str, str] = {}

    def control(self) -> timing.Ratio:
        """Return ours again over ours."""
        return timing.median_ratio([(r[OURS], r[AGAIN]) for r in self.rounds])

    def ratios(self) -> Dict[str, timing.Compared]:
        """
        Return peer -> ours over it.

        A peer that was left out later is compared in the first process only.
        """
        names = dict.fromkeys(n for r in self.rounds for n in r if n not in (OURS, AGAIN))
        return {name: timing.Compared(timing.median_ratio(
            [(r[name], r[OURS]) for r in self.rounds if name in r]), self.control())
            for name in names}


def measured(said: Said, backbone: str, edge: int, *, threads: int, processes: Tuple[int, int],
             span_s: float, compiled: bool) -> Measured:
    """
    Choose an engine, then run it with the peers in fresh processes.

    :param processes: at least, and at most
    """
    found = Measured(choose(said, threads))
    peers = [p for p in TITLES if compiled or p != COMPILED]
    number = 0

    def one_process() -> List[Dict[str, float]]:
        nonlocal peers, number
        number += 1
        first = not found.rounds and processes[1] > 1
        answer: Dict[str, Any] = timing.in_fresh_process(CHILD, {
            'said': said, 'backbone': backbone, 'edge': edge, 'threads': threads,
            'options': asdict(found.options), 'peers': peers, 'number': number,
            'span_s': min(span_s, FIRST_SPAN_S) if first else span_s,
            'rounds': FIRST_ROUNDS if first else ROUNDS}, timeout_s=CHILD_S)
        times: Mapping[str, Sequence[float]] = answer['times']
        if not found.rounds:
            found.missing = answer['missing']
        rounds = [dict(zip(times, each)) for each in zip(*times.values())]
        found.rounds += rounds
        against = found.ratios()
        peers = [p for p in peers if p in times
                 and against[p].ratio.high > 1 / SLOWER_FILTER] or peers
        return rounds

    timing.gathered(one_process, lambda _: found.control(), least=processes[0],
                    most=processes[1])
    return found


def choose(said: Said, threads: int) -> EngineOptions:
    """Return the engine options that the race picks."""
    default = EngineOptions(threads=threads)
    heat = Heat(Entrant(segment_of(said), default),
                offers(default, to_choose_from(), lean_modes=()))
    return fastest(run_heat(heat, longest_s=2.0)) or default


def _figure(key: str, found: Measured, threads: int) -> Figure:
    against = found.ratios()
    best = max(against, key=lambda name: against[name].ratio.value)
    how = 'ours is %s, best peer %s; %d rounds, %d thread%s' % (
        found.options.backend, TITLES[best], len(found.rounds), threads, 's' * (threads > 1))
    how += ''.join('; without %s: %s' % item for item in found.missing.items())
    titled = {TITLES[name]: each for name, each in against.items()}
    if threads == 1:
        return timing.claim_ratio(key, titled, MOST, better=LOWER, how=how + '; ours over')
    return inform(key, against[best].ratio.value, how=how + ', and peers may let theirs spin: '
                  'ours over %s' % ', '.join('%s %s' % (n, c.ratio.text)
                                             for n, c in titled.items()))
