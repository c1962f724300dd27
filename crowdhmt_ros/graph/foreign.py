# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Read an ONNX model that somebody else made, and make it one that robots can run. Offline.

Nothing in the file is believed: sizes are compared before memory is taken, data beside the
model is read from its own folder only, and a converted model is compared with the original.
"""
from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

import onnx
import onnx.inliner
import onnx.version_converter
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from crowdhmt_ros.errors import DataError, ExportError, all_problems
from crowdhmt_ros.graph.compare import largest_difference, random_inputs, run_model
from crowdhmt_ros.graph.dataflow import TRAVELLING, dtype_of
from crowdhmt_ros.graph.external import embed, tensor_problem, tensors_of
from crowdhmt_ros.graph.inference import inferred
from crowdhmt_ros.graph.model import MAX_IR, MAX_OPSET, MIN_IR, MIN_OPSET

MAX_MODEL_BYTES = 1 << 30
MAX_TENSOR_BYTES = 1 << 30
MAX_NODES = 20000
CONVERSION_TOLERANCE = 1e-5
DEPENDS = ('the shape of output %s depends on values (NonMaxSuppression, NonZero and the like): '
           'export the model without its last steps and do them behind it')
STANDARD_DOMAINS = ('', 'ai.onnx', 'ai.onnx.ml')

Shape = Tuple[int, ...]


def read_foreign(path: Path, shapes: Optional[Mapping[str, Shape]] = None) -> onnx.ModelProto:
    """
    Read a model, with all its data inside, fixed shapes, opset <= 17 and file version <= 8.

    :param path: an ONNX file, perhaps with data files beside it
    :param shapes: input -> extents, for those that the model leaves open; an open first extent
        that is not named here becomes 1
    :raises DataError: the file cannot be read or is malformed
    :raises ExportError: the model is sound, but robots cannot run it; says how to export again
    """
    model = _parse(path)
    _check_structure(model, path)
    _check_texts(model, path)
    embed(model, path.parent, MAX_MODEL_BYTES)
    _check_tensors(model, path)
    if model.functions:
        model = onnx.inliner.inline_local_functions(model)
    _check_operators(model)
    return with_known_version(with_fixed_shapes(model, shapes or {}))


def _parse(path: Path) -> onnx.ModelProto:
    try:
        size_bytes = path.stat().st_size
        if not path.is_file():
            raise DataError('%s is no file: name an ONNX model' % path)
        if size_bytes > MAX_MODEL_BYTES:
            raise DataError('%s has %d bytes, more than the %d that a bundle may hold'
                            % (path, size_bytes, MAX_MODEL_BYTES))
        content = path.read_bytes()
    except OSError as error:
        raise DataError('%s cannot be read (%s): name an ONNX model'
                        % (path, error.strerror or error)) from error
    model = onnx.ModelProto()
    try:
        model.ParseFromString(content)
    except (DecodeError, RuntimeError) as error:
        raise DataError('%s is no ONNX model or was cut short: export it again' % path) from error
    if not model.graph.node or not model.opset_import:
        raise DataError('%s holds no graph: export it again' % path)
    return model


def _check_structure(model: onnx.ModelProto, path: Path) -> None:
    if len(model.graph.node) > MAX_NODES:
        raise DataError('%s has %d operators, more than %d'
                        % (path, len(model.graph.node), MAX_NODES))
    if model.graph.sparse_initializer:
        raise ExportError('%s holds sparse initialisers: export it with dense ones' % path)


def _check_texts(model: onnx.ModelProto, path: Path) -> None:
    try:
        sound = _has_texts_only(model)
    except UnicodeDecodeError:
        sound = False
    if not sound:
        raise DataError('%s is malformed: a name is no text; copy or export it again' % path)


def _has_texts_only(message: Any) -> bool:
    """Read every name once: one that is no text is given as bytes, or fails when it is read."""
    for field, value in message.ListFields():
        if field.type == field.TYPE_STRING:
            values = [value] if isinstance(value, (str, bytes)) else list(value)
            if not all(isinstance(v, str) for v in values):
                return False
        elif field.type == field.TYPE_MESSAGE:
            inner = [value] if hasattr(value, 'ListFields') else value
            if not all(_has_texts_only(v) for v in inner):
                return False
    return True


def _check_tensors(model: onnx.ModelProto, path: Path) -> None:
    problems = [found for t in tensors_of(model) for found in (tensor_problem(t),) if found]
    if problems:
        raise DataError('%s is malformed: %s; export it again'
                        % (path, all_problems(problems[:3])))
    # The checker wants a shape for each input and output; one that is open is no fault here.
    shapeless = [v.type.tensor_type for v in (*model.graph.input, *model.graph.output)
                 if v.type.HasField('tensor_type') and not v.type.tensor_type.HasField('shape')]
    for kind in shapeless:
        kind.shape.SetInParent()
    try:
        onnx.checker.check_model(model)
        for kind in shapeless:
            kind.ClearField('shape')
    except (onnx.checker.ValidationError, ValueError, TypeError, RuntimeError) as error:
        raise DataError('%s is malformed (%s): export it again'
                        % (path, _first_line(error))) from error


def _check_operators(model: onnx.ModelProto) -> None:
    strange = sorted({'%s of %s' % (n.op_type, n.domain) for n in _nodes(model.graph)
                      if n.domain not in STANDARD_DOMAINS})
    if strange:
        raise ExportError("the model has operators that are not ONNX's own (%s): export it "
                          'without them' % ', '.join(strange[:5]))


def _nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from _nodes(inner)


def with_fixed_shapes(model: onnx.ModelProto, shapes: Mapping[str, Shape]) -> onnx.ModelProto:
    """
    Return a model all of whose tensors have one shape.

    Names for extents hold throughout: what one input says of them counts for the others.

    :param shapes: input -> extents
    :raises ExportError: an input stays open, contradicts `shapes`, or an output depends on values
    """
    fixed = onnx.ModelProto()
    fixed.CopyFrom(model)
    graph = fixed.graph
    known = {t.name for t in graph.initializer}
    inputs = [v for v in graph.input if v.name not in known]
    unknown = sorted(set(shapes) - {v.name for v in inputs})
    if unknown:
        raise ExportError('the model has no input %s, it has %s'
                          % (', '.join(unknown), ', '.join(v.name for v in inputs)))
    if not inputs:
        raise ExportError('the model has no input: there is nothing to compute')
    symbols: Dict[str, int] = {}
    problems = [found for v in inputs for found in (_fix(v, shapes.get(v.name), symbols),)
                if found]
    problems += [found for v in inputs for found in (_open(v, symbols),) if found]
    if problems:
        raise ExportError(all_problems(problems))
    del graph.input[:]
    graph.input.extend(inputs)
    del graph.value_info[:]
    for value in graph.output:
        value.type.tensor_type.ClearField('shape')
    return _inferred(fixed)


def _fix(value: onnx.ValueInfoProto, wanted: Optional[Shape], symbols: Dict[str, int]
         ) -> Optional[str]:
    """Write the extents of an input that are known; return what contradicts."""
    kind = value.type.tensor_type
    if not value.type.HasField('tensor_type') or dtype_of(kind.elem_type) not in TRAVELLING:
        return 'input %s is no tensor of %s' % (value.name, ', '.join(TRAVELLING))
    if wanted is not None and not kind.HasField('shape'):
        kind.shape.dim.extend(onnx.TensorShapeProto.Dimension() for _ in wanted)
    if not kind.HasField('shape'):
        return 'input %s has no shape: say --input-shape %s:1,...' % (value.name, value.name)
    extents = kind.shape.dim
    if wanted is not None and len(wanted) != len(extents):
        return 'input %s has %d extents, --input-shape names %d' % (
            value.name, len(extents), len(wanted))
    for axis, extent in enumerate(extents):
        is_set = extent.HasField('dim_value') and extent.dim_value > 0
        if wanted is not None and is_set and extent.dim_value != wanted[axis]:
            return 'input %s has extent %d at axis %d, --input-shape says %d: export it anew' % (
                value.name, extent.dim_value, axis, wanted[axis])
        if is_set:
            continue
        value_now = wanted[axis] if wanted is not None else (1 if axis == 0 else None)
        if value_now is not None:
            if extent.dim_param:
                symbols.setdefault(extent.dim_param, value_now)
            extent.dim_value = value_now
    return None


def _open(value: onnx.ValueInfoProto, symbols: Mapping[str, int]) -> Optional[str]:
    """Fill what other inputs said of an input's extents; return what stays open."""
    left: List[str] = []
    extents = value.type.tensor_type.shape.dim
    for axis, extent in enumerate(extents):
        if extent.dim_param in symbols:
            extent.dim_value = symbols[extent.dim_param]
        if not extent.HasField('dim_value') or extent.dim_value <= 0:
            left.append(extent.dim_param or 'axis %d' % axis)
    if not left:
        return None
    shown = ','.join(str(e.dim_value) if e.HasField('dim_value') else 'N' for e in extents)
    return 'input %s leaves %s open: say --input-shape %s:%s with a number for each N' % (
        value.name, ', '.join(left), value.name, shown)


