# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
A bundle from any ONNX model, without variants: transformed, cut, its weights in a store. Offline.

What the bundle computes equals what the model computes; only storing in half precision and
leaving out a last Softmax, both when asked for, change its answers.
"""
from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Any, Dict, List, Optional, Sequence, Tuple

import numpy as np
import onnx
from numpy.typing import NDArray

from crowdhmt_ros.bundle.entries import IMAGE_CLASSIFICATION, ITEM_BYTES
from crowdhmt_ros.bundle.writer import Description
from crowdhmt_ros.bundle.writer_graphs import INLINE_ELEMENTS
from crowdhmt_ros.errors import ExportError
from crowdhmt_ros.graph.compare import largest_difference, random_inputs, run_model
from crowdhmt_ros.graph.cuts import nested_cuts, offer
from crowdhmt_ros.graph.family import Family, FamilyGraph, Recipe
from crowdhmt_ros.graph.foreign import DEPENDS, open_outputs
from crowdhmt_ros.graph.inference import inferred
from crowdhmt_ros.graph.split import Reference, split
from crowdhmt_ros.graph.transform import transform
from crowdhmt_ros.types import InputSpec, Variant

TOLERANCE = 1e-5
"""By which head and tail may differ from the whole, and the transformed from the model."""
HALF_TOLERANCE = 0.01
SEEDS = (0, 1, 2)
OTHER = 'other'
MAX_CLASSES = 100_000


@dataclass(frozen=True)
class Wishes:
    """
    How a model shall become a bundle.

    :param name: of the bundle and of its only variant
    :param task: 'image_classification' or 'other'
    :param classes: in the order of the scores, empty to number them
    :param scale: see `InputSpec`
    :param mean: see `InputSpec`
    :param std: see `InputSpec`
    :param accuracy: (ratio of right answers on photos, images counted), None when unknown
    :param cuts: at most so many
    :param pieces: write what lies between the cuts too
    :param half: largest difference that storing weights as float16 may cause, on the scale of
        each output's largest value or of 1; None stores them as they are
    :param drop_softmax: give the scores before a Softmax that ends the model
    :param resize: see `InputSpec`
    """

    name: str
    task: str = IMAGE_CLASSIFICATION
    classes: Tuple[str, ...] = ()
    scale: float = 1 / 255
    mean: Tuple[float, ...] = (0.485, 0.456, 0.406)
    std: Tuple[float, ...] = (0.229, 0.224, 0.225)
    accuracy: Optional[Tuple[float, int]] = None
    cuts: int = 4
    pieces: bool = False
    half: Optional[float] = None
    drop_softmax: bool = False
    resize: str = 'area'


@dataclass(frozen=True, eq=False)
class Adopted:
    """
    What `write_bundle` takes, and what to tell of it.

    :param nodes: operators before and after the transformation
    :param stored_half: whether weights are stored as float16
    :param notes: what the user should know, a sentence each
    """

    family: Family
    description: Description
    nodes: Tuple[int, int]
    stored_half: bool
    notes: Tuple[str, ...]


def adopt(model: onnx.ModelProto, wishes: Wishes, provenance: Dict[str, Any]) -> Adopted:
    """
    Make a family of one from a model.

    :param model: of `graph.foreign.read_foreign`
    :param wishes: how
    :param provenance: of the manifest; what was done is added
    :raises ExportError: the model does not fit its task, robots cannot run it, or transformed
        it answers otherwise, as one that draws random numbers does
    """
    notes: List[str] = []
    prepared = model
    if wishes.task == IMAGE_CLASSIFICATION:
        prepared = _without_softmax(channels_first(model), wishes.drop_softmax, notes)
    slim = transform(prepared, tolerance=TOLERANCE)
    whole = _checked(slim.model)
    _check_interface(whole, wishes)
    whole, arrays, stored_half = _stored(whole, wishes.half, notes)
    cuts = _cuts(whole, wishes, notes)
    graph, tensors = _shared(whole, arrays, wishes, cuts)
    nodes = (len(model.graph.node), len(whole.graph.node))
    origin = {**provenance, 'operators_before': nodes[0], 'operators': nodes[1],
              'removed_by_rule': slim.report.by_rule(),
              'weights': 'float16' if stored_half else 'as they were'}
    return Adopted(Family(tensors, (graph,)), _description(whole, wishes, origin), nodes,
                   stored_half, tuple(notes))


def slug(text: str) -> str:
    """Return a text as a name for files: letters, digits, dot, hyphen, underscore."""
    return re.sub('[^A-Za-z0-9._-]+', '-', text).strip('-.') or 'model'


def _checked(model: onnx.ModelProto) -> onnx.ModelProto:
    """Refuse what a bundle cannot hold: shapes that depend on values."""
    outputs = list(inferred(model).output)
    loose = open_outputs(outputs)
    if loose:
        raise ExportError(DEPENDS % ', '.join(loose))
    found = onnx.ModelProto()
    found.CopyFrom(model)
    del found.graph.output[:], found.graph.value_info[:]
    found.graph.output.extend(outputs)
    return found


def channels_first(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a model that takes (1, 3, height, width), also where it took channels last."""
    (value, *others) = model.graph.input
    shape = _shape(value)
    if others or len(shape) != 4 or shape[3] != 3 or shape[1] == 3:
        return model
    turned = onnx.ModelProto()
    turned.CopyFrom(model)
    name = _free_name(model, value.name + '_channels_first')
    kind = value.type.tensor_type.elem_type
    del turned.graph.input[:]
    turned.graph.input.append(onnx.helper.make_tensor_value_info(
        name, kind, [shape[0], 3, shape[1], shape[2]]))
    turned.graph.node.insert(0, onnx.helper.make_node(
        'Transpose', [name], [value.name], name=name + '_transpose', perm=[0, 2, 3, 1]))
    return turned


