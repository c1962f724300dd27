# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
The two-stage transformation against its yardsticks: onnxslim, and ONNX Runtime's basic level.

Networks as PyTorch exports them (`_elastic_transform_torch`) and as converters from TensorFlow and
Paddle write them (`_elastic_transform_converters`). Operators are counted in the files; numbers
are compared on random inputs with ONNX Runtime's own optimisations off.
"""
from __future__ import annotations

import json
import logging
import sys
import tempfile
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

import numpy as np
import onnx
import onnxruntime
import onnxslim

from benchmarks._elastic_transform_converters import converter_models
from crowdhmt_ros.cli.figures import LOWER, Figure, claim, inform
from crowdhmt_ros.graph.model import read_graph
from crowdhmt_ros.graph.transform import Transformed, results_of, transform

CLAIMS = {'transform_nodes_ratio': (1.0, LOWER), 'transform_max_abs_diff': (1e-5, LOWER),
          'transform_unexplained': (0, LOWER)}
SEEDS = (1, 2, 3)
FATAL_ONLY = 4


def test_models() -> List[Tuple[str, onnx.ModelProto]]:
    """Return name and model of each test network."""
    from benchmarks._elastic_transform_torch import torch_models
    return [*torch_models(), *converter_models()]


def slim_nodes(model: onnx.ModelProto) -> int:
    """Count the operators that onnxslim leaves."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    logging.getLogger('onnxslim').setLevel(logging.ERROR)
    return len(onnxslim.slim(copy).graph.node)


def runtime_basic_nodes(model: onnx.ModelProto) -> int:
    """Count the operators that ONNX Runtime leaves at its basic level, offline."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.log_severity_level = FATAL_ONLY
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / 'basic.onnx'
        options.optimized_model_filepath = str(path)
        onnxruntime.InferenceSession(model.SerializeToString(), options,
                                     providers=['CPUExecutionProvider'])
        return len(onnx.load(str(path)).graph.node)


def max_abs_diff(one: onnx.ModelProto, other: onnx.ModelProto) -> float:
    """Return the largest absolute difference of two models' results; infinity for other shapes."""
    worst = 0.0
    for seed in SEEDS:
        wanted, found = results_of(one, other, seed)
        for name, value in wanted.items():
            if value.shape != found[name].shape:
                return float('inf')
            gap = np.abs(value.astype(np.float64) - found[name].astype(np.float64))
            worst = max(worst, float(gap.max(initial=0.0)))
    return worst


def unexplained(model: onnx.ModelProto, done: Transformed) -> int:
    """Count the operators that are gone and not in the report with a reason."""
    left = {(n.op_type, n.name) for n in done.model.graph.node}
    told = {r.node for r in done.report.removed if r.reason}
    told |= {r.node for r in done.report.rewritten}
    return sum((n.op_type, n.name) not in left and n.name not in told
               for n in named(model).graph.node)


def named(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model with a name for each operator, as the report tells them."""
    return read_graph(model).to_model()


def measure_one(name: str, model: onnx.ModelProto) -> Dict[str, Any]:
    """
    Transform one model and count.

    A network exported while it trains is compared with itself set to inference.
    """
    done = transform(model, verify=False)
    return {'model': name, 'nodes_before': len(model.graph.node),
            'nodes_ours': len(done.model.graph.node), 'nodes_onnxslim': slim_nodes(model),
            'nodes_ort_basic': runtime_basic_nodes(model),
            'max_abs_diff': max_abs_diff(done.reference, done.model),
            'removed': len(done.report.removed), 'unexplained': unexplained(model, done),
            'by_rule': done.report.by_rule()}


def measure() -> List[Dict[str, Any]]:
    """
    Transform every test model.

    :returns: per model: model, nodes_before, nodes_ours, nodes_onnxslim, nodes_ort_basic,
        max_abs_diff, removed, unexplained (removed without a reason), by_rule
    """
    return [measure_one(name, model) for name, model in test_models()]


def figures_of(found: List[Dict[str, Any]]) -> List[Figure]:
    """Return the figures of the measured models."""
    ratios = [f['nodes_ours'] / f['nodes_onnxslim'] for f in found]
    worst: Optional[float] = max(ratios) if ratios else None
    where = found[int(np.argmax(ratios))]['model'] if found else 'none'
    left, slim, basic, before = (sum(f['nodes_' + k] for f in found) for k in (
        'ours', 'onnxslim', 'ort_basic', 'before'))
    return [
        claim('transform_nodes_ratio', worst, 1.0, better=LOWER,
              how='operators left over those that onnxslim leaves, worst of %d models (%s); '
              'all together %d of %d, onnxslim %d, ONNX Runtime basic %d'
              % (len(found), where, left, before, slim, basic)),
        claim('transform_max_abs_diff', max((f['max_abs_diff'] for f in found), default=None),
              1e-5, better=LOWER, how='on %d random inputs per model, optimisations off'
              % len(SEEDS)),
        claim('transform_unexplained', sum(f['unexplained'] for f in found), 0, better=LOWER,
              how='operators gone without a reason in the report, of %d removed'
              % sum(f['removed'] for f in found)),
        *(inform('transform_nodes/%s' % f['model'], f['nodes_ours'],
                 how='before %d, onnxslim %d, ONNX Runtime basic %d, largest difference %.1e'
                 % (f['nodes_before'], f['nodes_onnxslim'], f['nodes_ort_basic'],
                    f['max_abs_diff'])) for f in found)]


if __name__ == '__main__':
    json.dump(measure(), sys.stdout, indent=1)
