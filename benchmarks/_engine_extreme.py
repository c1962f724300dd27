# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
The far end of what a family offers: width, depth and precision together against the full network.

Full is ResNet18 at 224 pixels in a plain ONNX Runtime session; the point is the same family at
three eighths of its width, one block a stage, in int8, as a robot runs it. Both are drawn: neither
time nor memory hangs on what they learnt. What such a point costs in right answers is told by the
trained family that comes with the package (residual, 64 pixels), whose variant is made by the very
same operators, with its own gains beside it.
"""
from __future__ import annotations

import hashlib
import statistics
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Dict, List, Mapping, Sequence, Tuple

import onnx
import torch

from benchmarks import parts, timing
from benchmarks._engine_precision_networks import (
    CALIBRATION,
    CLASSES,
    FAMILY,
    HELD_BACK,
    INPUT,
    OUTPUT,
    SETTLED,
    drawn,
    family_in_int8,
    family_tests,
    given,
    saved,
    scenes,
)
from benchmarks.lanes import Lane, turns
from crowdhmt_ros.bundle.reader import open_bundle
from crowdhmt_ros.bundle.reopen import family_of
from crowdhmt_ros.cli.build_precision import right_answers
from crowdhmt_ros.cli.figures import HIGHER, Figure, claim, inform
from crowdhmt_ros.graph.lower import Limits, lower

GAIN_AT_LEAST = 10.0
CLAIMS: parts.Claims = {'extreme_latency_gain': (GAIN_AT_LEAST, HIGHER),
                        'extreme_memory_gain': (GAIN_AT_LEAST, HIGHER)}
CHILD = 'benchmarks._engine_memory_child'
EDGE = 224
FULL = ('resnet18', {'edge': EDGE})
POINT = ('residual', {'edge': EDGE, 'widths': [24, 48, 96, 192], 'blocks': 1})
FULL_VARIANT, POINT_VARIANT = 'w100d2', 'w038d1'
PLAIN, MODE = 'plain', 'fast'
FULL_WAY, AGAIN, POINT_WAY = 'full', 'full again', 'point'
PROCESSES, MOST_PROCESSES, QUICK_PROCESSES = 5, 15, 1
TURNS, RUNS = 40, 6
TESTS, QUICK_TESTS = 2000, 200
Round = Mapping[str, Mapping[str, Any]]
"""Way -> what its process took, and the median seconds of a turn."""


def figures(quick: bool) -> List[Figure]:
    """Measure every figure of the part; quick: fewer processes, fewer test photos."""
    torch.set_num_threads(1)
    processes = (QUICK_PROCESSES,) * 2 if quick else (PROCESSES, MOST_PROCESSES)
    with tempfile.TemporaryDirectory() as folder:
        found = parts.tried(list(CLAIMS), CLAIMS,
                            lambda: gain_figures(Path(folder), processes))
        return found + trained_figures(Path(folder), processes,
                                       QUICK_TESTS if quick else TESTS)


def gain_figures(folder: Path, processes: Tuple[int, int]) -> List[Figure]:
    """
    Return latency and memory of the point against the full network.

    :param processes: of each, at least and at most
    """
    pictures = scenes(SETTLED + CALIBRATION + HELD_BACK, EDGE)
    full = drawn(*FULL, pictures[:SETTLED])
    point = lower(drawn(*POINT, pictures[:SETTLED]),
                  given(pictures[SETTLED:SETTLED + CALIBRATION]), given(pictures[-HELD_BACK:]),
                  Limits(1e-2, 0.0))
    rounds = in_turns(said(full, folder / 'full.onnx', EDGE, CLASSES),
                      said(point.model, folder / 'point.onnx', EDGE, CLASSES), processes)
    latency, memory, how = gains(rounds)
    note = 'output error %.4f, %d operators in fp32' % (point.deviation.output_error,
                                                        len(point.kept))
    return [timing.claim_ratio(
                'extreme_latency_gain', {'': latency}, GAIN_AT_LEAST, better=HIGHER,
                how='3/8 of the width, one block a stage, int8 (%s), against full ResNet18 at '
                '224 in fp32: %s' % (note, how)),
            claim('extreme_memory_gain', memory, GAIN_AT_LEAST, better=HIGHER,
                  how='anonymous memory that loading and 8 runs take, same processes: %s' % how)]


def said(model: onnx.ModelProto, path: Path, edge: int, classes: int) -> Dict[str, Any]:
    """Write a model and return what a child is told of it."""
    saved(model, path)
    return {'name': path.stem, 'sha256': hashlib.sha256(path.read_bytes()).hexdigest(),
            'path': str(path), 'plain_path': str(path), 'weight_bytes': path.stat().st_size,
            'inputs': [(INPUT, 'float32', (1, 3, edge, edge))],
            'outputs': [(OUTPUT, 'float32', (1, classes))]}


def in_turns(full: Mapping[str, Any], point: Mapping[str, Any], processes: Tuple[int, int]
             ) -> List[Round]:
    """Run both, and the full network again, in fresh processes until its control is narrow."""
    ways = {FULL_WAY: (full, PLAIN), AGAIN: (full, PLAIN), POINT_WAY: (point, MODE)}

    def measure() -> List[Round]:
        with ExitStack() as stack:
            loaded = {way: stack.enter_context(Lane(CHILD, {
                'what': 'in_turns', 'said': said, 'mode': mode}))
                for way, (said, mode) in ways.items()}
            return [{way: {**loaded[way].first, 'median_s': median_s}
                     for way, median_s in each.items()} for each in turns(loaded, TURNS, RUNS)]
    return timing.gathered(measure, lambda found: _over(found, FULL_WAY, AGAIN),
                           least=processes[0], most=processes[1])


def _over(rounds: Sequence[Round], first: str, second: str) -> timing.Ratio:
    return timing.median_ratio([(r[first]['median_s'], r[second]['median_s']) for r in rounds])


def gains(rounds: Sequence[Round]) -> Tuple[timing.Compared, float, str]:
    """Return gains in latency and in private memory, and the figures behind them."""
    middle = {way: {key: statistics.median(r[way][key] for r in rounds)
                    for key in ('median_s', 'anon_mb')} for way in (FULL_WAY, POINT_WAY)}
    full, point = middle[FULL_WAY], middle[POINT_WAY]
    return timing.Compared(_over(rounds, POINT_WAY, FULL_WAY),
                           _over(rounds, FULL_WAY, AGAIN)), full['anon_mb'] / point['anon_mb'], (
        '%.2f to %.2f ms, %.1f to %.1f MB private, medians of %d fresh processes in turns, '
        '1 thread, plain session to memory mode %s' % (
            1e3 * full['median_s'], 1e3 * point['median_s'], full['anon_mb'], point['anon_mb'],
            len(rounds) // TURNS, MODE))


def trained_figures(folder: Path, processes: Tuple[int, int], tests: int) -> List[Figure]:
    """Return accuracy and gains of the same point of the trained family."""
    bundle, measured, calibrated = family_in_int8(folder, (FULL_VARIANT, POINT_VARIANT))
    models = {g.variant_id: g.model for g in family_of(open_bundle(FAMILY)).graphs}
    inputs, labels, what = family_tests(tests)
    lowered = measured.lowered.get(POINT_VARIANT)
    if lowered is None:
        return [inform('extreme_accuracy', None, better=HIGHER, how='; '.join(measured.notes))]
    edge, classes = bundle.input.shape[2], len(bundle.classes)
    latency, memory, how = gains(in_turns(
        said(models[FULL_VARIANT], folder / 'trained_full.onnx', edge, classes),
        said(lowered.model, folder / 'trained_point.onnx', edge, classes), processes))
    full, plain, near = (right_answers(m, inputs, labels) for m in (
        models[FULL_VARIANT], models[POINT_VARIANT], lowered.model))
    return [
        inform('extreme_accuracy', near, better=HIGHER,
               how='%s in int8 of the trained campus7 at %d pixels, %d %s; in fp32 %.4f, the full '
               'network %.4f; calibrated on %s' % (
                   POINT_VARIANT, edge, len(labels), what, plain, full, calibrated)),
        inform('extreme_latency_gain/campus7', latency.ratio.value, better=HIGHER,
               how='%s in int8 against %s in fp32: %s; %s' % (POINT_VARIANT, FULL_VARIANT, how,
                                                              latency.text)),
        inform('extreme_memory_gain/campus7', memory, better=HIGHER, how='same processes')]
