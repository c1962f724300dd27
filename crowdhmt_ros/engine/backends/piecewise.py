# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A graph run piece by piece over one planned arena (P III-C1)."""
from __future__ import annotations

from functools import partial
from typing import Callable, List, Mapping, Optional, Sequence, Tuple, Type

import numpy as np
import onnxruntime

from crowdhmt_ros.engine.backends.common import TurnExecutable
from crowdhmt_ros.engine.memory.lifetimes import ALIGNMENT_BYTES
from crowdhmt_ros.engine.memory.pieces import Piece, PiecePlan
from crowdhmt_ros.engine.memory.release import Stream
from crowdhmt_ros.engine.memory.stripes import Copy
from crowdhmt_ros.types import Segment, TensorSpec

Turn = Tuple[Sequence[Stream], Stream]
"""Of one piece: what is fetched before it runs, and what is dropped behind it."""
_Call = Callable[[], None]


class PieceExecutable(TurnExecutable):
    """
    A graph run piece by piece over one arena.

    :param segment: declares inputs and outputs
    :param plan: its pieces
    :param sessions: one per piece, None where rows are copied
    :param tensors: of all that flows between operators
    :param copies: of pieces without a session, by the name of their node
    :param blocks: channels that lie beside each other in a tensor, where that is not one
    :param streamed: what of the weights comes and goes, empty where all stay
    """

    def __init__(self, segment: Segment, plan: PiecePlan,
                 sessions: Sequence[Optional[onnxruntime.InferenceSession]], *,
                 memory_bytes: int, errors: Tuple[Type[Exception], ...],
                 tensors: Optional[Mapping[str, TensorSpec]] = None,
                 copies: Optional[Mapping[str, Copy]] = None,
                 blocks: Optional[Mapping[str, int]] = None,
                 streamed: Sequence[Turn] = ()) -> None:
        super().__init__(segment, memory_bytes=memory_bytes, errors=errors)
        self._plan = plan
        self._copies, self._blocks = copies or {}, blocks or {}
        self._streamed = tuple(streamed)
        self._arena = arena_of(plan.memory.arena_bytes)
        known = tensors or {}
        self._between = {name: placed(self._arena, offset, known[name])
                         for name, offset in plan.memory.offsets.items()}
        self._bindings = [None if s is None else s.io_binding() for s in sessions]
        self._calls: List[_Call] = [
            _nothing if s is None else partial(s.run_with_iobinding, binding)
            for s, binding in zip(sessions, self._bindings)]
        for found, binding in zip(plan.pieces, self._bindings):
            if binding is not None:
                _bind_piece(found, binding, self._between)

    def _bind(self, inputs: Sequence[np.ndarray], outputs: Sequence[np.ndarray]) -> None:
        given = {spec.name: buffer for spec, buffer in zip(self.inputs, inputs)}
        given.update({spec.name: buffer for spec, buffer in zip(self.outputs, outputs)})
        for index, (found, binding) in enumerate(zip(self._plan.pieces, self._bindings)):
            if binding is not None:
                _bind_piece(found, binding, given)
            else:
                self._calls[index] = self._copy(self._copies[found.nodes[0].name],
                                                {**self._between, **given})

    def _copy(self, copy: Copy, buffers: Mapping[str, np.ndarray]) -> _Call:
        whole, stripe = (_in_rows(buffers[name], self._blocks.get(copy.whole, 1))
                         for name in (copy.whole, copy.stripe))
        part = whole[:, copy.first:copy.first + stripe.shape[1]]
        return partial(np.copyto, stripe, part) if copy.taken else partial(
            np.copyto, part, stripe)

    def _compute(self) -> None:
        if self._streamed:
            for call, (ahead, behind) in zip(self._calls, self._streamed):
                for stream in ahead:
                    stream.fetch()
                call()
                behind.drop()
        else:
            for call in self._calls:
                call()


def arena_of(size: int) -> np.ndarray:
    """Return aligned memory; its pages come with their first use."""
    whole = np.empty(size + ALIGNMENT_BYTES, np.uint8)
    start = -whole.ctypes.data % ALIGNMENT_BYTES
    return whole[start:start + size]


def placed(arena: np.ndarray, offset: int, spec: TensorSpec) -> np.ndarray:
    """Return a tensor at its place in an arena."""
    size = int(np.prod(spec.shape)) * np.dtype(spec.dtype).itemsize
    found: np.ndarray = arena[offset:offset + size].view(spec.dtype).reshape(spec.shape)
    return found


def _in_rows(tensor: np.ndarray, block: int) -> np.ndarray:
    """Return an image as (groups of channels, rows, what a row holds)."""
    _, channels, rows, columns = tensor.shape
    return tensor.reshape(channels // block, rows, columns * block)


def _bind_piece(found: Piece, binding: onnxruntime.IOBinding, buffers: Mapping[str, np.ndarray]
                ) -> None:
    for names, bind in ((found.inputs, binding.bind_input), (found.outputs, binding.bind_output)):
        for name in names:
            if name in buffers:
                array = buffers[name]
                bind(name, 'cpu', 0, array.dtype.type, array.shape, array.ctypes.data)


def _nothing() -> None:
    """Stand where a copy comes when the caller's buffers are known."""