def _inferred(model: onnx.ModelProto) -> onnx.ModelProto:
    """Give the outputs the shapes that follow; refuse what does not follow or is absurd."""
    try:
        graph = inferred(model)
    except ExportError as error:
        raise ExportError('%s with a batch of 1: export the model with one' % error) from error
    for value in (*model.graph.input, *graph.value_info, *graph.output):
        if size_bytes(value) > MAX_TENSOR_BYTES:
            raise ExportError('tensor %s would take %d bytes, more than %d'
                              % (value.name, size_bytes(value), MAX_TENSOR_BYTES))
    found = {v.name: v for v in graph.output}
    for value in model.graph.output:
        value.CopyFrom(found[value.name])
    shapeless = [v.name for v in model.graph.output
                 if not v.type.tensor_type.HasField('shape')
                 or v.type.tensor_type.elem_type == onnx.TensorProto.UNDEFINED]
    if shapeless:
        raise ExportError(DEPENDS % ', '.join(shapeless))
    return model


def size_bytes(value: onnx.ValueInfoProto) -> int:
    """Return the bytes of a tensor, counting extents that are not known as 1."""
    kind = value.type.tensor_type
    try:
        count = int(onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type).itemsize)
    except KeyError:
        count = 1
    for extent in kind.shape.dim:
        count *= max(extent.dim_value, 1)
    return count