def _free_name(model: onnx.ModelProto, stem: str) -> str:
    taken = {n for node in model.graph.node for n in (*node.input, *node.output, node.name)}
    while stem in taken:
        stem += '_'
    return stem


def _shape(value: onnx.ValueInfoProto) -> Tuple[int, ...]:
    return tuple(d.dim_value for d in value.type.tensor_type.shape.dim)


def _dtype(value: onnx.ValueInfoProto) -> str:
    return str(onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type).name)


def _without_softmax(model: onnx.ModelProto, drop: bool, notes: List[str]) -> onnx.ModelProto:
    """Take a Softmax off the first output when asked for; say so when it stays."""
    output = model.graph.output[0]
    last = next((n for n in model.graph.node if output.name in n.output), None)
    uses = sum(list(n.input).count(output.name) for n in model.graph.node)
    if last is None or last.op_type != 'Softmax' or uses:
        return model
    if not drop:
        notes.append('the model ends in Softmax, robots apply their own: with --drop-softmax '
                     "their confidence is the model's")
        return model
    bare = onnx.ModelProto()
    bare.CopyFrom(model)
    for node in bare.graph.node:
        if output.name in node.output:
            node.CopyFrom(onnx.helper.make_node('Identity', [last.input[0]], [output.name],
                                                name=last.name))
    return bare


def _check_interface(model: onnx.ModelProto, wishes: Wishes) -> None:
    if wishes.task != IMAGE_CLASSIFICATION:
        return
    inputs, output = list(model.graph.input), model.graph.output[0]
    shape = _shape(inputs[0])
    if len(inputs) != 1 or len(shape) != 4 or shape[:2] != (1, 3) or (
            _dtype(inputs[0]) != 'float32'):
        raise ExportError('an image classifier takes one float32 image (1, 3, height, width), '
                          'this model takes %s: export it so, or say --task other'
                          % ', '.join('%s %s %r' % (v.name, _dtype(v), _shape(v))
                                      for v in inputs))
    scores = _shape(output)
    if len(scores) != 2 or scores[0] != 1 or _dtype(output) != 'float32':
        raise ExportError('an image classifier gives float32 scores (1, classes) first, this '
                          'model gives %s %s %r: export it so, or say --task other'
                          % (output.name, _dtype(output), scores))
    if wishes.classes and len(wishes.classes) != scores[1]:
        raise ExportError('%d classes are named, the model tells %d apart: name each on a line '
                          'of its own' % (len(wishes.classes), scores[1]))
    if scores[1] > MAX_CLASSES:
        raise ExportError('the model tells %d classes apart, more than %d'
                          % (scores[1], MAX_CLASSES))


def _stored(model: onnx.ModelProto, half: Optional[float], notes: List[str]
            ) -> Tuple[onnx.ModelProto, Dict[str, NDArray[np.generic]], bool]:
    """
    Return the model, its initialisers as they are stored, and whether those are halves.

    The model holds what robots will compute from the store.
    """
    arrays = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    kept = {n: a for n, a in arrays.items()
            if a.size > INLINE_ELEMENTS and a.dtype.name in ITEM_BYTES}
    if half is None:
        return model, kept, False
    halves = {n: _half(a) for n, a in kept.items()}
    rounded = onnx.ModelProto()
    rounded.CopyFrom(model)
    for tensor in rounded.graph.initializer:
        if tensor.name in halves and arrays[tensor.name].dtype == np.float32:
            tensor.CopyFrom(onnx.numpy_helper.from_array(
                halves[tensor.name].astype(np.float32), tensor.name))
    difference = _difference(model, rounded)
    if difference <= half:
        notes.append('weights are stored as float16: outputs differ by %.2g at most'
                     % difference)
        return rounded, halves, True
    notes.append('weights stay float32: as float16 the outputs would differ by %.2g, more than '
                 '%.2g' % (difference, half))
    return model, kept, False


