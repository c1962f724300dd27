# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What all engines check and report in the same way."""
from __future__ import annotations

import ctypes
import importlib
import os
import threading
from dataclasses import dataclass
from typing import Any, Generic, Protocol, Sequence, Tuple, Type, TypeVar

import numpy as np
import psutil

from crowdhmt_ros.engine.backend import Executable, check_buffers
from crowdhmt_ros.engine.onnx_file import GraphFile, read_graph
from crowdhmt_ros.errors import BackendError
from crowdhmt_ros.types import EngineOptions, Segment, TensorSpec

MAX_THREADS = 256
ENGINE_ERRORS: Tuple[Type[Exception], ...] = (
    RuntimeError, ValueError, TypeError, AttributeError, MemoryError, OSError)
"""What engines raise through their Python bindings."""
QUANTISED = frozenset(('QuantizeLinear', 'DequantizeLinear', 'QLinearConv', 'QLinearMatMul',
                       'ConvInteger', 'MatMulInteger'))


@dataclass(frozen=True)
class Abilities:
    """
    What of `EngineOptions` an engine can do.

    :param backend: its name in `EngineOptions.backend`
    :param title: its name for people
    :param precisions: the first is its default; 'int8' needs a quantised graph
    :param memory_modes: of those of `EngineOptions`
    :param spinning: whether spinning can be chosen
    """

    backend: str
    title: str
    precisions: Tuple[str, ...]
    memory_modes: Tuple[str, ...] = ('fast',)
    spinning: bool = False


def refusal_of(able: Abilities, segment: Segment, options: EngineOptions) -> str:
    """
    Tell why an engine cannot run a segment under some options, as far as they alone decide.

    :returns: one line, '' when nothing stands against it
    """
    if options.backend != able.backend:
        return 'the plan asks for backend %r, this one is %r' % (options.backend, able.backend)
    if options.precision not in able.precisions:
        return '%s cannot be told to compute in %r here, choose one of %s' % (
            able.title, options.precision, ', '.join(able.precisions))
    if options.memory_mode not in able.memory_modes:
        return 'memory mode %r is unknown to %s, choose one of %s' % (
            options.memory_mode, able.title, ', '.join(able.memory_modes))
    if options.spinning and not able.spinning:
        return '%s gives no choice of spinning threads: leave spinning off' % able.title
    if not 1 <= options.threads <= MAX_THREADS:
        return 'threads is %r, it must lie in 1..%d' % (options.threads, MAX_THREADS)
    if not os.path.isfile(segment.path):
        return 'segment %s has no file %s: materialise the bundle again' % (
            segment.segment_id, segment.path)
    if options.precision == 'int8' and not is_quantised(read_graph(segment.path)):
        return 'segment %s has no quantised operators: int8 needs a bundle built with them' % (
            segment.segment_id)
    return ''


def is_quantised(graph: GraphFile) -> bool:
    """Tell whether a graph says itself where it computes in integers."""
    return any(node.operator in QUANTISED for node in graph.nodes)


def refuse(refusal: str) -> None:
    """
    Turn a refusal into an error.

    :raises BackendError: unless it is ''
    """
    if refusal:
        raise BackendError(refusal)


def import_engine(module: str, title: str, install: str) -> Any:
    """
    Import what an engine needs, now and not earlier.

    :param module: to import
    :param title: the engine, for people
    :param install: command or words that mend its absence
    :raises BackendError: when it is not there or does not start
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        absent = isinstance(error, ModuleNotFoundError) and error.name == module.split('.')[0]
        raise BackendError('%s cannot be used: %s; %s' % (
            title, 'it is not installed' if absent else first_line(error), install)) from error


def compare_specs(segment: Segment, role: str, declared: Tuple[TensorSpec, ...],
                  found: Tuple[TensorSpec, ...]) -> None:
    """
    Check that a graph is what the bundle says.

    :param role: 'input' or 'output'
    :raises BackendError: when it is not
    """
    if found != declared:
        raise BackendError('segment %s: its graph has %ss %s, the bundle declares %s' % (
            segment.segment_id, role, in_words(found), in_words(declared)))


def in_words(specs: Sequence[TensorSpec]) -> str:
    """Return names, types and shapes in one line."""
    return ', '.join('%s %s %r' % (s.name, s.dtype, s.shape) for s in specs) or 'none'


def first_line(error: Exception) -> str:
    """Return the first line of what an engine says."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]


def writable_view(array: np.ndarray) -> np.ndarray:
    """
    Return the same memory as an array that says it may be written.

    For engines that want that of everything they are handed, and only read what is an input.
    The caller keeps `array` alive.

    :param array: C-contiguous
    """
    if array.flags.writeable or not array.size:
        return array
    memory: Any = (ctypes.c_char * array.nbytes).from_address(array.ctypes.data)
    view: np.ndarray = np.frombuffer(memory, array.dtype)
    return view.reshape(array.shape)