def open_outputs(outputs: Sequence[onnx.ValueInfoProto]) -> List[str]:
    """Return the outputs whose shape depends on values."""
    return [v.name for v in outputs
            if not v.type.tensor_type.HasField('shape') or any(
                e.dim_value <= 0 for e in v.type.tensor_type.shape.dim)]


def opset_of(model: onnx.ModelProto) -> int:
    """
    Return the version of ONNX's own operators that a model uses.

    :raises ExportError: it names none
    """
    versions = [o.version for o in model.opset_import if o.domain in ('', 'ai.onnx')]
    if not versions:
        raise ExportError("the model names no version of ONNX's operators: export it again")
    return int(max(versions))


def with_known_version(model: onnx.ModelProto) -> onnx.ModelProto:
    """
    Return a model of opset 7 to 17 and file version 4 to 8, converted where it can be.

    :raises ExportError: it cannot, or the converted model answers otherwise
    """
    opset = opset_of(model)
    if MIN_OPSET <= opset <= MAX_OPSET and MIN_IR <= model.ir_version <= MAX_IR:
        return model
    again = ('export it again with opset_version=%d (torch.onnx.export) or --opset %d '
             '(tf2onnx, paddle2onnx)' % (MAX_OPSET, MAX_OPSET))
    converted = onnx.ModelProto()
    converted.CopyFrom(model)
    try:
        if not MIN_OPSET <= opset <= MAX_OPSET:
            converted = onnx.version_converter.convert_version(model, MAX_OPSET)
        converted.ir_version = min(MAX_IR, max(MIN_IR, model.ir_version))
        onnx.checker.check_model(converted, full_check=True)
        given = random_inputs(model)
        difference = largest_difference(run_model(model, given, optimise=False),
                                        run_model(converted, given, optimise=False))
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError, ExportError,
            onnx.version_converter.ConvertError, RuntimeError, ValueError, KeyError) as error:
        raise ExportError('the model is of opset %d and file version %d, robots read up to %d and '
                          '%d, and it does not convert (%s): %s'
                          % (opset, model.ir_version, MAX_OPSET, MAX_IR, _first_line(error),
                             again)) from error
    if not difference <= CONVERSION_TOLERANCE:
        raise ExportError('the model is of opset %d, robots read up to %d, and converted it '
                          'answers otherwise (by %g): %s'
                          % (opset, MAX_OPSET, difference, again))
    return converted


def _first_line(error: BaseException, most: int = 160) -> str:
    lines: Sequence[str] = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:most]
