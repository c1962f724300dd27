# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
ONNX Runtime behind the engine seam (P III-C1).

Memory mode 'fast' lets the engine lay weights out anew for its kernels (level ALL), or takes a
graph that it did so for before (`kept`), and keeps an arena; 'lean' runs straight on the
memory-mapped initialisers: basic rewrites, no prepacked copies, no arena, no memory pattern; for
the others see `mapped`. Buffers are bound by address once and bound again only when the caller
brings others.
"""
from __future__ import annotations

import contextlib
import logging
import threading
from typing import ContextManager, Dict, List, Optional, Sequence, Tuple, Type, Union

import numpy as np
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as _state

from crowdhmt_ros.engine.backend import check_buffers
from crowdhmt_ros.engine.backends import mapped
from crowdhmt_ros.engine.backends.common import (
    Abilities,
    EngineBackend,
    Resident,
    compare_specs,
    first_line,
)
from crowdhmt_ros.engine.backends.engine_cache import building, cache_folder
from crowdhmt_ros.engine.backends.kept import kept_session
from crowdhmt_ros.engine.crew import CREW
from crowdhmt_ros.errors import BackendError
from crowdhmt_ros.types import EngineOptions, Segment, TensorSpec

FATAL_ONLY = 4
CPU = 'CPUExecutionProvider'
CUDA = 'CUDAExecutionProvider'
TENSORRT = 'TensorrtExecutionProvider'
_TENSORRT_FLAGS = {'fp16': 'trt_fp16_enable', 'bf16': 'trt_bf16_enable',
                   'int8': 'trt_int8_enable'}
Provider = Union[str, Tuple[str, Dict[str, str]]]
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


class OnnxRuntimeExecutable:
    """
    One session with its buffers bound.

    :param session: a session whose inputs and outputs are as given
    :param inputs: fixed-shape inputs
    :param outputs: fixed-shape outputs
    :param memory_bytes: what the session takes; 0 leaves it to the backend
    """

    def __init__(self, session: onnxruntime.InferenceSession, inputs: Tuple[TensorSpec, ...],
                 outputs: Tuple[TensorSpec, ...], *, memory_bytes: int = 0) -> None:
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
                raise BackendError('the engine failed: %s' % first_line(error)) from error

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


class OnnxRuntimeBackend(EngineBackend[Resident]):
    """
    ONNX Runtime with a list of execution providers.

    Buffers are the caller's, in main memory: a provider on an accelerator copies. 'fp32' computes
    as the graph says, quantised parts too.

    :param providers: wanted, best first; those that this machine lacks are left out with a
        warning, and the processor is the last resort
    :param name: in `EngineOptions.backend`
    """

    def __init__(self, providers: Sequence[str] = (CPU,), *, name: str = 'onnxruntime') -> None:
        available = onnxruntime.get_available_providers()
        self._warnings: List[str] = []
        usable = [p for p in providers if p in available]
        for missing in (p for p in providers if p not in available):
            self._warn('provider %s is not in this build of ONNX Runtime, it has %s' % (
                missing, ', '.join(available)))
        self._requested = tuple(usable) or (CPU,)
        self._active = self._requested
        # Its distribution is also called onnxruntime-gpu and the like; the module has one version.
        super().__init__(
            Abilities(name, 'ONNX Runtime', _precisions(self._requested[0]),
                      _memory_modes(self._requested[0]), spinning=True),
            str(onnxruntime.__version__), _ENGINE_ERRORS)

    @property
    def warnings(self) -> Tuple[str, ...]:
        """Providers that were asked for and are not in force."""
        return tuple(self._warnings)

    def providers(self) -> Tuple[str, ...]:
        """Return the providers in force: as of the last session, before one as available."""
        return self._active

    def _make(self, segment: Segment, options: EngineOptions) -> Resident:
        with CREW.gathering():  # its threads can be told later where to run
            return self._made(segment, options)

    def _made(self, segment: Segment, options: EngineOptions) -> Resident:
        if options.memory_mode in mapped.MODES:
            return mapped.compile_mapped(segment, options, engine_version=self.version,
                                         errors=_ENGINE_ERRORS)
        wanted = [provider_options(p, segment, options.precision) for p in self._requested]
        chosen = _session_options(options)
        with self._progress(segment):
            session = (self._kept(segment, options, chosen)
                       or onnxruntime.InferenceSession(segment.path, chosen, providers=wanted))
        self._compare_providers(session.get_providers())
        compare_specs(segment, 'input', segment.inputs, _specs(session.get_inputs()))
        compare_specs(segment, 'output', segment.outputs, _specs(session.get_outputs()))
        return OnnxRuntimeExecutable(session, segment.inputs, segment.outputs)

    def _kept(self, segment: Segment, options: EngineOptions, chosen: onnxruntime.SessionOptions
              ) -> Optional[onnxruntime.InferenceSession]:
        """Return a session over what was rewritten before, None where there is no such thing."""
        if self._requested != (CPU,):
            return None
        return kept_session(segment, options, chosen, engine_version=self.version,
                            errors=_ENGINE_ERRORS)

    def _progress(self, segment: Segment) -> ContextManager[None]:
        if self._requested[0] != TENSORRT:
            return contextlib.nullcontext()
        return building('the TensorRT engine of %s' % segment.segment_id)

    def _compare_providers(self, active: Sequence[str]) -> None:
        self._active = tuple(active)
        for missing in (p for p in self._requested if p not in active):
            self._warn('provider %s could not start, %s is in force' % (
                missing, ', '.join(active)))

    def _warn(self, text: str) -> None:
        if text not in self._warnings:
            self._warnings.append(text)
            _log.warning('%s', text)


def _precisions(provider: str) -> Tuple[str, ...]:
    return ('fp32', 'fp16', 'bf16', 'int8') if provider == TENSORRT else ('fp32', 'int8')


def _memory_modes(provider: str) -> Tuple[str, ...]:
    return ('fast', 'lean', *mapped.MODES) if provider == CPU else ('fast', 'lean')


def provider_options(provider: str, segment: Segment, precision: str) -> Provider:
    """
    Return a provider as a session takes it.

    TensorRT keeps its engines beside the segment, by precision; it checks itself that a kept one
    fits its release and the graphics processor. CUDA is kept from computing 'fp32' in TF32, whose
    products have ten bits.
    """
    if provider == CUDA:
        return provider, {'use_tf32': '0'}
    if provider != TENSORRT:
        return provider
    options = _kept_engines(segment, precision)
    if precision in _TENSORRT_FLAGS:
        options[_TENSORRT_FLAGS[precision]] = 'True'
    return provider, options


def _kept_engines(segment: Segment, precision: str) -> Dict[str, str]:
    folder = cache_folder(segment) / ('onnxruntime-' + precision)
    try:
        folder.mkdir(parents=True, exist_ok=True)  # the provider makes one level only
    except OSError as error:
        _log.warning('engines cannot be kept in %s (%s): they are built again at each start',
                     folder, error.strerror or error)
        return {}
    return {'trt_engine_cache_enable': 'True', 'trt_engine_cache_path': str(folder),
            'trt_timing_cache_enable': 'True', 'trt_timing_cache_path': str(folder)}


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
            # Else they go on for 50 ms of processor time behind each answer.
            'session.force_spinning_stop': '1',
            'session.disable_prepacking': '1' if lean else '0'}


def _specs(nodes: Sequence[onnxruntime.NodeArg]) -> Tuple[TensorSpec, ...]:
    return tuple(TensorSpec(node.name, _ELEMENT_TYPES.get(node.type, node.type),
                            tuple(node.shape)) for node in nodes)
