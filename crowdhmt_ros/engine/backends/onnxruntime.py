# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
ONNX Runtime behind the engine seam (P III-C1).

Memory mode 'fast' lets the engine lay weights out anew for its kernels (level ALL) and keep
an arena; 'lean' runs straight on the memory-mapped initialisers: basic rewrites, no
prepacked copies, no arena, no memory pattern. Buffers are bound by address once and bound
again only when the caller brings others.
"""
from __future__ import annotations

import logging
import os
import threading
from typing import Dict, List, Sequence, Tuple, Type

import numpy as np
import onnxruntime
import psutil
from onnxruntime.capi import onnxruntime_pybind11_state as _state

from crowdhmt_ros.engine.backend import check_buffers
from crowdhmt_ros.errors import BackendError
from crowdhmt_ros.types import EngineOptions, Segment, TensorSpec

FATAL_ONLY = 4
MEMORY_MODES = ('fast', 'lean')
MAX_THREADS = 256
_ELEMENT_TYPES = {'tensor(float)': 'float32', 'tensor(float16)': 'float16',
                  'tensor(double)': 'float64', 'tensor(uint8)': 'uint8', 'tensor(int8)': 'int8',
                  'tensor(int32)': 'int32', 'tensor(int64)': 'int64', 'tensor(bool)': 'bool'}
_log = logging.getLogger(__name__)


def _engine_errors() -> Tuple[Type[Exception], ...]:
    """Return what the engine raises: its own classes differ between its releases."""
    own = [value for value in vars(_state).values()
           if isinstance(value, type) and issubclass(value, Exception)]
    return tuple(own) + (RuntimeError, ValueError, TypeError, MemoryError, OSError)


_ENGINE_ERRORS = _engine_errors()


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]


class OnnxRuntimeExecutable:
    """
    One session with its buffers bound.

    :param session: a session whose inputs and outputs are as given
    :param inputs: fixed-shape inputs
    :param outputs: fixed-shape outputs
    :param memory_bytes: what the session takes
    """

    def __init__(self, session: onnxruntime.InferenceSession, inputs: Tuple[TensorSpec, ...],
                 outputs: Tuple[TensorSpec, ...], *, memory_bytes: int) -> None:
        self.inputs = inputs
        self.outputs = outputs
        self.memory_bytes = memory_bytes
        self._session = session
        self._binding = session.io_binding()
        # Several placements and peers share one executable; the lock costs 0.1 us.
        self._turn = threading.Lock()
        # Holding the arrays keeps the addresses that the engine knows alive.
        self._bound: Tuple[np.ndarray, ...] = ()

    def run(self, inputs: Sequence[np.ndarray], outputs: Sequence[np.ndarray]) -> None:
        """See `Executable.run`."""
        given = (*inputs, *outputs)
        with self._turn:
            bound = self._bound
            try:
                if len(given) != len(bound) or any(a is not b for a, b in zip(given, bound)):
                    self._bind(inputs, outputs)
                self._session.run_with_iobinding(self._binding)
            except _ENGINE_ERRORS as error:
                raise BackendError('the engine failed: %s' % _first_line(error)) from error

    def _bind(self, inputs: Sequence[np.ndarray], outputs: Sequence[np.ndarray]) -> None:
        check_buffers(self.inputs, inputs, 'input')
        check_buffers(self.outputs, outputs, 'output')
        self._bound = ()
        for spec, buffer in zip(self.inputs, inputs):
            self._binding.bind_input(spec.name, 'cpu', 0, buffer.dtype.type, spec.shape,
                                     buffer.ctypes.data)
        for spec, buffer in zip(self.outputs, outputs):
            self._binding.bind_output(spec.name, 'cpu', 0, buffer.dtype.type, spec.shape,
                                      buffer.ctypes.data)
        self._bound = (*inputs, *outputs)


class OnnxRuntimeBackend:
    """
    ONNX Runtime with a list of execution providers.

    :param providers: wanted, best first; those that this machine lacks are left out with a
        warning, and the processor is the last resort
    """

    def __init__(self, providers: Sequence[str] = ('CPUExecutionProvider',)) -> None:
        available = onnxruntime.get_available_providers()
        self._warnings: List[str] = []
        usable = [p for p in providers if p in available]
        for missing in (p for p in providers if p not in available):
            self._warn('provider %s is not in this build of ONNX Runtime, it has %s' % (
                missing, ', '.join(available)))
        self._requested = tuple(usable) or ('CPUExecutionProvider',)
        self._active = self._requested

    @property
    def name(self) -> str:
        """'onnxruntime'."""
        return 'onnxruntime'

    @property
    def version(self) -> str:
        """As the module says: its distribution is also called onnxruntime-gpu and the like."""
        return str(onnxruntime.__version__)

    @property
    def warnings(self) -> Tuple[str, ...]:
        """Providers that were asked for and are not in force."""
        return tuple(self._warnings)

    def providers(self) -> Tuple[str, ...]:
        """Return the providers in force: as of the last session, before one as available."""
        return self._active

    def compile(self, segment: Segment, options: EngineOptions) -> OnnxRuntimeExecutable:
        """See `Backend.compile`."""
        self._check_options(options)
        if not os.path.isfile(segment.path):
            raise BackendError('segment %s has no file %s: materialise the bundle again' % (
                segment.segment_id, segment.path))
        before = _resident_bytes()
        try:
            session = onnxruntime.InferenceSession(
                segment.path, _session_options(options), providers=list(self._requested))
            self._compare_providers(session.get_providers())
            _compare_specs(segment, 'input', segment.inputs, _specs(session.get_inputs()))
            _compare_specs(segment, 'output', segment.outputs, _specs(session.get_outputs()))
            taken = max(_resident_bytes() - before, _least_bytes(segment))
            return OnnxRuntimeExecutable(session, segment.inputs, segment.outputs,
                                         memory_bytes=taken)
        except _ENGINE_ERRORS as error:
            raise BackendError('segment %s cannot be compiled: %s' % (
                segment.segment_id, _first_line(error))) from error

    def _check_options(self, options: EngineOptions) -> None:
        if options.backend != self.name:
            raise BackendError('the plan asks for backend %r, this one is %r' % (
                options.backend, self.name))
        if options.precision != 'fp32':
            raise BackendError('ONNX Runtime computes as the graph says: precision %r cannot be '
                               'chosen here, use fp32' % options.precision)
        if options.memory_mode not in MEMORY_MODES:
            raise BackendError('memory mode %r is unknown, choose one of %s' % (
                options.memory_mode, ', '.join(MEMORY_MODES)))
        if not 1 <= options.threads <= MAX_THREADS:
            raise BackendError('threads is %r, it must lie in 1..%d' % (
                options.threads, MAX_THREADS))

    def _compare_providers(self, active: Sequence[str]) -> None:
        self._active = tuple(active)
        for missing in (p for p in self._requested if p not in active):
            self._warn('provider %s could not start, %s is in force' % (
                missing, ', '.join(active)))

    def _warn(self, text: str) -> None:
        if text not in self._warnings:
            self._warnings.append(text)
            _log.warning('%s', text)


def _session_options(options: EngineOptions) -> onnxruntime.SessionOptions:
    chosen = onnxruntime.SessionOptions()
    chosen.log_severity_level = FATAL_ONLY
    chosen.intra_op_num_threads = options.threads
    chosen.inter_op_num_threads = 1
    chosen.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    levels = onnxruntime.GraphOptimizationLevel
    lean = options.memory_mode == 'lean'
    chosen.graph_optimization_level = levels.ORT_ENABLE_BASIC if lean else levels.ORT_ENABLE_ALL
    chosen.enable_cpu_mem_arena = not lean
    chosen.enable_mem_pattern = not lean
    for key, value in _session_entries(options, lean).items():
        chosen.add_session_config_entry(key, value)
    return chosen


def _session_entries(options: EngineOptions, lean: bool) -> Dict[str, str]:
    spinning = '1' if options.spinning else '0'
    return {'session.intra_op.allow_spinning': spinning,
            'session.inter_op.allow_spinning': spinning,
            'session.disable_prepacking': '1' if lean else '0'}


def _specs(nodes: Sequence[onnxruntime.NodeArg]) -> Tuple[TensorSpec, ...]:
    return tuple(TensorSpec(node.name, _ELEMENT_TYPES.get(node.type, node.type),
                            tuple(node.shape)) for node in nodes)


def _compare_specs(segment: Segment, role: str, declared: Tuple[TensorSpec, ...],
                   found: Tuple[TensorSpec, ...]) -> None:
    if found != declared:
        raise BackendError('segment %s: its graph has %ss %s, the bundle declares %s' % (
            segment.segment_id, role, _in_words(found), _in_words(declared)))


def _in_words(specs: Sequence[TensorSpec]) -> str:
    return ', '.join('%s %s %r' % (s.name, s.dtype, s.shape) for s in specs) or 'none'


def _resident_bytes() -> int:
    return int(psutil.Process().memory_info().rss)


def _least_bytes(segment: Segment) -> int:
    """Return what a session takes at least; freed memory that it reuses hides its growth."""
    buffers = sum(int(np.prod(s.shape)) * np.dtype(s.dtype).itemsize
                  for s in (*segment.inputs, *segment.outputs))
    return segment.weight_bytes + buffers
