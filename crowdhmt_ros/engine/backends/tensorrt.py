# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
TensorRT behind the engine seam (P III-C1), for NVIDIA graphics processors.

A built engine is kept beside the segment under a key made of model, release, compute capability
and precision (`engine_cache`). Buffers are the caller's, in main memory; they are copied to the
device and back on one stream. 'fp32' is kept from being computed in TF32.
"""
from __future__ import annotations

from pathlib import Path
from typing import Any, List, Sequence, Tuple

import numpy as np

from crowdhmt_ros.engine.backends.common import (
    ENGINE_ERRORS,
    Abilities,
    EngineBackend,
    TurnExecutable,
    compare_specs,
    first_line,
    import_engine,
    least_bytes,
)
from crowdhmt_ros.engine.backends.engine_cache import (
    building,
    cache_folder,
    cache_key,
    keep,
    load,
    model_sha256,
)
from crowdhmt_ros.errors import BackendError
from crowdhmt_ros.types import EngineOptions, Segment, TensorSpec

INSTALL = "install NVIDIA's TensorRT and CUDA bindings (on a Jetson they come with JetPack)"
CUDA_MODULES = ('cuda.bindings.runtime', 'cuda.cudart')
"""The names that NVIDIA has given the bindings of the CUDA runtime, newest first."""
WORKSPACE_BYTES = 1 << 28
_FLAGS = {'fp16': ('FP16',), 'bf16': ('BF16',), 'int8': ('INT8',)}


class Cuda:
    """
    The few calls of the CUDA runtime that are needed.

    :param runtime: module of the bindings
    """

    def __init__(self, runtime: Any) -> None:
        self._runtime = runtime
        kinds = runtime.cudaMemcpyKind
        self._to_device = kinds.cudaMemcpyHostToDevice
        self._to_host = kinds.cudaMemcpyDeviceToHost

    def call(self, name: str, *arguments: Any) -> Any:
        """
        Call a function of the runtime.

        :returns: its result, None where it has none
        :raises RuntimeError: when it fails
        """
        code, *found = getattr(self._runtime, name)(*arguments)
        if int(code):
            raise RuntimeError('%s failed with CUDA error %d' % (name, int(code)))
        return found[0] if found else None

    def compute_capability(self) -> Tuple[int, int]:
        """Return (major, minor) of the current device."""
        device = self.call('cudaGetDevice')
        properties = self.call('cudaGetDeviceProperties', device)
        return int(properties.major), int(properties.minor)

    def send(self, device: int, buffer: np.ndarray, stream: Any) -> None:
        """Copy a buffer to the device."""
        self.call('cudaMemcpyAsync', device, buffer.ctypes.data, buffer.nbytes, self._to_device,
                  stream)

    def fetch(self, buffer: np.ndarray, device: int, stream: Any) -> None:
        """Copy from the device into a buffer."""
        self.call('cudaMemcpyAsync', buffer.ctypes.data, device, buffer.nbytes, self._to_host,
                  stream)


class TensorRtExecutable(TurnExecutable):
    """
    One engine with memory of its own on the device.

    :param engine: a deserialised tensorrt.ICudaEngine
    """

    def __init__(self, cuda: Cuda, engine: Any, segment: Segment, *, memory_bytes: int) -> None:
        super().__init__(segment, memory_bytes=memory_bytes, errors=ENGINE_ERRORS)
        self._cuda = cuda
        self._engine = engine
        self._context = engine.create_execution_context()
        self._allocated: List[int] = []
        self._given: Tuple[np.ndarray, ...] = ()
        self._taken: Tuple[np.ndarray, ...] = ()
        self._stream = cuda.call('cudaStreamCreate')
        for spec in (*segment.inputs, *segment.outputs):
            count = int(np.prod(spec.shape)) * np.dtype(spec.dtype).itemsize
            address = int(cuda.call('cudaMalloc', count))
            self._allocated.append(address)
            self._context.set_tensor_address(spec.name, address)

    def __del__(self) -> None:
        for address in getattr(self, '_allocated', ()):
            self._cuda.call('cudaFree', address)
        if hasattr(self, '_stream'):
            self._cuda.call('cudaStreamDestroy', self._stream)

    def _bind(self, inputs: Sequence[np.ndarray], outputs: Sequence[np.ndarray]) -> None:
        self._given, self._taken = tuple(inputs), tuple(outputs)

    def _compute(self) -> None:
        count = len(self._given)
        for address, buffer in zip(self._allocated, self._given):
            self._cuda.send(address, buffer, self._stream)
        if not self._context.execute_async_v3(int(self._stream)):
            raise RuntimeError('TensorRT did not run the engine')
        for address, buffer in zip(self._allocated[count:], self._taken):
            self._cuda.fetch(buffer, address, self._stream)
        self._cuda.call('cudaStreamSynchronize', self._stream)


class TensorRtBackend(EngineBackend[TensorRtExecutable]):
    """
    TensorRT on the current graphics processor; what its parser refuses shows when it compiles.

    :raises BackendError: when it, its CUDA bindings or the processor is missing
    """

    def __init__(self) -> None:
        self._tensorrt = import_engine('tensorrt', 'TensorRT', INSTALL)
        try:
            self._cuda = Cuda(_import_cuda())
            self._capability = self._cuda.compute_capability()
            self._logger = self._tensorrt.Logger(self._tensorrt.Logger.WARNING)
        except ENGINE_ERRORS as error:
            raise BackendError('TensorRT does not start: %s' % first_line(error)) from error
        flags = self._tensorrt.BuilderFlag
        able = ('fp32', *(p for p, names in _FLAGS.items()
                          if all(hasattr(flags, name) for name in names)))
        super().__init__(Abilities('tensorrt', 'TensorRT', able),
                         str(self._tensorrt.__version__))

    def cache_path(self, segment: Segment, precision: str) -> Path:
        """Return where the engine of a segment is kept."""
        return cache_folder(segment) / (cache_key(
            model_sha256(segment), self.version, self._capability, precision) + '.engine')

    def providers(self) -> Tuple[str, ...]:
        """Return the device with its compute capability."""
        return ('CUDA %d.%d' % self._capability,)

    def _make(self, segment: Segment, options: EngineOptions) -> TensorRtExecutable:
        path = self.cache_path(segment, options.precision)
        kept = load(path)
        engine = None if kept is None else self._deserialise(kept)
        if engine is None:
            kept = self._build(segment, options.precision)
            keep(path, kept)
            engine = self._deserialise(kept)
        if engine is None:
            raise RuntimeError('it does not load the engine that it has built')
        self._compare(segment, engine)
        taken = least_bytes(segment) + _device_bytes(engine)
        return TensorRtExecutable(self._cuda, engine, segment, memory_bytes=taken)

    def _deserialise(self, content: bytes) -> Any:
        """Return an engine, None for content that this release does not take."""
        return self._tensorrt.Runtime(self._logger).deserialize_cuda_engine(content)

    def _build(self, segment: Segment, precision: str) -> bytes:
        trt = self._tensorrt
        builder = trt.Builder(self._logger)
        explicit = getattr(trt.NetworkDefinitionCreationFlag, 'EXPLICIT_BATCH', None)
        network = builder.create_network(0 if explicit is None else 1 << int(explicit))
        parser = trt.OnnxParser(network, self._logger)
        if not parser.parse_from_file(segment.path):
            said = [str(parser.get_error(i)) for i in range(parser.num_errors)]
            raise RuntimeError('; '.join(said) or 'its parser does not take the graph')
        with building('the TensorRT engine of %s in %s' % (segment.segment_id, precision)):
            content = builder.build_serialized_network(network, self._config(builder, precision))
        if content is None:
            raise RuntimeError('the engine could not be built, see its log')
        return bytes(content)

    def _config(self, builder: Any, precision: str) -> Any:
        trt = self._tensorrt
        config = builder.create_builder_config()
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, WORKSPACE_BYTES)
        config.clear_flag(trt.BuilderFlag.TF32)
        for name in _FLAGS.get(precision, ()):
            config.set_flag(getattr(trt.BuilderFlag, name))
        return config

    def _compare(self, segment: Segment, engine: Any) -> None:
        found: Tuple[List[TensorSpec], List[TensorSpec]] = ([], [])
        for index in range(engine.num_io_tensors):
            name = engine.get_tensor_name(index)
            output = engine.get_tensor_mode(name) == self._tensorrt.TensorIOMode.OUTPUT
            dtype = str(np.dtype(self._tensorrt.nptype(engine.get_tensor_dtype(name))))
            shape = tuple(int(extent) for extent in engine.get_tensor_shape(name))
            found[output].append(TensorSpec(name, dtype, shape))
        for role, declared, seen in (('input', segment.inputs, found[0]),
                                     ('output', segment.outputs, found[1])):
            by_name = {spec.name: spec for spec in seen}
            ordered = tuple(by_name.pop(s.name) for s in declared if s.name in by_name)
            compare_specs(segment, role, declared, (*ordered, *by_name.values()))


def _device_bytes(engine: Any) -> int:
    return int(getattr(engine, 'device_memory_size_v2', engine.device_memory_size))


def _import_cuda() -> Any:
    missing: List[BackendError] = []
    for name in CUDA_MODULES:
        try:
            return import_engine(name, 'TensorRT without CUDA bindings', INSTALL)
        except BackendError as error:
            missing.append(error)
    raise missing[-1]
