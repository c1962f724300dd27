# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Lower precisions (R6): as fast as the best engine in int8, at an error that is stated.

The peer is OpenVINO on the same quantised file. Ours is the fastest of our engines and precisions
whose output error keeps the limit; which one that is, one process finds out, and others compare.
Fastest runs are compared, since neighbours only ever add. Agreement is of the trained family that
comes with the package (its full network decides, the leaner ones inform), written as a bundle in
int8 and run as a robot does, on photos that nothing was chosen on.
"""
from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any, Dict, List, Mapping, Tuple

import numpy as np
import torch

from benchmarks import parts, timing
from benchmarks._engine_precision_child import PEER
from benchmarks._engine_precision_networks import (
    CALIBRATION,
    CLASSES,
    HELD_BACK,
    NETWORKS,
    SETTLED,
    drawn,
    family_in_int8,
    family_tests,
    given,
    int8_figure,
    saved,
    scenes,
)
from crowdhmt_ros.bundle.materialise import materialise
from crowdhmt_ros.bundle.reader import Bundle
from crowdhmt_ros.cli.build_precision import engine_figures
from crowdhmt_ros.cli.figures import HIGHER, LOWER, Figure, claim, inform
from crowdhmt_ros.engine.backend import make_buffers
from crowdhmt_ros.engine.backends.onnxruntime import OnnxRuntimeBackend
from crowdhmt_ros.graph.lower import Limits, Lowered, lower
from crowdhmt_ros.graph.quantise import units
from crowdhmt_ros.types import EngineOptions, Segment

ERROR_AT_MOST, SLOWER_AT_MOST, AGREEMENT_AT_LEAST = 1e-2, 1.05, 0.99
CLAIMS: parts.Claims = {
    **{'any_precision_vs_best_peer/' + n: (SLOWER_AT_MOST, LOWER) for n in NETWORKS},
    **{'int8_output_error/' + n: (ERROR_AT_MOST, LOWER) for n in NETWORKS},
    'int8_top1_agreement': (AGREEMENT_AT_LEAST, HIGHER)}
CHILD = 'benchmarks._engine_precision_child'
WAYS = ('openvino/int8', 'onnxruntime/int8', 'ncnn/fp32', 'openvino/fp32', 'onnxruntime/fp32')
QUICK = ('resnet18_32',)
PROCESSES, ROUNDS, MOST_S = 3, 40, 5.0
LEAST_WORK_RATIO = 0.02
"""In whole numbers, so that drawn networks that bear little of it have a file at all."""
TESTS, QUICK_TESTS = 2000, 200
QUICK_VARIANTS = ('w050d2',)
Times = Dict[str, List[float]]


def figures(quick: bool) -> List[Figure]:
    """Measure every figure of the part; quick: one network, one variant, few inputs."""
    torch.set_num_threads(1)
    found: List[Figure] = []
    with tempfile.TemporaryDirectory() as folder:
        for name in QUICK if quick else NETWORKS:
            keys = [k for k in CLAIMS if k.endswith('/' + name)]
            found += parts.tried(keys, CLAIMS, lambda n=name: network_figures(  # type: ignore
                n, Path(folder), 1 if quick else PROCESSES))
        found += parts.tried(['int8_top1_agreement'], CLAIMS,
                             lambda: family_figures(Path(folder), quick))
    return found


def network_figures(name: str, folder: Path, processes: int) -> List[Figure]:
    """Return the figures of one network."""
    backbone, settings = NETWORKS[name]
    pictures = scenes(SETTLED + CALIBRATION + HELD_BACK, settings['edge'])
    model = drawn(backbone, settings, pictures[:SETTLED])
    held_back = given(pictures[-HELD_BACK:])
    lowered = lower(model, given(pictures[SETTLED:SETTLED + CALIBRATION]), held_back,
                    Limits(ERROR_AT_MOST, 0.0, LEAST_WORK_RATIO))
    said = {'name': name, 'shape': (1, 3, settings['edge'], settings['edge']),
            'classes': CLASSES, 'plain': saved(model, folder / (name + '.onnx')),
            'int8': saved(lowered.model, folder / (name + '.int8.onnx'))}
    found = [error_figure(name, lowered, len(units(model))),
             *_latencies(name, said, lowered.holds, processes)]
    if name in QUICK:
        found += [inform('%s_output_error/%s/%s' % (f.precision, f.engine, name), f.output_error,
                         how='%d pictures, as for int8' % f.count)
                  for f in engine_figures(model, held_back)]
    for path in (said['plain'], said['int8']):
        Path(str(path)).unlink()
    return found


def error_figure(name: str, lowered: Lowered, count: int) -> Figure:
    """Return what int8 costs a network of so many operators that can be quantised."""
    d = lowered.deviation
    return claim(
        'int8_output_error/' + name, d.output_error, ERROR_AT_MOST, better=LOWER,
        how='root mean square over the largest output, %d pictures that ranges were not chosen '
        'on; no output deviates by more than %.3f; ranges by %s, %d of %d operators stay in fp32'
        % (d.count, d.largest_error, lowered.rule.replace('_', ' '), len(lowered.kept), count))


def _latencies(name: str, said: Mapping[str, Any], int8_holds: bool, processes: int
               ) -> List[Figure]:
    allowed = [w for w in WAYS if int8_holds or not w.endswith('int8')]
    first = _times(said, list(WAYS), 1)
    best = min((w for w in allowed if w in first), key=lambda w: min(first[w]))
    merged = _merged([_times(said, [best], 1) for _ in range(processes)])
    ratio = min(merged[best]) / min(merged[PEER])
    medians = float(np.median(merged[best]) / np.median(merged[PEER]))
    plain = min(min(t) for w, t in first.items() if w.endswith('fp32'))
    both = _merged([_times(said, [best], 2) for _ in range(max(1, processes - 2))])
    return [
        claim('any_precision_vs_best_peer/' + name, ratio, SLOWER_AT_MOST, better=LOWER,
              how='%s %.2f ms over OpenVINO int8 %.2f ms (same file, fp32 elsewhere), fastest of '
              '%d runs in %d fresh processes, 1 thread; medians %.3f' % (
                  best, 1e3 * min(merged[best]), 1e3 * min(merged[PEER]), len(merged[PEER]),
                  processes, medians)),
        inform('int8_gain/' + name, plain / min(first['onnxruntime/int8']
                                                + first.get('openvino/int8', [])),
               better=HIGHER, how='fastest engine in fp32 over fastest in int8, 1 thread: '
               + ', '.join('%s %.2f ms' % (w, 1e3 * min(t)) for w, t in first.items())),
        inform('any_precision_vs_best_peer_2_threads/' + name,
               min(both[best]) / min(both[PEER]), how='as above, 2 threads, %d runs'
               % len(both[PEER]))]


def _times(said: Mapping[str, Any], ways: List[str], threads: int) -> Times:
    found: Times = timing.in_fresh_process(CHILD, {
        'said': dict(said), 'ways': ways, 'threads': threads, 'rounds': ROUNDS, 'most_s': MOST_S})
    return found


def _merged(runs: List[Times]) -> Times:
    return {way: [t for run in runs for t in run[way]] for way in runs[0]}


# The trained family


def family_figures(folder: Path, quick: bool) -> List[Figure]:
    """Return what int8 does to the answers of the trained family."""
    bundle, measured, said = family_in_int8(folder, QUICK_VARIANTS if quick else ())
    segments = materialise(bundle, folder / 'robot')
    inputs, labels, tests = family_tests(QUICK_TESTS if quick else TESTS)
    pictures = [one['image'] for one in inputs]
    told: Dict[str, Tuple[float, float, float]] = {}
    for name in measured.lowered:
        exact, near = (_answers(segments[bundle.segment_for(name, precision=p)], p, pictures)
                       for p in ('fp32', 'int8'))
        told[name] = (float(np.mean(exact == near)), float(np.mean(exact == labels)),
                      float(np.mean(near == labels)))
    full = bundle.manifest.front[0]
    how = 'of the full network %s on %d %s through bundle and ONNX Runtime, calibrated on %s%s' % (
        full, len(labels), tests, said, ''.join('; ' + note for note in measured.notes))
    return [claim('int8_top1_agreement', told[full][0] if full in told else None,
                  AGREEMENT_AT_LEAST, better=HIGHER, how=how),
            *(inform('int8_top1_agreement/' + n, t[0], better=HIGHER,
                     how='%.4f of the answers right, in fp32 %.4f; %d operators stay in fp32' % (
                         t[2], t[1], _kept(bundle, n))) for n, t in told.items()),
            *_sizes(bundle), *_halves(bundle)]


def _kept(bundle: Bundle, variant_id: str) -> int:
    found = int8_figure(bundle, variant_id)
    return found.kept if found is not None else 0


def _answers(segment: Segment, precision: str, pictures: List[Any]) -> Any:
    executable = OnnxRuntimeBackend().compile(segment, EngineOptions(precision=precision))
    outputs, found = make_buffers(executable.outputs), []
    for picture in pictures:
        executable.run((picture,), outputs)
        found.append(int(outputs[0].argmax()))
    return np.array(found)


def _sizes(bundle: Bundle) -> List[Figure]:
    tensors = bundle.manifest.tensors.values()
    added = sum(t.size_bytes for t in tensors if t.name.startswith('int8.'))
    plain = sum(t.size_bytes for t in tensors) - added
    return [inform('int8_store_ratio', added / plain, how='%.2f MB of weights in int8 beside '
                   '%.2f MB shared by all variants in fp32' % (added / 1e6, plain / 1e6))]


def _halves(bundle: Bundle) -> List[Figure]:
    worst: Dict[Tuple[str, str], float] = {}
    for name in bundle.manifest.front:
        for f in bundle.variant(name).precisions:
            if f.engine:
                key = (f.precision, f.engine)
                worst[key] = max(worst.get(key, 0.0), f.output_error)
    return [inform('%s_output_error/%s/campus7' % key, value,
                   how='worst variant of the trained family')
            for key, value in sorted(worst.items())]
