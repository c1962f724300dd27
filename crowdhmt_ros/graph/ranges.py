# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Between which values the tensors of a graph lie, seen on calibration inputs (P III-C1). Offline.

Whole numbers of eight bits cover a range that must be chosen: all that was seen ('extremes'), or
less, so that steps become finer where most values are and the rare ones are cut off: the range
with the least squared error ('least_squares'), or all but a share of 1e-4 ('percentile').
"""
from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, Mapping, Optional, Sequence, Tuple

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from crowdhmt_ros.errors import ExportError
from crowdhmt_ros.graph.compare import FATAL_ONLY
from crowdhmt_ros.graph.inference import inferred

Range = Tuple[float, float]
Given = Mapping[str, NDArray[Any]]
"""Input name -> value, of one inference."""
RULES = ('extremes', 'least_squares', 'percentile')
BINS = 2048
SHRUNK = np.linspace(0.3, 1.0, 29)
LEFT_OUT_RATIO = 1e-4
LEVELS = 255


@dataclass(frozen=True, eq=False)
class Observed:
    """
    What was seen of one float32 tensor.

    :param low: smallest value
    :param high: largest value
    :param counts: of `BINS` equal steps from low to high
    :param means: per index of its second axis, None for one without
    """

    low: float
    high: float
    counts: NDArray[np.float64]
    means: Optional[NDArray[np.float64]]

    def range_by(self, rule: str) -> Range:
        """
        Return the range by one of `RULES`; 0 always lies in it.

        :raises ExportError: no such rule
        """
        low, high = min(self.low, 0.0), max(self.high, 0.0)
        if rule not in RULES:
            raise ExportError('ranges are chosen by %s, not by %r' % (', '.join(RULES), rule))
        if rule == 'extremes' or not self.counts.sum() or self.high <= self.low:
            return low, high
        return self._finest() if rule == 'least_squares' else self._most()

    def _centres(self) -> NDArray[np.float64]:
        step = (self.high - self.low) / BINS
        return np.asarray(self.low + step * (np.arange(BINS) + 0.5), np.float64)

    def _finest(self) -> Range:
        centres, best = self._centres(), (np.inf, 1.0)
        for ratio in SHRUNK:
            low, high = ratio * min(self.low, 0.0), ratio * max(self.high, 0.0)
            step = (high - low) / LEVELS
            near = np.clip(np.round((centres - low) / step), 0, LEVELS) * step + low
            error = float(np.sum(self.counts * (near - centres) ** 2))
            if error < best[0]:
                best = (error, float(ratio))
        return best[1] * min(self.low, 0.0), best[1] * max(self.high, 0.0)

    def _most(self) -> Range:
        share = np.cumsum(self.counts) / self.counts.sum()
        centres = self._centres()
        low = centres[min(int(np.searchsorted(share, LEFT_OUT_RATIO)), BINS - 1)]
        high = centres[min(int(np.searchsorted(share, 1.0 - LEFT_OUT_RATIO)), BINS - 1)]
        return min(float(low), 0.0), max(float(high), 0.0)


def observe(model: onnx.ModelProto, inputs: Sequence[Given]) -> Dict[str, Observed]:
    """
    Run a graph and look at every float32 tensor that flows in it.

    :param model: with fixed shapes
    :param inputs: of calibration, at least one
    :returns: tensor -> what was seen, inputs and outputs of the graph included
    :raises ExportError: there is no input, a value is not finite, or the graph does not run
    """
    if not inputs:
        raise ExportError('int8 needs calibration inputs, none were given')
    session = _session(model)
    names = [o.name for o in session.get_outputs()]
    lows: Dict[str, float] = {}
    highs: Dict[str, float] = {}
    sums: Dict[str, Optional[NDArray[np.float64]]] = {}
    for given in inputs:
        for name, value in _values(session, names, given):
            low, high = float(value.min()), float(value.max())
            if not np.isfinite((low, high)).all():
                raise ExportError('tensor %s is not finite on a calibration input: check the data'
                                  % name)
            lows[name], highs[name] = min(low, lows.get(name, low)), max(
                high, highs.get(name, high))
            mean = _channel_means(value)
            known = sums.get(name)
            sums[name] = mean if known is None or mean is None else known + mean
    counts = {name: np.zeros(BINS) for name in lows}
    for given in inputs:
        for name, value in _values(session, names, given):
            if highs[name] > lows[name]:
                counts[name] += np.histogram(value, BINS, (lows[name], highs[name]))[0]
    return {name: Observed(lows[name], highs[name], counts[name],
                           _divided(sums[name], len(inputs))) for name in lows}


def _values(session: onnxruntime.InferenceSession, names: Sequence[str], given: Given
            ) -> Sequence[Tuple[str, NDArray[Any]]]:
    taken = {i.name: given[i.name] for i in session.get_inputs()}
    pairs = [*taken.items(), *zip(names, session.run(names, taken))]
    return [(n, v) for n, v in pairs if v.dtype == np.float32 and v.size]


def _channel_means(value: NDArray[Any]) -> Optional[NDArray[np.float64]]:
    if value.ndim < 2:
        return None
    means: NDArray[np.float64] = value.mean(
        axis=tuple(a for a in range(value.ndim) if a != 1), dtype=np.float64)
    return means


def _divided(total: Optional[NDArray[np.float64]], count: int) -> Optional[NDArray[np.float64]]:
    return None if total is None else total / count


def _session(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    """Return a session that gives every float32 tensor between operators, too."""
    tapped = onnx.ModelProto()
    tapped.CopyFrom(model)
    given = {v.name for v in model.graph.output}
    made = {name for node in model.graph.node for name in node.output}
    tapped.graph.output.extend(
        v for v in inferred(model).value_info
        if v.name in made and v.name not in given
        and v.type.tensor_type.elem_type == onnx.TensorProto.FLOAT)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = FATAL_ONLY
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(tapped.SerializeToString(), options,
                                        providers=['CPUExecutionProvider'])
