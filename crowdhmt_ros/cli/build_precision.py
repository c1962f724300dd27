# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What `crowdhmt build --int8` and `crowdhmt import --int8` do: calibrate, search, measure."""
from __future__ import annotations

import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Callable, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

import numpy as np
import onnx
from numpy.typing import NDArray

from crowdhmt_ros.bundle.entries import Accuracy, PrecisionFigure
from crowdhmt_ros.bundle.reader import Bundle
from crowdhmt_ros.bundle.writer_precision import INT8, STORE_PREFIX
from crowdhmt_ros.cli.crossings import prepared
from crowdhmt_ros.datasets.images import SUFFIXES, decode_image, quiet_opencv
from crowdhmt_ros.engine.backend import make_buffers
from crowdhmt_ros.engine.backends import BACKENDS, ENGINES
from crowdhmt_ros.engine.backends.common import refuse
from crowdhmt_ros.errors import BackendError, DataError, ExportError
from crowdhmt_ros.graph.family import Family, FamilyGraph
from crowdhmt_ros.graph.lower import Deviation, Limits, Lowered, deviation, lower, outputs
from crowdhmt_ros.graph.ranges import Given
from crowdhmt_ros.types import EngineOptions, InputSpec, Segment, TensorSpec

LEAST_CALIBRATION, LEAST_HELD_BACK = 16, 16
MOST_CALIBRATION, MOST_HELD_BACK = 512, 1000
ENGINE_INPUTS = 64
"""On how many inputs the precisions are compared that engines make by themselves."""
HALVES = ('bf16', 'fp16')
LONGEST_S = 120.0
"""What an engine may take to answer all inputs with a label."""
Progress = Callable[[int, int], None]


@dataclass(frozen=True, eq=False)
class Measured:
    """
    What is written of lower precisions.

    :param lowered: variant_id -> how it is computed in whole numbers, those that keep the limits
    :param figures: variant_id -> what lower precisions cost
    :param notes: what the user should know, a sentence each
    """

    lowered: Mapping[str, Lowered]
    figures: Mapping[str, Tuple[PrecisionFigure, ...]]
    notes: Tuple[str, ...]


def precisions(family: Family, calibration: Sequence[Given], held_back: Sequence[Given],
               limits: Limits, progress: Progress) -> Measured:
    """
    Find out what lower precisions cost each variant of a family.

    :param calibration: inputs that ranges are chosen on
    :param held_back: other inputs, that answers are compared on
    :raises DataError: there are too few inputs
    """
    for name, inputs, least in (('calibrate', calibration, LEAST_CALIBRATION),
                                ('compare', held_back, LEAST_HELD_BACK)):
        if len(inputs) < least:
            raise DataError('int8 needs %d inputs to %s, there are %d: give more data'
                            % (least, name, len(inputs)))
    lowered: Dict[str, Lowered] = {}
    figures: Dict[str, Tuple[PrecisionFigure, ...]] = {}
    notes: List[str] = []
    for number, graph in enumerate(family.graphs, 1):
        found = _lowered(graph, calibration[:MOST_CALIBRATION], held_back[:MOST_HELD_BACK],
                         limits, notes)
        own = engine_figures(graph.model, held_back[:ENGINE_INPUTS])
        if found is not None:
            lowered[graph.variant_id] = found
            own = [_figure(INT8, '', found.deviation, len(found.kept)), *own]
        figures[graph.variant_id] = tuple(own)
        progress(number, len(family.graphs))
    return Measured(lowered, figures, tuple(notes))


def _lowered(graph: FamilyGraph, calibration: Sequence[Given], held_back: Sequence[Given],
             limits: Limits, notes: List[str]) -> Optional[Lowered]:
    try:
        found = lower(graph.model, calibration, held_back, limits)
    except ExportError as error:
        notes.append('%s has no int8: %s' % (graph.variant_id, error))
        return None
    if found.holds:
        return found
    notes.append('%s has no int8: with half of its work in fp32 the outputs still differ by %.2g '
                 'and %s' % (graph.variant_id, found.deviation.output_error,
                             _agreement(found.deviation)))
    return None


