# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Latency of variants as a robot would see it: ONNX Runtime, one input, one thread (P IV-A).

Sessions are run in turn, round after round in another order, so that what slows the machine down
slows all of them. Each turn warms its session up first: on a robot one variant runs all the time,
and its weights are in the cache. Turns in which the processor was given to someone else do not
count: long runs meet that more often than short ones, and ratios would be wrong.
"""
from __future__ import annotations

import random
import statistics as figures
import time
from typing import Any, Callable, Dict, List, Mapping, Sequence, Tuple

import onnxruntime
import torch

from crowdhmt_ros.elastic.export import INPUT_NAME, to_onnx
from crowdhmt_ros.elastic.extraction import extract
from crowdhmt_ros.elastic.norms import Statistics
from crowdhmt_ros.elastic.supernet import Supernet
from crowdhmt_ros.errors import ConfigError
from crowdhmt_ros.types import Variant

ROUNDS = 200
LEAST_S = 0.002
"""A turn repeats a session at least so long: a clock reading and a wake-up must not count."""
MOST_RUNS = 64
LEAST_SHARE = 0.97
"""Of a turn's time this thread must have had the processor."""
LEAST_UNDISTURBED = 5
"""Turns that make a median; with fewer undisturbed ones processor time stands in."""
Turn = Tuple[float, float]
"""Seconds of one run, and the share of them for which this thread had the processor."""
Run = Callable[[], Any]


def latencies(net: Supernet, variants: Mapping[str, Variant], statistics: Statistics,
              example: torch.Tensor, *, rounds: int = ROUNDS) -> Dict[str, float]:
    """
    Measure variants of one family.

    :param variants: name -> variant
    :param statistics: of all of them
    :param example: one input, (1, ...)
    :param rounds: turns of each variant
    :returns: name -> seconds, the median of the turns
    :raises ExportError: statistics are missing, or a variant cannot be expressed
    """
    return measured({name: session_of(extract(net, variant, statistics).module, example)
                     for name, variant in variants.items()}, rounds=rounds)


def session_of(module: torch.nn.Module, example: torch.Tensor) -> Run:
    """
    Prepare a network: what is returned runs it once.

    :param module: takes one tensor; normalisations in evaluation
    :param example: one input, (1, ...)
    :raises ExportError: it cannot be expressed in what robots read
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    model = to_onnx(module.eval(), example)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=['CPUExecutionProvider'])
    feed = {INPUT_NAME: example.numpy()}
    return lambda: session.run(None, feed)


def measured(sessions: Mapping[str, Run], *, rounds: int = ROUNDS, seed: int = 0
             ) -> Dict[str, float]:
    """
    Time sessions in turn; they may belong to different networks.

    :param sessions: name -> runs once
    :param rounds: turns of each
    :param seed: of the order of the turns
    :returns: name -> seconds of one run, the median of the turns
    :raises ConfigError: no rounds
    """
    if rounds < 1:
        raise ConfigError('%d rounds cannot be measured; give at least 1' % rounds)
    repeats = {name: _repeats(run) for name, run in sessions.items()}
    found: Dict[str, List[Turn]] = {name: [] for name in sessions}
    order, rng = list(sessions), random.Random(seed)
    for _ in range(rounds):
        rng.shuffle(order)
        for name in order:
            sessions[name]()  # its weights come back into the cache
            found[name].append(_turn(sessions[name], repeats[name]))
    return {name: undisturbed_s(turns) for name, turns in found.items()}


def undisturbed_s(turns: Sequence[Turn]) -> float:
    """
    Return the median of the turns in which the processor was not taken away.

    Where there are hardly any, the processor time of the least disturbed ones stands in.

    :param turns: at least one
    """
    kept = [seconds for seconds, share in turns if share >= LEAST_SHARE]
    if len(kept) < min(LEAST_UNDISTURBED, len(turns)):
        ranked = sorted(turns, key=lambda turn: -turn[1])
        kept = [seconds * share for seconds, share in ranked[:LEAST_UNDISTURBED]]
    return figures.median(kept)


def _repeats(run: Run) -> int:
    run()
    return max(1, min(MOST_RUNS, round(LEAST_S / max(1e-9, _turn(run, 3)[0]))))


def _turn(run: Run, count: int) -> Turn:
    start_s, own_s = time.perf_counter(), time.thread_time()
    for _ in range(count):
        run()
    own_s = time.thread_time() - own_s
    passed_s = max(1e-9, time.perf_counter() - start_s)
    return passed_s / count, own_s / passed_s
