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
from typing import Any, List, Sequence

import numpy as np

from crowdhmt_ros.engine.backends.common import (
    ENGINE_ERRORS,
    Abilities,
    EngineBackend,
    TurnExecutable,
    compare_specs,
    import_engine,
)
from crowdhmt_ros.engine.backends.ncnn_layers import NcnnModel
from crowdhmt_ros.engine.backends.ncnn_rules import to_ncnn
from crowdhmt_ros.engine.backends.ncnn_writer import NotForNcnnError
from crowdhmt_ros.engine.onnx_file import read_graph
from crowdhmt_ros.errors import BackendError
from crowdhmt_ros.types import EngineOptions, Segment


class NcnnExecutable(TurnExecutable):
    """
    One network.

    :param ncnn: the module
    :param net: an ncnn.Net with its weights
    """

    def __init__(self, ncnn: Any, net: Any, model: NcnnModel, segment: Segment) -> None:
        super().__init__(segment, errors=ENGINE_ERRORS)
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


class NcnnBackend(EngineBackend[NcnnExecutable]):
    """
    ncnn on the processor; bf16 is how it keeps blobs and weights.

    :raises BackendError: when it is not installed
    """

    def __init__(self) -> None:
        self._ncnn = import_engine('ncnn', 'ncnn', 'pip install crowdhmt-ros[ncnn]')
        super().__init__(Abilities('ncnn', 'ncnn', ('fp32', 'bf16'), ('fast', 'lean')),
                         str(self._ncnn.__version__))

    def _objection(self, segment: Segment) -> str:
        """Tell what ncnn does not have; the graph is translated to tell."""
        try:
            to_ncnn(read_graph(segment.path))
        except NotForNcnnError as error:
            return self._not_for_me(segment, error)
        return ''

    def _make(self, segment: Segment, options: EngineOptions) -> NcnnExecutable:
        graph = read_graph(segment.path)
        compare_specs(segment, 'input', segment.inputs, graph.inputs)
        compare_specs(segment, 'output', segment.outputs, graph.outputs)
        try:
            model = to_ncnn(graph)
        except NotForNcnnError as error:
            raise BackendError(self._not_for_me(segment, error)) from error
        net = self._load(model, options)
        # The weights are in the net now; the names of its blobs are all that is needed.
        return NcnnExecutable(self._ncnn, net, replace(model, text='', weights=()), segment)

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
