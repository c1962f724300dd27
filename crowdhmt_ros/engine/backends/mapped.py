# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
ONNX Runtime in little memory: memory modes 'mapped', 'planned' and 'streamed' (P III-C1).

All run the graph that the engine rewrote once for this processor, on weights that stay in their
file, without repacked copies. 'mapped' runs it whole: ready in milliseconds. 'planned' runs it in
pieces over one planned arena; for what a piece hides the engine has a small one, the same for all
pieces of the process. 'streamed' moreover computes the
largest tensors in stripes and gives the weights of each piece back behind it, all that do not fit
the memory group of the process: slower, and the least memory.
"""
from __future__ import annotations

import os
import tempfile
from functools import lru_cache
from typing import Dict, List, Mapping, Optional, Sequence, Tuple, Type

import numpy as np
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as _state

from crowdhmt_ros.engine.backends.common import compare_specs, least_bytes, resident_bytes
from crowdhmt_ros.engine.backends.piecewise import PieceExecutable, Turn
from crowdhmt_ros.engine.memory.optimised import Optimised, linked, optimised_graph
from crowdhmt_ros.engine.memory.pieces import (
    HIDDEN_SHARE,
    NCHWC,
    Piece,
    PiecePlan,
    plan_pieces,
)
from crowdhmt_ros.engine.memory.release import Range, Stream, mappings, read_singly, release_code
from crowdhmt_ros.engine.memory.rewrite_child import element_type
from crowdhmt_ros.engine.memory.room import room_bytes
from crowdhmt_ros.engine.memory.streaming import plan_stream
from crowdhmt_ros.engine.memory.stripes import Copy, Striped, striped
from crowdhmt_ros.engine.memory.wire import WireGraph, piece, read_wire, value_info
from crowdhmt_ros.engine.memory_plan import MemoryPlan
from crowdhmt_ros.engine.onnx_file import spec_of
from crowdhmt_ros.engine.protobuf import field
from crowdhmt_ros.errors import BackendError
from crowdhmt_ros.types import EngineOptions, Segment, TensorSpec

MAPPED, PLANNED, STREAMED = 'mapped', 'planned', 'streamed'
MODES = (MAPPED, PLANNED, STREAMED)
PROVIDERS = ('CPUExecutionProvider',)
FATAL_ONLY = 4
MOST_STREAMED_BYTES = 4 << 20
"""Weights of one streamed piece of several operators."""
RUNNING_BYTES = 3 << 20
"""What running takes of a memory group beside arena and weights: frames of the engine, tables."""
FIRST_CHUNK_BYTES = 2 << 20
"""Of the arena within pieces: addresses, of which only used pages are memory. What comes as one
chunk is joined again when it is free; what is asked for piece by piece never is."""
_DOUBLED, _DEFAULT = 0, -1
"""Of its settings."""
LEAST_RELEASE = (1, 19)
"""Of ONNX Runtime, that writes and maps rewritten graphs; no older one was tried."""
TOLD_FOLDER_RELEASE = (1, 31)
"""From here on a graph in memory is told where its weights lie; 1.20 to 1.30 were not tried."""


def mapped_session(graph: bytes, optimised: Optimised, options: EngineOptions
                   ) -> onnxruntime.InferenceSession:
    """
    Return a session over a rewritten graph or a piece of it, its weights mapped.

    :param graph: the model; b'' for the whole graph as it lies in its file
    """
    folder = os.path.dirname(optimised.weights_path)
    if graph and not _is_at_least(str(onnxruntime.__version__), TOLD_FOLDER_RELEASE):
        with tempfile.NamedTemporaryFile(prefix='.piece-', suffix='.onnx', dir=folder) as stream:
            stream.write(graph)
            stream.flush()
            return onnxruntime.InferenceSession(stream.name, _options(graph, folder, options),
                                                providers=list(PROVIDERS))
    return onnxruntime.InferenceSession(graph or optimised.graph_path,
                                        _options(graph, folder, options),
                                        providers=list(PROVIDERS))


def _options(graph: bytes, folder: str, options: EngineOptions) -> onnxruntime.SessionOptions:
    chosen = onnxruntime.SessionOptions()
    chosen.log_severity_level = FATAL_ONLY
    chosen.intra_op_num_threads = options.threads
    chosen.inter_op_num_threads = 1
    chosen.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    chosen.enable_mem_pattern = not graph
    if graph:  # pieces run one by one: a small arena serves what any of them hides
        _register_arena()
        chosen.add_session_config_entry('session.use_env_allocators', '1')
    spinning = '1' if options.spinning else '0'
    for key, value in (
            ('session.intra_op.allow_spinning', spinning),
            ('session.inter_op.allow_spinning', spinning),
            ('session.force_spinning_stop', '1'),
            ('session.disable_prepacking', '1'),
            ('session.model_external_initializers_file_folder_path', folder)):
        chosen.add_session_config_entry(key, value)
    return chosen


@lru_cache(maxsize=1)
def _register_arena() -> None:
    """
    Give this process an arena for sessions that want it.

    It keeps what the largest piece of any of them has needed.
    """
    onnxruntime.create_and_register_allocator(
        onnxruntime.OrtMemoryInfo('Cpu', onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0,
                                  onnxruntime.OrtMemType.DEFAULT),
        onnxruntime.OrtArenaCfg({'max_mem': 0, 'arena_extend_strategy': _DOUBLED,
                                 'initial_chunk_size_bytes': FIRST_CHUNK_BYTES,
                                 'max_dead_bytes_per_chunk': _DEFAULT}))


def is_supported(engine_version: str) -> bool:
    """Whether a release of the engine is known to write and to map rewritten graphs."""
    return _is_at_least(engine_version, LEAST_RELEASE)


def _is_at_least(engine_version: str, release: Tuple[int, int]) -> bool:
    return tuple(int(n) for n in engine_version.split('.')[:2] if n.isdigit()) >= release


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
    if options.memory_mode == PLANNED:
        return _in_pieces(segment, options, optimised, before, errors)
    with linked(optimised) as own:  # what is given back must be of this executable alone
        return _in_pieces(segment, options, own or optimised, before, errors,
                          may_release=own is not None)


def _in_pieces(segment: Segment, options: EngineOptions, optimised: Optimised, before_bytes: int,
               errors: Tuple[Type[Exception], ...], *, may_release: bool = False
               ) -> PieceExecutable:
    """
    Return a graph that runs over one planned arena.

    :param may_release: whether nobody else maps weights by the names in `optimised`
    """
    graph = read_wire(optimised.graph_path)
    streamed = options.memory_mode == STREAMED
    flows = Striped(graph, optimised.tensors, {})
    if streamed:  # stripes cost calls: 3 % of the time of ResNet18, 9 % of MobileNetV2
        flows = striped(graph, optimised.tensors, {spec.name: spec for spec in segment.inputs})
    plan = plan_pieces(flows.graph, flows.tensors,
                       hidden_share_ratio=0.0 if streamed else HIDDEN_SHARE,
                       most_weight_bytes=MOST_STREAMED_BYTES if streamed else None)
    sessions = [None if found.nodes[0].name in flows.copies else mapped_session(
        b'' if len(plan.pieces) == 1 else _model(graph, found, flows.tensors), optimised, options)
        for found in plan.pieces]
    _compare(segment, graph, sessions)
    release_code(_state.__file__)
    weights = (max(p.weight_bytes for p in plan.pieces) if may_release else least_bytes(segment))
    taken = (max(weights, resident_bytes() - before_bytes) + plan.memory.arena_bytes
             + plan.hidden_bytes)
    return PieceExecutable(
        segment, plan, sessions, tensors=flows.tensors, memory_bytes=taken, errors=errors,
        copies=flows.copies, blocks=_blocks(graph, flows.copies),
        streamed=_turns(flows.graph, plan, optimised) if may_release else ())


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
        segment, PiecePlan((whole,), MemoryPlan({}, 0, 0, 'none')), [session],
        memory_bytes=taken, errors=errors)


def _spec(node: onnxruntime.NodeArg) -> TensorSpec:
    return TensorSpec(node.name, element_type(node.type), tuple(node.shape))


def _compare(segment: Segment, graph: WireGraph,
             sessions: Sequence[Optional[onnxruntime.InferenceSession]]) -> None:
    """Check inputs and outputs as `OnnxRuntimeBackend.compile` does."""
    # An input that is only taken in stripes is not any session's.
    found = {name: spec_of(memoryview(raw)) for name, raw in graph.inputs.items()}
    found.update({node.name: _spec(node)
                  for session in sessions if session is not None
                  for node in (*session.get_inputs(), *session.get_outputs())})
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


def _blocks(graph: WireGraph, copies: Mapping[str, Copy]) -> Dict[str, int]:
    """Return how many channels lie beside each other, of tensors whose rows are copied."""
    inside = {name for node in graph.nodes for name in node.outputs
              if node.domain == NCHWC and node.operator != 'ReorderOutput'}
    wanted = {copy.whole for copy in copies.values()} & inside
    return dict.fromkeys(wanted, block_channels(graph.head)) if wanted else {}


@lru_cache(maxsize=8)
def block_channels(head: bytes) -> int:
    """Return the engine's block of channels on this processor, from what it makes of numbers."""
    channels = 64
    node = b''.join((field(1, b'x'), field(2, b'y'), field(4, b'ReorderInput'),
                     field(7, NCHWC.encode())))
    spec = TensorSpec('x', 'float32', (1, channels, 1, 2))
    body = b''.join((field(1, node), field(2, b'probe'), field(11, value_info('x', spec)),
                     field(12, value_info('y'))))
    options = onnxruntime.SessionOptions()
    options.log_severity_level = FATAL_ONLY
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(head + field(7, body), options,
                                           providers=list(PROVIDERS))
    told = np.arange(2 * channels, dtype=np.float32).reshape(spec.shape)
    found = session.run(None, {'x': told})[0].ravel().tolist()
    return int(found.index(1.0))