def _agreement(found: Deviation) -> str:
    return ('nothing tells its answers apart' if found.agreement is None else
            '%.1f %% of its answers stay' % (100.0 * found.agreement))


def _figure(precision: str, engine: str, found: Deviation, kept: int = 0) -> PrecisionFigure:
    return PrecisionFigure(precision, engine, found.output_error, found.largest_error,
                           found.agreement, found.count, {}, kept)


def engine_figures(model: onnx.ModelProto, inputs: Sequence[Given]) -> List[PrecisionFigure]:
    """Return what the halves cost that engines on this machine make of a graph."""
    wanted = outputs(model, inputs)
    found: List[PrecisionFigure] = []
    with _on_disk(model) as segment:
        for engine in (name for name, e in ENGINES.items() if e.installed):
            for precision in HALVES:
                try:
                    answers = list(_answers(segment, EngineOptions(engine, precision=precision),
                                            inputs))
                except BackendError:  # it has no such precision here
                    continue
                found.append(_figure(precision, engine, deviation(wanted, answers)))
    return found


@contextmanager
def _on_disk(model: onnx.ModelProto) -> Iterator[Segment]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, 'graph.onnx')
        onnx.save(model, str(path))
        yield Segment('graph', '', str(path), _specs(model.graph.input),
                      _specs(model.graph.output))


def _answers(segment: Segment, options: EngineOptions, inputs: Sequence[Given]
             ) -> Iterator[List[NDArray[np.float32]]]:
    """
    Yield the float32 outputs per input.

    :raises BackendError: the engine is absent or refuses
    """
    backend = BACKENDS[options.backend]()
    refuse(backend.refusal(segment, options))
    executable = backend.compile(segment, options)
    for given in inputs:
        buffers = make_buffers(executable.outputs)
        executable.run([np.ascontiguousarray(given[s.name]) for s in executable.inputs], buffers)
        yield [b for b in buffers if b.dtype == np.float32]


def _specs(values: Sequence[onnx.ValueInfoProto]) -> Tuple[TensorSpec, ...]:
    return tuple(TensorSpec(
        v.name, str(onnx.helper.tensor_dtype_to_np_dtype(v.type.tensor_type.elem_type).name),
        tuple(d.dim_value for d in v.type.tensor_type.shape.dim)) for v in values)


def with_accuracies(found: Measured, family: Family, condition: str, inputs: Sequence[Given],
                    labels: NDArray[np.int64], progress: Progress) -> Measured:
    """
    Return the same with the accuracies of all lower precisions, measured as robots run.

    Those of one variant are measured on the same inputs, or their differences would be chance. So
    an engine that would take longer than `LONGEST_S` stays known by its agreement, with a note.

    :param family: that `found` is of
    :param inputs: on which nothing was chosen
    """
    figures, notes = dict(found.figures), list(found.notes)
    for number, graph in enumerate(family.graphs, 1):
        name = graph.variant_id
        with _on_disk(graph.model) as segment:
            ratios = [right_answers(found.lowered[name].model, inputs, labels)
                      if f.precision == INT8 else _right_in(f, segment, inputs, labels)
                      for f in figures[name]]
        notes += ['%s in %s of %s: no accuracy, %d answers would take more than %.0f s'
                  % (name, f.precision, f.engine, len(inputs), LONGEST_S)
                  for f, ratio in zip(figures[name], ratios) if ratio is None]
        figures[name] = tuple(
            f if ratio is None else
            replace(f, accuracy={**f.accuracy, condition: Accuracy(ratio, len(inputs))})
            for f, ratio in zip(figures[name], ratios))
        progress(number, len(family.graphs))
    return replace(found, figures=figures, notes=tuple(notes))


