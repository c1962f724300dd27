# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
ncnn behind the engine seam (P III-C1): Winograd convolutions in fp32.

The segment's graph is translated when it is compiled, see docs/decisions/0015-engines.md; ncnn
takes the weights from the mapped file by way of a reader, no file of its own is written.
Memory mode 'lean' leaves out what trades memory for speed: Winograd and packed weights. Threads
are OpenMP's: whether they spin is decided by OMP_WAIT_POLICY when the process starts.
"""
from __future__ import annotations

import ctypes
from dataclasses import replace
from typing import Any, List, Sequence, Tuple

import numpy as np

from crowdhmt_ros.engine.backends.common import (
    Abilities,
    TurnExecutable,
    compare_specs,
    first_line,
    import_engine,
    least_bytes,
    refusal_of,
    refuse,
    resident_bytes,
)
from crowdhmt_ros.engine.backends.ncnn_layers import NcnnModel
from crowdhmt_ros.engine.backends.ncnn_rules import to_ncnn
from crowdhmt_ros.engine.backends.ncnn_writer import NotForNcnnError
from crowdhmt_ros.engine.onnx_file import read_graph
from crowdhmt_ros.errors import BackendError
from crowdhmt_ros.types import EngineOptions, Segment

_ERRORS = (RuntimeError, ValueError, TypeError, MemoryError, OSError)


class NcnnExecutable(TurnExecutable):
    """
    One network.

    :param ncnn: the module
    :param net: an ncnn.Net with its weights
    """

    def __init__(self, ncnn: Any, net: Any, model: NcnnModel, segment: Segment, *,
                 memory_bytes: int) -> None:
        super().__init__(segment, memory_bytes=memory_bytes, errors=_ERRORS)
        self._ncnn = ncnn
        self._net = net
        self._model = model
        self._inputs: List[Any] = []
        self._outputs: List[np.ndarray] = []

    def _bind(self, inputs: Sequence[np.ndarray], outputs: Sequence[np.ndarray]) -> None:
        self._inputs = [self._ncnn.Mat(buffer[0]) for buffer in inputs]  # no copy
        self._outputs = list(outputs)

    def _compute(self) -> None:
        extractor = self._net.create_extractor()
        for blob, lent, values in zip(self._model.inputs, self._model.lent, self._inputs):
            extractor.input(blob, values if lent else values.clone())
        for blob, buffer in zip(self._model.outputs, self._outputs):
            code, found = extractor.extract(blob)
            if code:
                raise RuntimeError('ncnn gives no %s (code %d)' % (blob, code))
            np.copyto(buffer, np.array(found, copy=False).reshape(buffer.shape))


class NcnnBackend:
    """
    ncnn on the processor.

    :raises BackendError: when it is not installed
    """

    def __init__(self) -> None:
        self._ncnn = import_engine('ncnn', 'ncnn', 'pip install crowdhmt-ros[ncnn]')
        self._able = Abilities(self.name, 'ncnn', ('fp32', 'bf16'), ('fast', 'lean'))

    @property
    def name(self) -> str:
        """'ncnn'."""
        return 'ncnn'

    @property
    def version(self) -> str:
        """Release of the module."""
        return str(self._ncnn.__version__)

    @property
    def warnings(self) -> Tuple[str, ...]:
        """Nothing: it runs where it says, or not at all."""
        return ()

    def providers(self) -> Tuple[str, ...]:
        """Return its device."""
        return ('CPU',)

    def precisions(self) -> Tuple[str, ...]:
        """See `Backend.precisions`; bf16 is how blobs and weights are kept."""
        return self._able.precisions

    def refusal(self, segment: Segment, options: EngineOptions) -> str:
        """See `Backend.refusal`; the graph is translated to tell."""
        refusal = refusal_of(self._able, segment, options)
        if not refusal:
            try:
                to_ncnn(read_graph(segment.path))
            except NotForNcnnError as error:
                refusal = _in_words(segment, error)
        return refusal

    def compile(self, segment: Segment, options: EngineOptions) -> NcnnExecutable:
        """See `Backend.compile`."""
        refuse(refusal_of(self._able, segment, options))
        before = resident_bytes()
        graph = read_graph(segment.path)
        compare_specs(segment, 'input', segment.inputs, graph.inputs)
        compare_specs(segment, 'output', segment.outputs, graph.outputs)
        try:
            model = to_ncnn(graph)
            net = self._load(model, options)
        except NotForNcnnError as error:
            raise BackendError(_in_words(segment, error)) from error
        except _ERRORS as error:
            raise BackendError('segment %s cannot be compiled by ncnn: %s' % (
                segment.segment_id, first_line(error))) from error
        taken = max(resident_bytes() - before, least_bytes(segment))
        # The weights are in the net now; the names of its blobs are all that is needed.
        named = replace(model, text='', weights=())
        return NcnnExecutable(self._ncnn, net, named, segment, memory_bytes=taken)

    def _load(self, model: NcnnModel, options: EngineOptions) -> Any:
        net = self._ncnn.Net()
        _set(net.opt, options)
        if net.load_param_mem(model.text):
            raise RuntimeError('ncnn does not take the graph')
        reader = _make_reader(self._ncnn, model.weights)
        if net.load_model(reader) or reader.left:
            raise RuntimeError('ncnn does not take the weights, %d pieces are left' % reader.left)
        return net


def _set(opt: Any, options: EngineOptions) -> None:
    opt.num_threads = options.threads
    opt.use_vulkan_compute = False
    for name in ('use_fp16_packed', 'use_fp16_storage', 'use_fp16_arithmetic'):
        setattr(opt, name, False)
    opt.use_bf16_storage = options.precision == 'bf16'
    if options.memory_mode == 'lean':
        opt.use_winograd_convolution = False
        opt.use_sgemm_convolution = False


def _make_reader(ncnn: Any, weights: Sequence[memoryview]) -> Any:
    """Return an ncnn.DataReader that gives out the weights piece by piece."""
    get_pointer = ctypes.pythonapi.PyCapsule_GetPointer
    get_pointer.restype = ctypes.c_void_p
    get_pointer.argtypes = [ctypes.py_object, ctypes.c_char_p]

    class Reader(ncnn.DataReader):  # type: ignore[misc]  # the base comes at run time
        def __init__(self) -> None:
            super().__init__()
            self._pieces = list(reversed(weights))

        @property
        def left(self) -> int:
            return len(self._pieces)

        def read(self, capsule: Any, size: int) -> int:
            if not self._pieces or len(self._pieces[-1]) != size:
                return 0
            source = np.frombuffer(self._pieces.pop(), np.uint8)
            ctypes.memmove(get_pointer(capsule, None), source.ctypes.data, size)
            return size

        def scan(self, format: str, p: Any) -> int:
            return 0
    return Reader()


def _in_words(segment: Segment, error: NotForNcnnError) -> str:
    return 'segment %s is not for ncnn: %s; choose another backend' % (segment.segment_id, error)
