# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
The engine that was chosen here against the best that a user could have picked by hand, in fp32.

What runs on our side is what `engine.choice` picks in a race of its own, run as the robot runs
it. The peers are used as their manuals say, in one process with ours: everybody has a turn a
round, the order moves on, and pairs of one round are compared. One thread decides; two inform.
"""
from __future__ import annotations

import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any, Dict, List, Mapping, Sequence, Tuple

import numpy as np

from benchmarks import parts, timing
from benchmarks._engine_memory import NETWORKS, Said, network
from benchmarks._engine_memory_child import segment_of
from crowdhmt_ros.choose_child import run_heat
from crowdhmt_ros.choose_engines import to_choose_from
from crowdhmt_ros.cli.figures import LOWER, Figure, claim, inform
from crowdhmt_ros.engine.choice import Entrant, Heat, fastest, offers
from crowdhmt_ros.types import EngineOptions

CHILD = 'benchmarks._engine_peers_child'
OURS = 'ours'
COMPILED = 'torch.compile'
TITLES = {'onnxruntime': 'ONNX Runtime', 'openvino': 'OpenVINO f32', 'ncnn': 'ncnn',
          COMPILED: COMPILED}
QUICK_NETWORKS = ('resnet18@32',)
PROCESSES, SPAN_S, QUICK_SPAN_S = 3, 5.0, 1.0
CHILD_S = 400.0
MOST = 1.03
SLOWER_FILTER = 1.2
"""A peer that is so far behind in the first process is not loaded again."""
CLAIMS: parts.Claims = {'fp32_vs_best_peer/' + name: (MOST, LOWER) for name in NETWORKS}
Times = Mapping[str, Sequence[float]]


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
    try:
        one = measured(said, backbone, edge, threads=1, processes=1 if quick else PROCESSES,
                       span_s=QUICK_SPAN_S if quick else SPAN_S, compiled=not quick)
        two = measured(said, backbone, edge, threads=2, processes=1,
                       span_s=QUICK_SPAN_S if quick else SPAN_S / 2, compiled=False)
    finally:
        for path in folder.iterdir():
            path.unlink()
    return [_figure('fp32_vs_best_peer/' + name, one, 1),
            _figure('fp32_vs_best_peer_2_threads/' + name, two, 2)]


class Measured(Dict[str, List[float]]):
    """Engine -> seconds of its turns in all processes; in equal places they are of one round."""

    options: EngineOptions = EngineOptions()
    missing: Mapping[str, str] = {}


def measured(said: Said, backbone: str, edge: int, *, threads: int, processes: int,
             span_s: float, compiled: bool) -> Measured:
    """Choose an engine, then run it with the peers in fresh processes."""
    options = choose(said, threads)
    peers = [p for p in TITLES if compiled or p != COMPILED]
    found = Measured()
    found.options = options
    for number in range(processes):
        answer: Dict[str, Any] = timing.in_fresh_process(CHILD, {
            'said': said, 'backbone': backbone, 'edge': edge, 'threads': threads,
            'options': asdict(options), 'peers': peers, 'span_s': span_s}, timeout_s=CHILD_S)
        if not number:
            found.missing = answer['missing']
        for name, times in answer['times'].items():
            found.setdefault(name, []).extend(times)
        ours = answer['times'][OURS]
        peers = [p for p in peers if p in answer['times'] and np.median(
            np.divide(answer['times'][p], ours)) < SLOWER_FILTER] or peers
    return found


def choose(said: Said, threads: int) -> EngineOptions:
    """Return the engine options that the race picks."""
    default = EngineOptions(threads=threads)
    heat = Heat(Entrant(segment_of(said), default),
                offers(default, to_choose_from(), lean_modes=()))
    return fastest(run_heat(heat, longest_s=2.0)) or default


def ratios(found: Measured) -> Dict[str, Tuple[float, float]]:
    """
    Return peer -> ours over it: median of pairs, and fastest over fastest.

    A peer that was left out later is compared in the first process only.
    """
    made = {}
    for name in found:
        if name != OURS:
            theirs = np.array(found[name])
            ours = np.array(found[OURS][:len(theirs)])
            made[name] = (float(np.median(ours / theirs)), float(ours.min() / theirs.min()))
    return made


def _figure(key: str, found: Measured, threads: int) -> Figure:
    against = ratios(found)
    best = max(against, key=lambda name: against[name][0])
    each = ', '.join('%s %.3f (%.3f)' % (TITLES[name], *pair) for name, pair in against.items())
    how = ('ours is %s, best peer %s; median of pairs (fastest over fastest): %s; %d rounds, '
           '%d thread%s' % (found.options.backend, TITLES[best], each, len(found[OURS]), threads,
                            's' * (threads > 1)))
    how += ''.join('; without %s: %s' % item for item in found.missing.items())
    if threads == 1:
        return claim(key, against[best][0], MOST, better=LOWER, how=how)
    return inform(key, against[best][0], how=how + ', and peers may let theirs spin')
