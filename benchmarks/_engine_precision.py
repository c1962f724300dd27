# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Lower precisions (R6): as fast as the best engine in int8, at an error that is stated.

The peer is OpenVINO by its own interface: on the file with every operator in int8, or on ours,
which keeps in fp32 what hurts; the faster one of those whose output error keeps the limit. Ours is
the fastest of our engines and precisions that keep it. Who that is, one process finds out, others
compare. Errors are of pictures that nothing was chosen on. Agreement is of the trained family that
comes with the package (its full network decides, the leaner ones inform), written as a bundle in
int8 and run as a robot does, on photos that nothing was chosen on.
"""
from __future__ import annotations

import functools
import tempfile
from itertools import islice
from pathlib import Path
from typing import Any, Dict, List, Mapping, NamedTuple, Sequence, Tuple

import numpy as np
import onnx
import torch

from benchmarks import parts, timing
from benchmarks._engine_precision_networks import (
    CLASSES,
    COUNTS,
    NETWORKS,
    Counts,
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
from crowdhmt_ros.graph.lower import Limits, Lowered, Outputs, deviation, lower, outputs
from crowdhmt_ros.graph.quantise import quantised, units
from crowdhmt_ros.types import EngineOptions, Segment

ERROR_AT_MOST, SLOWER_AT_MOST, AGREEMENT_AT_LEAST = 1e-2, 1.05, 0.99
ERROR_SOUGHT = 0.85e-2
"""On the pictures that operators are chosen on: it is a little more on others."""
SPEED, ERROR = 'any_precision_vs_best_peer/', 'int8_output_error/'
CLAIMS: parts.Claims = {
    **{SPEED + n: (SLOWER_AT_MOST, LOWER) for n in NETWORKS},
    **{ERROR + n: (ERROR_AT_MOST, LOWER) for n in NETWORKS},
    'int8_top1_agreement': (AGREEMENT_AT_LEAST, HIGHER)}
CHILD = 'benchmarks._engine_precision_child'
WAYS = ('openvino/int8', 'onnxruntime/int8', 'ncnn/fp32', 'openvino/fp32', 'onnxruntime/fp32')
QUICK = ('resnet18_32',)
PROCESSES, MOST_PROCESSES, ROUNDS, MOST_S = 5, 8, 60, 5.0
LEAST_WORK_RATIO = 0.02
"""In whole numbers, so that drawn networks that bear little of it have a file at all."""
TESTS, QUICK_TESTS = 2000, 200
QUICK_VARIANTS = ('w050d2',)
MIXED, ALL, F32 = 'mixed', 'all', 'f32'
"""Files: the operators that the limit allows in int8, every one, none."""
PEER, AGAIN = 'peer', 'peer again'
Times = Dict[str, List[float]]
Errors = Mapping[str, Mapping[str, float]]
"""Engine -> file -> output error."""


def figures(quick: bool) -> List[Figure]:
    """Measure every figure of the part; quick: one network, one variant, few inputs."""
    torch.set_num_threads(1)
    names = QUICK if quick else tuple(NETWORKS)
    ready: Dict[str, Ready] = {}
    with tempfile.TemporaryDirectory() as folder:
        found = [f for name in names for f in parts.tried(
            [ERROR + name, SPEED + name], CLAIMS,
            functools.partial(prepared, name, Path(folder), ready))]
        found += parts.tried(['int8_top1_agreement'], CLAIMS,
                             lambda: family_figures(Path(folder), quick))
        parts.say('int8: all graphs are made; from here on a machine needs to be quiet')
        return found + [f for name in ready for f in parts.tried(
            [SPEED + name], CLAIMS, functools.partial(
                _latencies, name, ready[name],
                (1, 1) if quick else (PROCESSES, MOST_PROCESSES)))]


class Ready(NamedTuple):
    """
    A network in all its forms.

    :param said: what a child is told of it
    :param files: form -> path
    :param errors: what the forms in int8 cost
    """

    said: Mapping[str, Any]
    files: Mapping[str, str]
    errors: Errors


def prepared(name: str, folder: Path, ready: Dict[str, Ready]) -> List[Figure]:
    """
    Make the forms of a network and return the figures of their errors.

    :param ready: takes the network
    """
    backbone, settings = NETWORKS[name]
    count = COUNTS.get(name, Counts())
    pictures = iter(scenes(sum(count), settings['edge']))
    settled, calibration, held_back, tested = (list(islice(pictures, n)) for n in count)
    model = drawn(backbone, settings, settled)
    lowered = lower(model, given(calibration), given(held_back),
                    Limits(ERROR_SOUGHT, 0.0, LEAST_WORK_RATIO))
    models = {F32: model, MIXED: lowered.model, ALL: _all_in_int8(model, lowered)}
    files = {form: saved(m, folder / ('%s.%s.onnx' % (name, form)))
             for form, m in models.items()}
    said = {'name': name, 'shape': (1, 3, settings['edge'], settings['edge']),
            'classes': CLASSES, 'plain': files[F32], 'int8': files[MIXED]}
    wanted = outputs(model, given(tested))
    errors = {'onnxruntime': _errors(wanted, {form: outputs(m, given(tested))
                                              for form, m in models.items() if form != F32}),
              'openvino': _errors(wanted, _answers_of_the_peer(files, tested, folder))}
    found = error_figures(name, lowered, errors, len(tested), len(units(model)))
    if name in QUICK:
        found += [inform('%s_output_error/%s/%s' % (f.precision, f.engine, name), f.output_error,
                         how='%d pictures, as for int8' % f.count)
                  for f in engine_figures(model, given(tested))]
    ready[name] = Ready(said, files, errors)
    return found


def _all_in_int8(model: onnx.ModelProto, lowered: Lowered) -> onnx.ModelProto:
    """Return what a user has who quantises every operator, by our ranges and rounding."""
    return lowered.model if not lowered.kept else quantised(
        model, lowered.observed, rule=lowered.rule, weights=lowered.weights)


def _answers_of_the_peer(files: Mapping[str, str], pictures: Sequence[Any], folder: Path
                         ) -> Dict[str, Outputs]:
    """Return file -> what OpenVINO answers, as `graph.lower.outputs` has it."""
    path = folder / 'pictures.npy'
    np.save(path, np.stack(pictures))
    found: Dict[str, List[Any]] = timing.in_fresh_process(CHILD, {
        'what': 'answers', 'pictures': str(path),
        'paths': {form: file for form, file in files.items() if form != F32}})
    return {form: [[np.array(one, np.float32)] for one in answers]
            for form, answers in found.items()}


def _errors(wanted: Outputs, found: Mapping[str, Outputs]) -> Dict[str, float]:
    return {form: deviation(wanted, one).output_error for form, one in found.items()}


def error_figures(name: str, lowered: Lowered, errors: Errors, tested: int, count: int
                  ) -> List[Figure]:
    """Return what int8 costs a network of so many operators that can be quantised."""
    worst = {form: max(each[form] for each in errors.values()) for form in (MIXED, ALL)}
    each = ', '.join('%s %.4f' % (engine, e[MIXED]) for engine, e in errors.items())
    return [
        claim(ERROR + name, worst[MIXED], ERROR_AT_MOST, better=LOWER,
              how='root mean square over the largest output, %d pictures that neither ranges nor '
              'operators were chosen on, the worse of %s; %.4f on the %d that operators were '
              'chosen on; ranges by %s, %d of %d operators stay in fp32' % (
                  tested, each, lowered.deviation.output_error, lowered.deviation.count,
                  lowered.rule.replace('_', ' '), len(lowered.kept), count)),
        inform('int8_output_error_all/' + name, worst[ALL],
               how='the same with every operator in int8')]


def _latencies(name: str, ready: Ready, processes: Tuple[int, int]) -> List[Figure]:
    """
    Return what is faster than what.

    :param processes: at least, and at most
    """
    said, files, errors = ready
    peers = [form for form in (ALL, MIXED) if errors['openvino'][form] <= ERROR_AT_MOST] or [F32]
    first = _times(said, list(WAYS), files, 1)
    middle = {way: float(np.median(times)) for way, times in first.items()}
    best = min((w for w in WAYS if w in first and _keeps(w, errors)), key=lambda w: middle[w])
    peer = min(peers, key=lambda form: middle[form])
    plain = min(s for w, s in middle.items() if w.endswith('fp32'))
    found, forms = {}, list(dict.fromkeys([peer, ALL]))
    for form in forms:
        found[form] = _compared(said, best, files[form], processes if form == peer else (1, 1), 1)
    each = ', '.join('%s %.2f ms%s' % (_title(f), 1e3 * middle[f], ' at an error of %.4f' % (
        errors['openvino'][f]) if f != F32 else '') for f in files)
    two = _compared(said, best, files[peer], (1, 1), 2)
    return [
        timing.claim_ratio(
            SPEED + name, {'': found[peer]}, SLOWER_AT_MOST, better=LOWER,
            how='%s %.2f ms over %s, the fastest form whose error is at most %g, 1 thread (%s)' % (
                best, 1e3 * middle[best], _title(peer), ERROR_AT_MOST, each)),
        inform('any_precision_vs_all_int8/' + name, found[ALL].ratio.value,
               how='%s over OpenVINO with every operator in int8, at an error of %.4f: %s' % (
                   best, errors['openvino'][ALL], found[ALL].ratio.text)),
        inform('int8_gain/' + name, plain / min(s for w, s in middle.items()
                                                if w.endswith('/int8')),
               better=HIGHER, how='fastest engine in fp32 over fastest in int8, 1 thread: '
               + ', '.join('%s %.2f ms' % (w, 1e3 * s) for w, s in middle.items() if '/' in w)),
        inform('any_precision_vs_best_peer_2_threads/' + name, two.ratio.value,
               how='as above, 2 threads: %s' % two.ratio.text)]


def _keeps(way: str, errors: Errors) -> bool:
    """Tell whether one of our ways keeps the limit."""
    engine, precision = way.split('/')
    return precision != 'int8' or errors[engine][MIXED] <= ERROR_AT_MOST


def _title(form: str) -> str:
    return {ALL: 'OpenVINO with all in int8', MIXED: 'OpenVINO on our mixed file',
            F32: 'OpenVINO in fp32'}[form]


def _compared(said: Mapping[str, Any], way: str, file: str, processes: Tuple[int, int],
              threads: int) -> timing.Compared:
    """Return a way of ours over OpenVINO on a file, the control over it again."""
    def measure() -> List[Dict[str, float]]:
        found = _times(said, [way], {PEER: file, AGAIN: file}, threads)
        return [dict(zip(found, each)) for each in zip(*found.values())]
    rounds = timing.gathered(measure, lambda r: timing.compared(r, PEER, AGAIN, way).control,
                             least=processes[0], most=processes[1])
    return timing.compared(rounds, PEER, AGAIN, way)


def _times(said: Mapping[str, Any], ways: List[str], peers: Mapping[str, str], threads: int
           ) -> Times:
    found: Times = timing.in_fresh_process(CHILD, {
        'what': 'times', 'said': dict(said), 'ways': ways, 'peers': dict(peers),
        'threads': threads, 'rounds': ROUNDS, 'most_s': MOST_S})
    return found


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
