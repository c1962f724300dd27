# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
ONNX Runtime in little memory: memory modes 'mapped', 'planned' and 'streamed' (P III-C1).

All run the graph that the engine rewrote once for this processor, on weights that stay in their
file, without repacked copies. 'mapped' runs it whole: ready in milliseconds. 'planned' runs it in
pieces over one planned arena, without one of the engine's own. 'streamed' moreover gives the
weights of each piece back behind it: slower, and the least memory.
"""
from __future__ import annotations

from typing import Dict, List, Mapping, Sequence, Tuple, Type

import numpy as np
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as _state

from crowdhmt_ros.engine.backends.common import (
    TurnExecutable,
    compare_specs,
    least_bytes,
    resident_bytes,
)
from crowdhmt_ros.engine.memory.lifetimes import ALIGNMENT_BYTES
from crowdhmt_ros.engine.memory.optimised import Optimised, optimised_graph
from crowdhmt_ros.engine.memory.pieces import Piece, PiecePlan, plan_pieces
from crowdhmt_ros.engine.memory.release import Range, Stream, mappings, read_singly, release_code
from crowdhmt_ros.engine.memory.rewrite_child import element_type
from crowdhmt_ros.engine.memory.room import room_bytes
from crowdhmt_ros.engine.memory.streaming import plan_stream
from crowdhmt_ros.engine.memory.wire import WireGraph, piece, read_wire, value_info
from crowdhmt_ros.engine.memory_plan import MemoryPlan
from crowdhmt_ros.errors import BackendError
from crowdhmt_ros.types import EngineOptions, Segment, TensorSpec

MAPPED, PLANNED, STREAMED = 'mapped', 'planned', 'streamed'
MODES = (MAPPED, PLANNED, STREAMED)
PROVIDERS = ('CPUExecutionProvider',)
FATAL_ONLY = 4
MOST_STREAMED_BYTES = 4 << 20
"""Weights of one streamed piece of several operators."""
RUNNING_BYTES = 2 << 20
"""What running takes of a memory group beside arena and weights: frames of the engine, tables."""
LEAST_RELEASE = (1, 31)
"""Of ONNX Runtime: 1.19 cannot write external data into a new folder; none between was tried."""


def mapped_session(graph: bytes, optimised: Optimised, options: EngineOptions
                   ) -> onnxruntime.InferenceSession:
    """
    Return a session over a rewritten graph or a piece of it, its weights mapped.

    :param graph: the model; b'' for the whole graph as it lies in its file
    """
    chosen = onnxruntime.SessionOptions()
    chosen.log_severity_level = FATAL_ONLY
    chosen.intra_op_num_threads = options.threads
    chosen.inter_op_num_threads = 1
    chosen.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    chosen.enable_cpu_mem_arena = chosen.enable_mem_pattern = not graph
    spinning = '1' if options.spinning else '0'
    for key, value in (
            ('session.intra_op.allow_spinning', spinning),
            ('session.inter_op.allow_spinning', spinning),
            ('session.force_spinning_stop', '1' if graph else '0'),
            ('session.disable_prepacking', '1'),
            ('session.model_external_initializers_file_folder_path',
             optimised.weights_path.rsplit('/', 1)[0])):
        chosen.add_session_config_entry(key, value)
    return onnxruntime.InferenceSession(graph or optimised.graph_path, chosen,
                                        providers=list(PROVIDERS))


Turn = Tuple[Sequence[Stream], Stream]
"""Of one piece: what is fetched before it runs, and what is dropped behind it."""


class PieceExecutable(TurnExecutable):
    """
    A graph run piece by piece over one arena.

    :param segment: declares inputs and outputs
    :param plan: its pieces
    :param sessions: one per piece
    :param tensors: of all that flows between operators
    :param streamed: what of the weights comes and goes, empty where all stay
    """

    def __init__(self, segment: Segment, plan: PiecePlan,
                 sessions: Sequence[onnxruntime.InferenceSession], *,
                 tensors: Mapping[str, TensorSpec], streamed: Sequence[Turn] = (),
                 memory_bytes: int, errors: Tuple[Type[Exception], ...]) -> None:
        super().__init__(segment, memory_bytes=memory_bytes, errors=errors)
        self._plan = plan
        self._arena = _arena(plan.memory.arena_bytes)
        self._between = {name: self._view(name, tensors[name]) for name in plan.memory.offsets}
        self._bindings = [session.io_binding() for session in sessions]
        self._calls = [session.run_with_iobinding for session in sessions]
        self._streamed = tuple(streamed)
        for found, binding in zip(plan.pieces, self._bindings):
            self._bind_piece(found, binding, self._between)

    def _view(self, name: str, spec: TensorSpec) -> np.ndarray:
        start = self._plan.memory.offsets[name]
        size = int(np.prod(spec.shape)) * np.dtype(spec.dtype).itemsize
        return self._arena[start:start + size].view(spec.dtype).reshape(spec.shape)

    def _bind(self, inputs: Sequence[np.ndarray], outputs: Sequence[np.ndarray]) -> None:
        given = {spec.name: buffer for spec, buffer in zip(self.inputs, inputs)}
        given.update({spec.name: buffer for spec, buffer in zip(self.outputs, outputs)})
        for found, binding in zip(self._plan.pieces, self._bindings):
            self._bind_piece(found, binding, given)

    @staticmethod
    def _bind_piece(found: Piece, binding: onnxruntime.IOBinding,
                    buffers: Mapping[str, np.ndarray]) -> None:
        for names, bind in ((found.inputs, binding.bind_input),
                            (found.outputs, binding.bind_output)):
            for name in names:
                if name in buffers:
                    array = buffers[name]
                    bind(name, 'cpu', 0, array.dtype.type, array.shape, array.ctypes.data)

    def _compute(self) -> None:
        if self._streamed:
            for call, binding, (ahead, behind) in zip(self._calls, self._bindings,
                                                      self._streamed):
                for stream in ahead:
                    stream.fetch()
                call(binding)
                behind.drop()
        else:
            for call, binding in zip(self._calls, self._bindings):
                call(binding)


def _arena(size: int) -> np.ndarray:
    """Return aligned memory; its pages come with their first use."""
    whole = np.empty(size + ALIGNMENT_BYTES, np.uint8)
    start = -whole.ctypes.data % ALIGNMENT_BYTES
    return whole[start:start + size]


def is_supported(engine_version: str) -> bool:
    """Whether a release of the engine is known to write and to map rewritten graphs."""
    numbers = tuple(int(n) for n in engine_version.split('.')[:2] if n.isdigit())
    return numbers >= LEAST_RELEASE


def compile_mapped(segment: Segment, options: EngineOptions, *, engine_version: str,
                   errors: Tuple[Type[Exception], ...]) -> PieceExecutable:
    """
    Make a segment ready to run in one of `MODES`.

    :param engine_version: release of the engine
    :param errors: what the engine raises
    :raises BackendError: the graph cannot be rewritten or kept, or is not what the bundle says
    """
    before = resident_bytes()
    if not is_supported(engine_version):
        raise BackendError('memory mode %s needs ONNX Runtime %d.%d or newer, this is %s: choose '
                           'fast or lean' % (options.memory_mode, *LEAST_RELEASE, engine_version))
    optimised = optimised_graph(segment, options, engine_version)
    if options.memory_mode == MAPPED:
        return _whole(segment, mapped_session(b'', optimised, options), before, errors)
    graph = read_wire(optimised.graph_path)
    streamed = options.memory_mode == STREAMED
    plan = plan_pieces(graph, optimised.tensors, hidden_share_ratio=0.0,
                       most_weight_bytes=MOST_STREAMED_BYTES if streamed else None)
    sessions = [mapped_session(b'' if len(plan.pieces) == 1
                               else _model(graph, found, optimised.tensors), optimised, options)
                for found in plan.pieces]
    _compare(segment, graph, sessions)
    release_code(_state.__file__)
    weights = max(p.weight_bytes for p in plan.pieces) if streamed else least_bytes(segment)
    taken = max(weights, resident_bytes() - before) + plan.memory.arena_bytes
    return PieceExecutable(
        segment, plan, sessions, tensors=optimised.tensors, memory_bytes=taken, errors=errors,
        streamed=_turns(graph, plan, optimised) if streamed else ())


def _whole(segment: Segment, session: onnxruntime.InferenceSession, before_bytes: int,
           errors: Tuple[Type[Exception], ...]) -> PieceExecutable:
    """Return a graph that runs as one piece; it is not read: a switch waits for this."""
    for role, declared, found in (('input', segment.inputs, session.get_inputs()),
                                  ('output', segment.outputs, session.get_outputs())):
        compare_specs(segment, role, declared, tuple(_spec(node) for node in found))
    whole = Piece((), tuple(s.name for s in segment.inputs),
                  tuple(s.name for s in segment.outputs), segment.weight_bytes)
    taken = max(least_bytes(segment), resident_bytes() - before_bytes)
    return PieceExecutable(
        segment, PiecePlan((whole,), MemoryPlan({}, 0, 0, 'none')), [session], tensors={},
        memory_bytes=taken, errors=errors)


def _spec(node: onnxruntime.NodeArg) -> TensorSpec:
    return TensorSpec(node.name, element_type(node.type), tuple(node.shape))


def _compare(segment: Segment, graph: WireGraph,
             sessions: Sequence[onnxruntime.InferenceSession]) -> None:
    """Check inputs and outputs as `OnnxRuntimeBackend.compile` does."""
    found = {node.name: _spec(node)
             for session in sessions for node in (*session.get_inputs(), *session.get_outputs())}
    for role, declared, names in (('input', segment.inputs, graph.inputs),
                                  ('output', segment.outputs, graph.outputs)):
        compare_specs(segment, role, declared, tuple(found[n] for n in names if n in found))


def _model(graph: WireGraph, found: Piece, specs: Mapping[str, TensorSpec]) -> bytes:
    def infos(names: Sequence[str], known: Mapping[str, bytes]) -> Dict[str, bytes]:
        return {name: known.get(name) or value_info(name, specs.get(name)) for name in names}
    return piece(graph, found.nodes, inputs=infos(found.inputs, {**graph.inputs, **graph.outputs}),
                 outputs=infos(found.outputs, graph.outputs))


def _turns(graph: WireGraph, plan: PiecePlan, optimised: Optimised) -> List[Turn]:
    """Return what comes and goes around each piece, and let the rest come now."""
    weights = [_weight_ranges(graph, found) for found in plan.pieces]
    room = room_bytes()
    left = None if room is None else max(0, room - plan.memory.arena_bytes - RUNNING_BYTES)
    stream = plan_stream(weights, left)
    path = optimised.weights_path
    known = mappings(path)
    streams = [Stream(path, ranges, known=known, charged=left is not None)
               for ranges in stream.streamed]
    if left is not None:
        read_singly(known)
        Stream(path, stream.first(weights), known=known, charged=False).fetch()
    return [([streams[i] for i in ahead], own) for ahead, own in zip(stream.fetched, streams)]


def _weight_ranges(graph: WireGraph, found: Piece) -> Tuple[Range, ...]:
    names = dict.fromkeys(n for node in found.nodes for n in node.inputs if n in graph.places)
    places = [graph.places[name] for name in names]
    return tuple(sorted((p.offset, p.offset + p.size_bytes) for p in places))
