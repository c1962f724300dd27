# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A model as it is deployed: variants, tensors, prebuilt segments, work per layer."""
from __future__ import annotations

from dataclasses import dataclass
from typing import Optional, Tuple, Union

ParameterValue = Union[int, float, str]
OperatorKey = Tuple[str, Tuple[Tuple[str, int, float, str], ...]]
"""Operator, then per parameter its name, 0 for a number and 1 for a text, and the value."""

FP32, INT8 = 'fp32', 'int8'
PRECISIONS = (FP32, 'fp16', 'bf16', INT8)


@dataclass(frozen=True)
class OperatorChoice:
    """
    One compression operator with its parameters, as chosen for one stage (P III-A1).

    :param operator: name of the operator, for example 'channel' or 'depth'
    :param parameters: (name, value) pairs in ascending order of name
    :raises ValueError: when they are not, or a name comes twice
    """

    operator: str
    parameters: Tuple[Tuple[str, ParameterValue], ...] = ()

    def __post_init__(self) -> None:
        names = [name for name, _ in self.parameters]
        if any(first >= second for first, second in zip(names, names[1:])):
            raise ValueError('parameters of operator %s are %s: name each once, in ascending '
                             'order' % (self.operator, ', '.join(names)))

    @property
    def sort_key(self) -> OperatorKey:
        """Canonical order: a number comes before a text under the same name."""
        return (self.operator, tuple(
            (name, 1, 0.0, value) if isinstance(value, str) else (name, 0, value, '')
            for name, value in self.parameters))

    def __lt__(self, other: OperatorChoice) -> bool:
        return self.sort_key < other.sort_key


@dataclass(frozen=True)
class Variant:
    """
    A frozen description of one sub-network; applying it leaves no hidden state.

    :param stages: per stage of the backbone the operators that apply to it
    :param exit_index: which exit answers, 0 is the earliest
    :param precision: 'fp32', 'fp16', 'bf16' or 'int8'
    """

    stages: Tuple[Tuple[OperatorChoice, ...], ...]
    exit_index: int
    precision: str = 'fp32'

    @property
    def sort_key(self) -> Tuple[Tuple[Tuple[OperatorKey, ...], ...], int, str]:
        """Canonical order, whatever the types of the parameters."""
        return (tuple(tuple(choice.sort_key for choice in stage) for stage in self.stages),
                self.exit_index, self.precision)

    def __lt__(self, other: Variant) -> bool:
        return self.sort_key < other.sort_key


@dataclass(frozen=True)
class TensorSpec:
    """
    Name, type and fixed shape of one graph input or output.

    :param name: tensor name in the graph
    :param dtype: numpy type name
    :param shape: fixed extents
    """

    name: str
    dtype: str
    shape: Tuple[int, ...]


AREA, LINEAR = 'area', 'linear'
RESIZES = (AREA, LINEAR)


@dataclass(frozen=True)
class InputSpec:
    """
    What a model expects: ``x = (rgb * scale - mean) / std`` of the whole frame, stretched.

    Models of another task take ``x = (values * scale - mean) / std`` along the second axis.

    :param name: tensor name in every whole graph
    :param dtype: numpy type name, 'float32'
    :param shape: (1, 3, height, width)
    :param color: order of the channels, 'rgb'
    :param resize: one of `RESIZES`, on 8-bit channels: 'area' as cv2.INTER_AREA, 'linear' as
        cv2.INTER_LINEAR
    :param scale: factor that is applied to 8-bit values first
    :param mean: per channel, in the order of `color`; empty for values as they are
    :param std: likewise
    """

    name: str
    dtype: str
    shape: Tuple[int, ...]
    color: str
    resize: str
    scale: float
    mean: Tuple[float, ...]
    std: Tuple[float, ...]


@dataclass(frozen=True)
class EarlyExit:
    """
    Where a variant may answer early, and when it does (P III-A1).

    :param exit_index: number of the exit
    :param cut_id: what goes on from there, a cut of the bundle
    :param threshold: least highest probability that answers, from 0 to below 1
    :param temperature: what the exit's scores are divided by before softmax
    :param ratio: share of all answers that are given here, on data held back
    """

    exit_index: int
    cut_id: str
    threshold: float
    temperature: float = 1.0
    ratio: float = 0.0


@dataclass(frozen=True)
class Segment:
    """
    One prebuilt graph, materialised on this device and ready to compile.

    :param segment_id: name in the bundle
    :param sha256: of the weightless graph in the bundle
    :param path: ONNX file on this device, its weights beside it
    :param inputs: fixed-shape inputs
    :param outputs: fixed-shape outputs
    :param weight_bytes: of the initialisers that it reads, 0 where nobody counted them
    :param early_exit: when what it gives is an answer already, None where it always or never is
    """

    segment_id: str
    sha256: str
    path: str
    inputs: Tuple[TensorSpec, ...]
    outputs: Tuple[TensorSpec, ...]
    weight_bytes: int = 0
    early_exit: Optional[EarlyExit] = None


@dataclass(frozen=True)
class LayerCost:
    """
    Work of one layer for one frame.

    :param name: node name in the graph
    :param operator: ONNX operator type
    :param macs: multiply-accumulates
    :param input_words: elements read, weights excluded
    :param weight_words: elements of weights read
    :param output_words: elements written
    """

    name: str
    operator: str
    macs: int
    input_words: int
    weight_words: int
    output_words: int

    @property
    def words(self) -> int:
        """All memory accesses in words (M_l of formula (1))."""
        return self.input_words + self.weight_words + self.output_words
