# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What the manifest of a bundle, format version 1, holds: its parts as frozen values."""
from __future__ import annotations

from dataclasses import dataclass, field
from typing import Mapping, Optional, Sequence, Tuple

from crowdhmt_ros.types import EarlyExit, InputSpec, LayerCost, TensorSpec, Variant

IMAGE_CLASSIFICATION = 'image_classification'
"""The task whose inputs, classes and whole models are checked to the last extent."""
ITEM_BYTES = {'float16': 2, 'float32': 4, 'int8': 1, 'uint8': 1, 'int32': 4}
"""Bytes of one element of a store tensor or an initialiser, by numpy type name."""
FLOATS = ('float16', 'float32')
FRAME_CODECS = ('jpeg',)
"""How the frame itself may be packed."""
TENSOR_CODECS = ('raw', 'fp16', 'int8')
"""How the tensors of a cut may be packed."""


def element_count(shape: Sequence[int]) -> int:
    """Return the number of elements of a shape, 1 for a scalar."""
    count = 1
    for extent in shape:
        count *= extent
    return count


@dataclass(frozen=True)
class FileEntry:
    """
    One file of the bundle.

    :param path: relative to the bundle, with forward slashes
    :param size_bytes: exact length
    :param sha256: of its bytes, hexadecimal
    """

    path: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True)
class StoreTensor:
    """
    One tensor of the family in the weight store.

    :param name: unique in the store
    :param dtype: a key of `ITEM_BYTES`, little endian
    :param shape: extents, C order
    :param offset: first byte in weights.bin
    :param size_bytes: length in weights.bin
    """

    name: str
    dtype: str
    shape: Tuple[int, ...]
    offset: int
    size_bytes: int


@dataclass(frozen=True)
class Recipe:
    """
    How one initialiser of a graph follows from the store: ``tensor[slices] * scale``.

    With a scale, or between types, it is computed in float32; whole numbers stay as they are.

    :param offset: first byte in the initialisers' file, a multiple of 64
    :param shape: extents of the initialiser
    :param dtype: of the initialiser: a float, or the type of a tensor without scale
    :param tensor: name of the store tensor
    :param slices: (start, stop) per axis of the store tensor
    :param scale: name of a one-dimensional float32 store tensor, None for no scale
    :param scale_axis: axis of the initialiser along which the scale runs
    :param sha256: of the bytes that result
    """

    offset: int
    shape: Tuple[int, ...]
    dtype: str
    tensor: str
    slices: Tuple[Tuple[int, int], ...]
    scale: Optional[str]
    scale_axis: int
    sha256: str

    @property
    def size_bytes(self) -> int:
        """Length in the initialisers' file."""
        return element_count(self.shape) * ITEM_BYTES[self.dtype]


@dataclass(frozen=True)
class SegmentEntry:
    """
    One prebuilt graph of the bundle.

    :param segment_id: unique name
    :param file: path of the weightless graph in the bundle
    :param role: 'whole', 'head', 'tail' or 'piece'; 'exit' for one that gives an early exit's
        scores and then what goes on from there, 'end' for what is left behind the last of these
    :param variant_id: the variant that it belongs to
    :param fusion_set: name of the passes that were applied
    :param opset: ONNX operator set
    :param ir_version: ONNX file version
    :param inputs: fixed-shape inputs
    :param outputs: fixed-shape outputs
    :param recipes: indices into the manifest's recipes that the graph reads
    :param layers: work per layer, in order
    :param cut_id: the cut that it begins or ends at, '' for none; an 'exit' ends at it
    :param precision: 'int8' where the graph says itself what is computed in whole numbers, as
        measured in the variant's `PrecisionFigure`; else 'fp32', the graph as it was exported
    """

    segment_id: str
    file: str
    role: str
    variant_id: str
    fusion_set: str
    opset: int
    ir_version: int
    inputs: Tuple[TensorSpec, ...]
    outputs: Tuple[TensorSpec, ...]
    recipes: Tuple[int, ...]
    layers: Tuple[LayerCost, ...]
    cut_id: str = ''
    precision: str = 'fp32'

    @property
    def key(self) -> Tuple[str, str, str, str, str]:
        """What a segment is looked up by; no two of a bundle share it."""
        return (self.variant_id, self.role, self.fusion_set, self.cut_id, self.precision)