def _half(array: NDArray[np.generic]) -> NDArray[np.generic]:
    """Round a float32 weight of two axes or more; what adds up, such as a bias, stays exact."""
    if array.dtype != np.float32 or array.ndim < 2:
        return array
    with np.errstate(over='ignore'):
        return array.astype(np.float16)


def _difference(one: onnx.ModelProto, other: onnx.ModelProto) -> float:
    worst = 0.0
    for seed in SEEDS:
        given = random_inputs(one, seed)
        worst = max(worst, largest_difference(run_model(one, given, optimise=False),
                                              run_model(other, given)))
    return worst


def _cuts(model: onnx.ModelProto, wishes: Wishes, notes: List[str]
          ) -> Dict[str, Tuple[str, ...]]:
    """Choose cuts that hold: what does not is left out and told."""
    is_image = wishes.task == IMAGE_CLASSIFICATION
    offered: Sequence[Tuple[str, ...]] = [
        c.tensors for c in offer(model, wishes.cuts, carrying=not is_image)]
    if wishes.pieces:
        offered = nested_cuts(model, offered)
    held: List[Tuple[str, ...]] = []
    if wishes.cuts <= 0:
        return {}
    reference = Reference(model)
    for tensors in offered:
        try:
            reference.check(split(model, tensors), TOLERANCE)
            held.append(tensors)
        except ExportError as error:
            notes.append('left out a cut: %s' % error)
    if not held:
        notes.append('the model has no place to cut it: it runs whole')
    return {'%s-cut%d' % (slug(wishes.name), i + 1): t for i, t in enumerate(held)}


def _shared(model: onnx.ModelProto, arrays: Dict[str, NDArray[np.generic]], wishes: Wishes,
            cuts: Dict[str, Tuple[str, ...]]
            ) -> Tuple[FamilyGraph, Dict[str, NDArray[np.generic]]]:
    """Put equal weights into the store once."""
    tensors: Dict[str, NDArray[np.generic]] = {}
    recipes: Dict[str, Recipe] = {}
    names: Dict[Tuple[str, Tuple[int, ...], str], str] = {}
    types = {t.name: onnx.helper.tensor_dtype_to_np_dtype(t.data_type).name
             for t in model.graph.initializer}
    for name, array in arrays.items():
        key = (array.dtype.name, array.shape, hashlib.sha256(array.tobytes()).hexdigest())
        stored = names.setdefault(key, name)
        tensors.setdefault(stored, array)
        recipes[name] = Recipe(stored, tuple((0, e) for e in array.shape),
                               dtype=str(types[name]))
    variant_id = slug(wishes.name)
    return FamilyGraph(variant_id, Variant((), 0, _precision(model, types)), model, recipes, cuts,
                       wishes.pieces), tensors


def _precision(model: onnx.ModelProto, types: Dict[str, str]) -> str:
    """Return what most of the arithmetic is done in."""
    if any(n.op_type in ('DequantizeLinear', 'QLinearConv', 'QLinearMatMul', 'ConvInteger',
                         'MatMulInteger') for n in model.graph.node):
        return 'int8'
    kinds = list(types.values())
    return 'fp16' if kinds.count('float16') > kinds.count('float32') else 'fp32'


def _description(model: onnx.ModelProto, wishes: Wishes, origin: Dict[str, Any]) -> Description:
    value = model.graph.input[0]
    if wishes.task != IMAGE_CLASSIFICATION:
        return Description(
            slug(wishes.name), wishes.task, wishes.classes,
            InputSpec(value.name, _dtype(value), _shape(value), 'none', 'none', 1.0, (), ()),
            {}, _accuracy(wishes), origin)
    count = _shape(model.graph.output[0])[1]
    classes = wishes.classes or tuple('class %d' % i for i in range(count))
    return Description(
        slug(wishes.name), wishes.task, classes,
        InputSpec(value.name, 'float32', _shape(value), 'rgb', wishes.resize, wishes.scale,
                  wishes.mean, wishes.std),
        {'any': (0.0, 1.0)}, _accuracy(wishes), origin)


def _accuracy(wishes: Wishes) -> Dict[str, Dict[str, Tuple[float, int]]]:
    if wishes.accuracy is None:
        return {}
    return {slug(wishes.name): {'photos': wishes.accuracy}}
