# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""From trained shared weights to a family of ONNX graphs with folded normalisations."""
from __future__ import annotations

import io
import warnings
from typing import Dict, Mapping, Tuple

import numpy as np
import onnx
import torch
from numpy.typing import NDArray

from crowdhmt_ros.elastic.slim_exits import exit_name
from crowdhmt_ros.elastic.slim_net import (
    NORM_EPSILON,
    StaticNet,
    Statistics,
    Supernet,
    stages_of,
    statistics_key,
)
from crowdhmt_ros.elastic.stage_shapes import ConvShape
from crowdhmt_ros.errors import ExportError
from crowdhmt_ros.graph.family import Family, FamilyGraph, Recipe, realise
from crowdhmt_ros.types import Variant

OPSET = 17
IR_VERSION = 8
INPUT_NAME = 'image'
OUTPUT_NAME = 'logits'


def folded_tensors(net: Supernet, shape: ConvShape, statistics: Statistics
                   ) -> Tuple[NDArray[np.float32], NDArray[np.float32]]:
    """
    Fold a normalisation into a scale per output channel and a bias.

    :raises ExportError: its statistics are missing
    """
    key = statistics_key(shape)
    if key not in statistics:
        raise ExportError('statistics of %s are missing; recalibrate this variant' % key)
    mean, variance = (v.double() for v in statistics[key])
    gain, shift = (net.weight('%s.%s' % (shape.name, part)).detach().double()[:shape.outputs]
                   for part in ('gain', 'shift'))
    scale = gain / torch.sqrt(variance + NORM_EPSILON)
    return scale.float().numpy(), (shift - mean * scale).float().numpy()


def _conv_recipes(shape: ConvShape) -> Dict[str, Recipe]:
    key = statistics_key(shape)
    kernel = (0, shape.kernel)
    return {
        shape.name + '.conv.weight': Recipe(
            shape.name + '.weight', ((0, shape.outputs), (0, shape.inputs), kernel, kernel),
            key + '.scale', 0),
        shape.name + '.conv.bias': Recipe(key + '.bias', ((0, shape.outputs),)),
    }


def recipes_of(net: Supernet, variant: Variant) -> Dict[str, Recipe]:
    """Return the recipe of every parameter of a variant's folded network."""
    folded = StaticNet(net.backbone, stages_of(net.backbone, variant), folded=True)
    recipes: Dict[str, Recipe] = {}
    for shape in folded.shapes.values():
        recipes.update(_conv_recipes(shape))
    head, classes = exit_name(variant.exit_index), net.backbone.classes
    recipes['head.linear.weight'] = Recipe(
        head + '.weight', ((0, classes), (0, folded.head.linear.in_features)))
    recipes['head.linear.bias'] = Recipe(head + '.bias', ((0, classes),))
    return recipes


def shared_tensors(net: Supernet, variants: Mapping[str, Variant], statistics: Statistics
                   ) -> Dict[str, NDArray[np.generic]]:
    """
    Collect the tensors that the variants' recipes name: weights in float16, the rest float32.

    :raises ExportError: statistics are missing
    """
    tensors: Dict[str, NDArray[np.generic]] = {}
    for name in net.names():
        value = net.weight(name).detach().numpy()
        if name.endswith('.weight'):
            tensors[name] = value.astype(np.float16)
        elif name.endswith('.bias'):
            tensors[name] = value.astype(np.float32)
    for variant in variants.values():
        shapes = StaticNet(
            net.backbone, stages_of(net.backbone, variant), folded=True).shapes
        for shape in shapes.values():
            key = statistics_key(shape)
            if key + '.scale' not in tensors:
                scale, bias = folded_tensors(net, shape, statistics)
                tensors[key + '.scale'], tensors[key + '.bias'] = scale, bias
    return tensors


def folded_net(
        net: Supernet, variant: Variant, tensors: Mapping[str, NDArray[np.generic]]
        ) -> StaticNet:
    """Build a variant's folded network with the weights that its recipes give."""
    folded = StaticNet(net.backbone, stages_of(net.backbone, variant), folded=True)
    state = {name: torch.from_numpy(realise(recipe, tensors))
             for name, recipe in recipes_of(net, variant).items()}
    folded.load_state_dict(state, strict=True)
    return folded.eval()


def to_onnx(net: torch.nn.Module, edge: int) -> onnx.ModelProto:
    """
    Export a network for single images.

    :param net: takes (1, 3, edge, edge), gives (1, classes)
    :param edge: pixels
    :raises ExportError: the exporter wrote a newer operator set or file version than robots read
    """
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # The exporter's tracing engine is deprecated; the new one writes opset 18 and up.
        warnings.simplefilter('ignore', DeprecationWarning)
        torch.onnx.export(
            net, (torch.zeros(1, 3, edge, edge),), buffer,  # type: ignore[arg-type]
            dynamo=False, opset_version=OPSET,
            input_names=[INPUT_NAME], output_names=[OUTPUT_NAME])
    model = onnx.load_model_from_string(buffer.getvalue())
    model.ir_version = min(model.ir_version, IR_VERSION)
    opset = max(o.version for o in model.opset_import if o.domain in ('', 'ai.onnx'))
    if opset > OPSET or model.ir_version > IR_VERSION:
        raise ExportError('the exporter wrote opset %d and file version %d; robots read up to '
                          '%d and %d' % (opset, model.ir_version, OPSET, IR_VERSION))
    return model


def export_family(
        net: Supernet, variants: Mapping[str, Variant], statistics: Statistics, *, edge: int = 64
        ) -> Family:
    """
    Export variants as graphs over shared tensors.

    :param net: trained, weights rounded to float16
    :param variants: name -> sub-network, richest first
    :param statistics: of all of them
    :param edge: of the input, pixels
    :raises ExportError: statistics are missing, or a graph cannot be expressed
    """
    tensors = shared_tensors(net, variants, statistics)
    graphs = []
    for variant_id, variant in variants.items():
        # The exporter merges equal parameters; fresh random ones are all different.
        fresh = StaticNet(net.backbone, stages_of(net.backbone, variant), folded=True).eval()
        model, recipes = to_onnx(fresh, edge), recipes_of(net, variant)
        _set_values(model, {n: realise(r, tensors) for n, r in recipes.items()})
        graphs.append(FamilyGraph(variant_id, variant, model, recipes))
    return Family(tensors, tuple(graphs))


def _set_values(model: onnx.ModelProto, values: Mapping[str, NDArray[np.float32]]) -> None:
    """Give each initialiser its value by name."""
    names = {t.name for t in model.graph.initializer}
    if names != set(values):
        raise ExportError('the exporter renamed parameters: %s'
                          % ', '.join(sorted(names ^ set(values))))
    for tensor in model.graph.initializer:
        tensor.CopyFrom(onnx.numpy_helper.from_array(values[tensor.name], tensor.name))