@dataclass(frozen=True)
class Cut:
    """
    A place where a model may be split between devices.

    :param cut_id: unique name
    :param tensors: what crosses it, with fixed shapes
    """

    cut_id: str
    tensors: Tuple[TensorSpec, ...]


@dataclass(frozen=True)
class CrossingFigure:
    """
    What one frame costs that crosses to a peer, measured offline on scenes held back.

    :param variant_id: the variant that answers
    :param cut_id: where it is cut, '' when the frame itself is sent
    :param codec: of `FRAME_CODECS` for the frame, else of `TENSOR_CODECS`
    :param bytes_mean: mean payload
    :param accuracy_drop: ratio of right answers that packing costs, against the uncut model on
        the same scenes; below 0 where chance helped
    :param count: scenes
    """

    variant_id: str
    cut_id: str
    codec: str
    bytes_mean: float
    accuracy_drop: float
    count: int


@dataclass(frozen=True)
class Accuracy:
    """
    Right answers under one condition.

    :param value: ratio 0..1; class-balanced for 'photos'
    :param count: images that it was counted on
    """

    value: float
    count: int


@dataclass(frozen=True)
class PrecisionFigure:
    """
    What a lower precision does to the answers of a variant, measured on inputs held back.

    :param precision: 'int8', 'bf16' or 'fp16'
    :param engine: backend that computed, '' where the graph itself says what is computed
    :param output_error: root of the mean squared deviation from fp32, over all outputs and
        inputs, relative to the largest output
    :param largest_error: the largest deviation of any output, relative to the largest output
    :param agreement: ratio of inputs with the same highest score, None without scores
    :param count: inputs
    :param accuracy: condition -> right answers in this precision; may be empty
    :param kept: operators that stay in fp32 because they would hurt
    """

    precision: str
    engine: str
    output_error: float
    largest_error: float
    agreement: Optional[float]
    count: int
    accuracy: Mapping[str, Accuracy] = field(default_factory=dict)
    kept: int = 0


@dataclass(frozen=True)
class VariantEntry:
    """
    One variant of the family.

    :param variant_id: unique name
    :param variant: what it is
    :param macs: multiply-accumulates of one frame, the mean where it may answer early
    :param parameters: number of weights
    :param accuracy: condition -> right answers
    :param early_exits: where it may answer early, in order; empty where the exit is fixed. It
        then runs step by step, and the accuracy is that of what it answers so
    :param precisions: what lower precisions cost, as far as measured
    """

    variant_id: str
    variant: Variant
    macs: int
    parameters: int
    accuracy: Mapping[str, Accuracy]
    early_exits: Tuple[EarlyExit, ...] = ()
    precisions: Tuple[PrecisionFigure, ...] = ()


@dataclass(frozen=True)
class Manifest:
    """
    A checked manifest; `sha256` is the digest of its bytes and names the bundle.

    :param luminance_bands: light band -> (low, high) mean grey of the resized image, 0..1;
        disjoint and covering 0..1, or none where light does not matter
    :param initialisers_bytes: length of the initialisers' file once materialised
    :param front: variant ids, richest first
    :param crossings: what was measured of the ways to a peer, may be empty
    """

    sha256: str
    name: str
    task: str
    classes: Tuple[str, ...]
    input: InputSpec
    luminance_bands: Mapping[str, Tuple[float, float]]
    files: Tuple[FileEntry, ...]
    tensors: Mapping[str, StoreTensor]
    initialisers_file: str
    initialisers_bytes: int
    recipes: Tuple[Recipe, ...]
    segments: Mapping[str, SegmentEntry]
    variants: Mapping[str, VariantEntry]
    front: Tuple[str, ...]
    provenance: Mapping[str, object]
    cuts: Mapping[str, Cut]
    crossings: Tuple[CrossingFigure, ...] = ()
