# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
How much of a network can be computed in whole numbers: as much as its answers bear. Offline.

All operators are tried first. Where that changes the answers by more than the limits, each is
tried alone; those that hurt most for the work they are worth stay in fp32, one after the other,
until the limits hold on inputs that the ranges were not chosen on. Squared errors of operators add
up, nearly, so the first guess leaves out as many as should do. (Greedy; *reconstructed*.)
"""
from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Callable, Container, Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from crowdhmt_ros.graph.compare import FATAL_ONLY
from crowdhmt_ros.graph.counts import node_macs, shapes_of
from crowdhmt_ros.graph.quantise import quantised, units
from crowdhmt_ros.graph.ranges import Given, Observed, observe
from crowdhmt_ros.graph.rounding import rounded_weights

RULES = ('extremes', 'least_squares')
"""Of `graph.ranges.RULES`, what is tried; percentiles were worse on every network measured."""
ALONE_INPUTS = 8
"""On how many inputs operators are tried alone."""
Outputs = List[List[NDArray[Any]]]
"""Per input the float32 outputs."""


@dataclass(frozen=True)
class Limits:
    """
    What whole numbers may cost.

    :param output_error: as in `Deviation`
    :param agreement: at least, where the first output holds scores
    :param least_work_ratio: of the multiply-accumulates that are to be in whole numbers at least;
        with fewer, fp32 is as fast
    """

    output_error: float = 1e-2
    agreement: float = 0.99
    least_work_ratio: float = 0.5


@dataclass(frozen=True)
class Deviation:
    """
    How far answers are from those in fp32; see `bundle.entries.PrecisionFigure`.

    :param output_error: root of the mean squared deviation over the largest output
    :param largest_error: largest deviation over the largest output
    :param agreement: ratio of inputs with the same highest score, None without scores
    :param count: inputs
    """

    output_error: float
    largest_error: float
    agreement: Optional[float]
    count: int

    def keeps(self, limits: Limits) -> bool:
        """Tell whether the limits hold."""
        return self.output_error <= limits.output_error and (
            self.agreement is None or self.agreement >= limits.agreement)


@dataclass(frozen=True, eq=False)
class Lowered:
    """
    How a network is best computed in whole numbers.

    :param observed: its tensors
    :param rule: by which ranges are chosen
    :param kept: of `units`, those that stay in fp32
    :param weights: whole numbers of operators, see `graph.rounding`
    :param deviation: on the inputs held back
    :param model: the quantised graph
    :param holds: whether the limits hold
    """

    observed: Mapping[str, Observed]
    rule: str
    kept: Tuple[str, ...]
    weights: Mapping[str, NDArray[np.int8]]
    deviation: Deviation
    model: onnx.ModelProto
    holds: bool


def lower(model: onnx.ModelProto, calibration: Sequence[Given], held_back: Sequence[Given],
          limits: Limits) -> Lowered:
    """
    Find out what of a network stays in fp32.

    :param model: with fixed shapes and folded normalisations
    :param calibration: inputs that ranges are chosen on
    :param held_back: other inputs, that the answers are compared on
    :returns: one with few operators in fp32 that keeps the limits, or the last tried
    :raises ExportError: the graph cannot be quantised
    """
    wanted = outputs(model, held_back)
    seen = _Seen(model, observe(model, calibration), rounded_weights(model, calibration))
    found = [_tried(seen, rule, (), held_back, wanted, limits) for rule in RULES]
    best = min(found, key=lambda f: (not f.holds, f.deviation.output_error))
    if best.holds:
        return best
    ranked = _worst_first(seen, best.rule, held_back, wanted, limits.least_work_ratio)
    if not ranked:
        return best
    guess = _guess(ranked, best.deviation.output_error, limits.output_error)
    return fewest(lambda count: _tried(seen, best.rule, [u for u, _ in ranked[:count]], held_back,
                                       wanted, limits), guess, len(ranked))


def fewest(tried: Callable[[int], Lowered], guess: int, most: int) -> Lowered:
    """
    Return the one with nearly the fewest operators in fp32 that holds, the last where none does.

    From the guess on steps grow; between the last that does not hold and the first that does,
    the rest is halved. So there are few tries, each of which runs the whole network.

    :param tried: makes the one with so many operators in fp32
    :param guess: tried first, from 1
    :param most: of them
    """
    short, count, step = guess - 1, guess, 1
    best = tried(count)
    while not best.holds and count < most:
        short, count, step = count, min(most, count + step), 2 * step
        best = tried(count)
    while best.holds and count - short > 1:
        middle = (short + count) // 2
        found = tried(middle)
        if found.holds:
            best, count = found, middle
        else:
            short = middle
    return best


def _guess(ranked: Sequence[Tuple[str, float]], error: float, wanted: float) -> int:
    """
    Return how many of the worst should stay in fp32, at least one.

    Where they make more error alone than all together, it has saturated: then what each makes
    alone is what stays.
    """
    total = sum(square for _, square in ranked) or 1.0
    scale = max(1.0, error ** 2 / total)
    left = scale * total
    for count, (_, square) in enumerate(ranked):
        if left <= wanted ** 2:
            return max(1, count)
        left -= scale * square
    return max(1, len(ranked))


@dataclass(frozen=True, eq=False)
class _Seen:
    """A network and what the calibration told of it."""

    model: onnx.ModelProto
    observed: Mapping[str, Observed]
    weights: Mapping[str, NDArray[np.int8]]

    def without(self, rule: str, kept: Container[str]) -> onnx.ModelProto:
        """Return it in whole numbers but for some operators."""
        return quantised(self.model, self.observed, rule=rule, exclude=kept, weights=self.weights)


def _tried(seen: _Seen, rule: str, kept: Sequence[str], inputs: Sequence[Given], wanted: Outputs,
           limits: Limits) -> Lowered:
    made = seen.without(rule, kept)
    found = deviation(wanted, outputs(made, inputs))
    return Lowered(seen.observed, rule, tuple(kept), seen.weights, found, made,
                   found.keeps(limits))


def _work(model: onnx.ModelProto) -> Dict[str, int]:
    shapes = shapes_of(model)
    wanted = set(units(model))
    return {node.output[0]: node_macs(node, shapes) for node in model.graph.node
            if node.output[0] in wanted}


def _worst_first(seen: _Seen, rule: str, inputs: Sequence[Given], wanted: Outputs,
                 least_work_ratio: float) -> List[Tuple[str, float]]:
    """
    Order operators by the squared error that each makes alone, over its share of the work.

    :returns: (operator, squared error), as many as leave that share of the work
    """
    work = _work(seen.model)
    few, theirs, total = inputs[:ALONE_INPUTS], wanted[:ALONE_INPUTS], max(1, sum(work.values()))
    alone = {}
    for unit in work:
        made = seen.without(rule, [u for u in work if u != unit])
        alone[unit] = deviation(theirs, outputs(made, few)).output_error ** 2
    price = {u: work[u] / total + 1.0 / len(work) for u in work}
    found, spent = [], 0
    for unit in sorted(work, key=lambda u: -alone[u] / price[u]):
        if spent + work[unit] <= (1.0 - least_work_ratio) * total:
            found.append((unit, alone[unit]))
            spent += work[unit]
    return found


def outputs(model: onnx.ModelProto, inputs: Sequence[Given]) -> Outputs:
    """Run a model with ONNX Runtime, one thread; returns its float32 outputs per input."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = FATAL_ONLY
    session = onnxruntime.InferenceSession(model.SerializeToString(), options,
                                           providers=['CPUExecutionProvider'])
    names = [i.name for i in session.get_inputs()]
    return [[v for v in session.run(None, {n: given[n] for n in names})
             if v.dtype == np.float32] for given in inputs]


def deviation(wanted: Outputs, found: Outputs) -> Deviation:
    """
    Compare answers; the output that deviates most counts.

    :param wanted: per input the outputs, (1, ...) each; scores first where there are any
    :param found: the same of the other
    """
    squares, largest = 0.0, 0.0
    for one, other in zip(zip(*wanted), zip(*found)):
        exact, near = np.stack(one).astype(np.float64), np.stack(other).astype(np.float64)
        scale = float(np.abs(exact).max()) or 1.0
        gap = np.abs(exact - near) / scale
        squares = max(squares, float(np.mean(gap ** 2)))
        largest = max(largest, float(gap.max()))
    return Deviation(squares ** 0.5, largest, _agreement(wanted, found), len(wanted))


def _agreement(wanted: Outputs, found: Outputs) -> Optional[float]:
    first = wanted[0][0]
    if first.ndim != 2 or first.shape[0] != 1 or first.shape[1] < 2:
        return None
    return float(np.mean([int(a[0].argmax()) == int(b[0].argmax())
                          for a, b in zip(wanted, found)]))
