# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""From a trained supernet to a family of ONNX graphs over shared tensors (P III-B2)."""
from __future__ import annotations

import hashlib
import io
import warnings
from typing import Dict, Mapping, Optional, Sequence, Tuple

import numpy as np
import onnx
import torch
from numpy.typing import NDArray

from crowdhmt_ros.elastic.extraction import Extracted, extract
from crowdhmt_ros.elastic.norms import Statistics
from crowdhmt_ros.elastic.supernet import Supernet
from crowdhmt_ros.errors import ExportError
from crowdhmt_ros.graph.family import Family, FamilyGraph, Recipe, realise
from crowdhmt_ros.types import Variant

OPSET = 17
IR_VERSION = 8
INPUT_NAME = 'image'
OUTPUT_NAME = 'logits'
EXIT_NAME = 'exit%d'
"""Of what an early exit gives."""


def to_onnx(module: torch.nn.Module, example: torch.Tensor, *, fold: bool = True,
            outputs: Optional[Sequence[str]] = None) -> onnx.ModelProto:
    """
    Export a network for single inputs.

    :param module: takes one tensor
    :param example: one input, (1, ...)
    :param fold: let the exporter compute what depends on parameters only
    :param outputs: their names; None for the usual one
    :raises ExportError: the exporter wrote a newer operator set or file version than robots read
    """
    buffer = io.BytesIO()
    with warnings.catch_warnings(), torch.no_grad():
        # The exporter's tracing engine is deprecated; the new one writes opset 18 and up.
        warnings.simplefilter('ignore')
        torch.onnx.export(
            module, (example,), buffer,  # type: ignore[arg-type]
            dynamo=False, opset_version=OPSET, do_constant_folding=fold,
            input_names=[INPUT_NAME],
            output_names=_outputs(module, example) if outputs is None else list(outputs))
    model = onnx.load_model_from_string(buffer.getvalue())
    model.ir_version = min(model.ir_version, IR_VERSION)
    opset = max(o.version for o in model.opset_import if o.domain in ('', 'ai.onnx'))
    if opset > OPSET:
        raise ExportError('the exporter wrote opset %d; robots read up to %d' % (opset, OPSET))
    return model


def _outputs(module: torch.nn.Module, example: torch.Tensor) -> Sequence[str]:
    value = module(example)
    if isinstance(value, torch.Tensor):
        return [OUTPUT_NAME]
    return []  # the exporter names several outputs itself


def export_family(net: Supernet, variants: Mapping[str, Variant], statistics: Statistics,
                  example: torch.Tensor, *, half: bool = True,
                  early: Optional[Mapping[str, Sequence[int]]] = None) -> Family:
    """
    Export variants as graphs over shared tensors.

    :param net: trained; weights rounded to float16 where `half` holds
    :param variants: name -> variant, richest first
    :param statistics: of all of them
    :param example: one input, (1, ...)
    :param half: store weights of several axes in float16
    :param early: name -> numbers of earlier exits that shall answer, too
    :raises ExportError: statistics are missing, or a graph cannot be expressed
    """
    tensors: Dict[str, NDArray[np.generic]] = {}
    graphs = []
    for variant_id, variant in variants.items():
        exits = tuple(sorted(set((early or {}).get(variant_id, ()))))
        taken = extract(net, variant, statistics, half=half, early=exits)
        tensors.update(taken.tensors)
        graphs.append(_graph(variant_id, variant, taken, tensors, example, exits))
    return Family(tensors, tuple(graphs))


def _graph(variant_id: str, variant: Variant, taken: Extracted,
           tensors: Dict[str, NDArray[np.generic]], example: torch.Tensor,
           exits: Tuple[int, ...]) -> FamilyGraph:
    """Export one variant; initialisers without a recipe become tensors named by their content."""
    with torch.no_grad():
        for name in taken.recipes:  # the exporter merges parameters of equal value
            owner, _, leaf = name.rpartition('.')
            getattr(taken.module.get_submodule(owner), leaf).uniform_()
    outputs = _exit_outputs(variant_id, taken.module, example, exits)
    model = to_onnx(taken.module, example, outputs=outputs)
    if not set(taken.recipes) <= {t.name for t in model.graph.initializer}:
        # A parameter was computed with.
        model = to_onnx(taken.module, example, fold=False, outputs=outputs)
    recipes: Dict[str, Recipe] = {}
    for tensor in model.graph.initializer:
        recipe = taken.recipes.get(tensor.name)
        if recipe is not None:
            tensor.CopyFrom(onnx.numpy_helper.from_array(
                realise(recipe, tensors), tensor.name))
            recipes[tensor.name] = recipe
        elif tensor.data_type == onnx.TensorProto.FLOAT:
            recipes[tensor.name] = _constant(onnx.numpy_helper.to_array(tensor), tensors)
    lost = sorted(set(taken.recipes) - set(recipes))
    if lost:
        raise ExportError('the exporter renamed parameters: %s' % ', '.join(lost))
    return FamilyGraph(variant_id, variant, model, recipes,
                       exits={number: EXIT_NAME % number for number in exits})


def _exit_outputs(variant_id: str, module: torch.nn.Module, example: torch.Tensor,
                  exits: Sequence[int]) -> Optional[Sequence[str]]:
    """Name the outputs of a network with early exits, None for one without."""
    if not exits:
        return None
    with torch.no_grad():
        end = module(example)[0]
    if not isinstance(end, torch.Tensor):
        raise ExportError('%s gives more than one tensor: it cannot answer early' % variant_id)
    return [OUTPUT_NAME, *(EXIT_NAME % number for number in exits)]


def _constant(value: NDArray[np.generic], tensors: Dict[str, NDArray[np.generic]]) -> Recipe:
    name = 'constant.' + hashlib.sha256(value.tobytes()).hexdigest()[:16]
    tensors[name] = np.ascontiguousarray(value, np.float32)
    return Recipe(name, tuple((0, extent) for extent in value.shape))