def _right_in(figure: PrecisionFigure, segment: Segment, inputs: Sequence[Given],
              labels: NDArray[np.int64]) -> Optional[float]:
    """Return the ratio of right answers of one engine, None where it takes too long."""
    options = EngineOptions(figure.engine, precision=figure.precision)
    right, began_s = 0, time.monotonic()
    for count, (answer, label) in enumerate(zip(_answers(segment, options, inputs), labels), 1):
        right += int(answer[0].argmax() == label)
        if count == ENGINE_INPUTS and (
                (time.monotonic() - began_s) * len(inputs) / count > LONGEST_S):
            return None
    return right / len(inputs)


def told(bundle: Bundle) -> Iterator[str]:
    """Yield a line for each precision of each variant, and one for what int8 takes on the disk."""
    for name in bundle.manifest.front:
        for f in bundle.variant(name).precisions:
            accuracy = ''.join(', accuracy %.3f' % a.value for a in f.accuracy.values())
            agreement = ('' if f.agreement is None else
                         ', %.1f %% of the answers stay' % (100.0 * f.agreement))
            kept = ', %d operators stay in fp32' % f.kept if f.kept else ''
            yield '%s in %s: outputs differ by %.2g (%.2g at most)%s%s%s' % (
                name, f.precision + (' of ' + f.engine if f.engine else ''), f.output_error,
                f.largest_error, agreement, accuracy, kept)
    added = sum(t.size_bytes for t in bundle.manifest.tensors.values()
                if t.name.startswith(STORE_PREFIX))
    stored = sum(t.size_bytes for t in bundle.manifest.tensors.values())
    yield 'int8 takes %.2f MB of the %.2f MB of weights' % (added / 1e6, stored / 1e6)


def right_answers(model: onnx.ModelProto, inputs: Sequence[Given],
                  labels: NDArray[np.int64]) -> float:
    """Return the ratio of inputs whose highest score is their class."""
    best = [int(given[0].argmax()) for given in outputs(model, inputs)]
    return float(np.mean(np.array(best) == labels))


def given_inputs(values: NDArray[np.float32], name: str) -> List[Given]:
    """Part an array (n, ...) into inputs of one each."""
    return [{name: np.ascontiguousarray(v[None])} for v in values]


def read_inputs(path: Path, spec: InputSpec, *, is_image: bool) -> List[Given]:
    """
    Read inputs to calibrate a model on.

    :param path: a folder of images, or a .npy file (n, ...) of inputs as the model takes them
    :param spec: of the model's input
    :param is_image: whether images can be made inputs of
    :returns: in the order of the files' names
    :raises DataError: they cannot be read or do not fit
    """
    if path.suffix == '.npy':
        return _read_array(path, spec)
    if not path.is_dir():
        raise DataError('--int8 %s is neither a folder of images nor a .npy file' % path)
    if not is_image:
        raise DataError('--int8 %s: this model takes no images; give a .npy file of inputs' % path)
    found: List[Given] = []
    for file in sorted(f for f in path.rglob('*') if f.suffix.lower() in SUFFIXES):
        try:
            with quiet_opencv():
                pixels = decode_image(np.fromfile(file, np.uint8),
                                      (spec.shape[2], spec.shape[3]))
        except (DataError, OSError) as error:
            raise DataError('--int8: %s %s; take it out' % (file, error)) from error
        found.append({spec.name: prepared(pixels, spec)})
        if len(found) == MOST_CALIBRATION + MOST_HELD_BACK:
            break
    return found


def _read_array(path: Path, spec: InputSpec) -> List[Given]:
    try:
        values = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError('--int8 %s cannot be read (%s)' % (path, ' '.join(str(error).split()))
                        ) from error
    wanted = tuple(spec.shape[1:])
    if (not isinstance(values, np.ndarray) or values.shape[1:] != wanted
            or values.dtype != np.dtype(spec.dtype)):
        raise DataError('--int8 %s holds %s %r, the model takes %s (n, %s)' % (
            path, getattr(values, 'dtype', 'several arrays'), getattr(values, 'shape', ()),
            spec.dtype, ', '.join(map(str, wanted))))
    return given_inputs(values, spec.name)
