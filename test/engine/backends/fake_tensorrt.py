# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Stand-ins for TensorRT and the CUDA runtime.

The stand-in engine is the ONNX file's content with its builder's settings, run by ONNX Runtime;
the device's memory is a dictionary of byte arrays. Both keep account of what they were asked for.
"""
import ctypes
import enum
import json
import types

import numpy as np
import onnxruntime

STREAM = 77


class FakeCuda(types.ModuleType):
    """The functions of the runtime that are used, each returning (error, result...)."""

    class cudaMemcpyKind:  # noqa: N801 - NVIDIA's name
        cudaMemcpyHostToDevice = 1  # noqa: N815
        cudaMemcpyDeviceToHost = 2  # noqa: N815

    def __init__(self, capability=(8, 7), error=0):
        super().__init__('cuda_runtime')
        self.capability, self.error = capability, error
        self.memory, self.streams, self.next = {}, set(), 1 << 20

    def cudaGetDevice(self):  # noqa: N802
        return self.error, 0

    def cudaGetDeviceProperties(self, device):  # noqa: N802
        return 0, types.SimpleNamespace(major=self.capability[0], minor=self.capability[1])

    def cudaStreamCreate(self):  # noqa: N802
        self.streams.add(STREAM)
        return 0, STREAM

    def cudaStreamDestroy(self, stream):  # noqa: N802
        self.streams.discard(stream)
        return (0,)

    def cudaStreamSynchronize(self, stream):  # noqa: N802
        assert stream in self.streams
        return (0,)

    def cudaMalloc(self, size):  # noqa: N802
        self.next += 1 << 20
        self.memory[self.next] = bytearray(size)
        return 0, self.next

    def cudaFree(self, address):  # noqa: N802
        del self.memory[address]
        return (0,)

    def cudaMemcpyAsync(self, target, source, size, kind, stream):  # noqa: N802
        if kind == 1:
            self.memory[target][:] = ctypes.string_at(source, size)
        else:
            ctypes.memmove(target, bytes(self.memory[source]), size)
        return (0,)


class Flag(enum.Enum):
    FP16, BF16, INT8, TF32 = range(4)


class FakeTensorRT(types.ModuleType):
    """What of the module is used."""

    __version__ = '10.3.0'
    BuilderFlag = Flag

    class NetworkDefinitionCreationFlag:
        pass

    class MemoryPoolType:
        WORKSPACE = 'workspace'

    class TensorIOMode(enum.Enum):
        INPUT, OUTPUT = range(2)

    def __init__(self, cuda):
        super().__init__('tensorrt')
        self.cuda, self.built, self.refuses = cuda, [], ''

        class Logger:
            WARNING = 2

            def __init__(self, level):
                self.level = level
        self.Logger = Logger

    @staticmethod
    def nptype(kind):
        return np.dtype(kind)

    def Builder(self, logger):  # noqa: N802
        return FakeBuilder(self)

    def OnnxParser(self, network, logger):  # noqa: N802
        return FakeParser(self, network)

    def Runtime(self, logger):  # noqa: N802
        return types.SimpleNamespace(
            deserialize_cuda_engine=lambda content: FakeEngine.load(self, content))


class FakeConfig:
    def __init__(self):
        self.flags, self.limits = {Flag.TF32}, {}

    def set_flag(self, flag):
        self.flags.add(flag)

    def clear_flag(self, flag):
        self.flags.discard(flag)

    def set_memory_pool_limit(self, pool, size):
        self.limits[pool] = size


class FakeBuilder:
    def __init__(self, trt):
        self.trt = trt

    def create_network(self, flags):
        return types.SimpleNamespace(path=None)

    def create_builder_config(self):
        return FakeConfig()

    def build_serialized_network(self, network, config):
        self.trt.built.append((network.path, frozenset(config.flags)))
        return json.dumps({'path': network.path, 'version': self.trt.__version__}).encode()


class FakeParser:
    def __init__(self, trt, network):
        self.trt, self.network = trt, network
        self.num_errors = 1 if trt.refuses else 0

    def parse_from_file(self, path):
        self.network.path = path
        return not self.trt.refuses

    def get_error(self, index):
        return self.trt.refuses


class FakeEngine:
    device_memory_size = 4096

    @classmethod
    def load(cls, trt, content):
        try:
            kept = json.loads(content)
        except ValueError:
            return None
        return cls(trt, kept['path']) if kept['version'] == trt.__version__ else None

    def __init__(self, trt, path):
        self.trt = trt
        self.session = onnxruntime.InferenceSession(path, providers=['CPUExecutionProvider'])
        self.io = [*self.session.get_outputs(), *self.session.get_inputs()]  # not our order
        self.num_io_tensors = len(self.io)

    def get_tensor_name(self, index):
        return self.io[index].name

    def get_tensor_mode(self, name):
        output = name in [o.name for o in self.session.get_outputs()]
        return FakeTensorRT.TensorIOMode.OUTPUT if output else FakeTensorRT.TensorIOMode.INPUT

    def get_tensor_dtype(self, name):
        return 'float32'

    def get_tensor_shape(self, name):
        return next(i.shape for i in self.io if i.name == name)

    def create_execution_context(self):
        return FakeContext(self)


class FakeContext:
    def __init__(self, engine):
        self.engine, self.addresses, self.fails = engine, {}, False

    def set_tensor_address(self, name, address):
        self.addresses[name] = address

    def execute_async_v3(self, stream):
        assert stream == STREAM
        if self.fails:
            return False
        memory, session = self.engine.trt.cuda.memory, self.engine.session
        given = {i.name: np.frombuffer(bytes(memory[self.addresses[i.name]]), 'f4').reshape(
            i.shape) for i in session.get_inputs()}
        for output, value in zip(session.get_outputs(), session.run(None, given)):
            memory[self.addresses[output.name]][:] = value.tobytes()
        return True