def resident_bytes() -> int:
    """Return what this process has in memory now."""
    return int(psutil.Process().memory_info().rss)


def least_bytes(segment: Segment) -> int:
    """Return what an executable takes at least; freed memory that it reuses hides its growth."""
    buffers = sum(int(np.prod(s.shape)) * np.dtype(s.dtype).itemsize
                  for s in (*segment.inputs, *segment.outputs))
    return segment.weight_bytes + buffers


class Resident(Executable, Protocol):
    """An executable whose memory is known only when it is there."""

    memory_bytes: int


Made = TypeVar('Made', bound=Resident)


class EngineBackend(Generic[Made]):
    """
    The part of a backend that is the same for every engine.

    That is what it is called, what it refuses, and how a compilation begins and fails. An
    engine overrides `_make`, and `_objection` where a graph has to be looked at.

    :param able: what it is called and can do
    :param version: its release
    :param errors: what it raises
    """

    def __init__(self, able: Abilities, version: str,
                 errors: Tuple[Type[Exception], ...] = ENGINE_ERRORS) -> None:
        self._able = able
        self._version = version
        self._errors = errors

    @property
    def name(self) -> str:
        """See `Backend.name`."""
        return self._able.backend

    @property
    def version(self) -> str:
        """See `Backend.version`."""
        return self._version

    @property
    def warnings(self) -> Tuple[str, ...]:
        """See `Backend.warnings`; an engine that runs where it says, or not at all, has none."""
        return ()

    def providers(self) -> Tuple[str, ...]:
        """See `Backend.providers`."""
        return ('CPU',)

    def precisions(self) -> Tuple[str, ...]:
        """See `Backend.precisions`."""
        return self._able.precisions

    def refusal(self, segment: Segment, options: EngineOptions) -> str:
        """See `Backend.refusal`."""
        return refusal_of(self._able, segment, options) or self._objection(segment)

    def compile(self, segment: Segment, options: EngineOptions) -> Made:
        """See `Backend.compile`; memory is what this process grew by, at least the weights."""
        refuse(refusal_of(self._able, segment, options))
        before = resident_bytes()
        try:
            made = self._make(segment, options)
        except self._errors as error:
            raise BackendError('segment %s cannot be compiled by %s: %s' % (
                segment.segment_id, self._able.title, self._cause(error))) from error
        made.memory_bytes = made.memory_bytes or max(
            resident_bytes() - before, least_bytes(segment))
        return made

    def _objection(self, segment: Segment) -> str:
        """Tell what in a graph stands against it, '' when nothing does."""
        return ''

    def _make(self, segment: Segment, options: EngineOptions) -> Made:
        """Make a segment that was not refused ready to run."""
        raise NotImplementedError

    def _cause(self, error: Exception) -> str:
        """Return in one line what the engine says."""
        return first_line(error)

    def _not_for_me(self, segment: Segment, cause: object) -> str:
        return 'segment %s is not for %s: %s; choose another backend' % (
            segment.segment_id, self._able.title, cause)


class TurnExecutable:
    """
    The part of an executable that is the same for every engine: turns, buffers, errors.

    An engine overrides `_bind`, which is called when the caller brings other buffers than last
    time and may keep them by address, and `_compute`.

    :param segment: declares inputs and outputs
    :param errors: what the engine raises
    :param memory_bytes: what it takes while it is resident; 0 leaves it to the backend
    """

    def __init__(self, segment: Segment, *, errors: Tuple[Type[Exception], ...],
                 memory_bytes: int = 0) -> None:
        self.inputs = segment.inputs
        self.outputs = segment.outputs
        self.memory_bytes = memory_bytes
        self._errors = errors
        self._turn = threading.Lock()
        self._bound: Tuple[np.ndarray, ...] = ()  # keeps what the engine knows by address alive

    def run(self, inputs: Sequence[np.ndarray], outputs: Sequence[np.ndarray]) -> None:
        """See `Executable.run`."""
        given = (*inputs, *outputs)
        with self._turn:
            bound = self._bound
            try:
                if len(given) != len(bound) or any(a is not b for a, b in zip(given, bound)):
                    check_buffers(self.inputs, inputs, 'input')
                    check_buffers(self.outputs, outputs, 'output')
                    self._bound = ()
                    self._bind(inputs, outputs)
                    self._bound = given
                self._compute()
            except self._errors as error:
                raise BackendError('the engine failed: %s' % first_line(error)) from error

    def _bind(self, inputs: Sequence[np.ndarray], outputs: Sequence[np.ndarray]) -> None:
        raise NotImplementedError

    def _compute(self) -> None:
        raise NotImplementedError
