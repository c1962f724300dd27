# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
The engines there are, by name.

Only ONNX Runtime comes with every robot. The others are imported when they are asked for;
`ENGINES` says what each needs and what it gains, and `crowdhmt doctor` prints that.
"""
from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
from dataclasses import dataclass
from typing import Callable, Dict, Mapping, Sequence, Tuple

from crowdhmt_ros.engine.backend import Backend
from crowdhmt_ros.engine.backends.onnxruntime import CPU, CUDA, TENSORRT, OnnxRuntimeBackend
from crowdhmt_ros.engine.backends.repeating import RepeatingBackend
from crowdhmt_ros.engine.backends.several import SeveralBackend
from crowdhmt_ros.errors import BackendError

AUTO = 'auto'
"""In place of an engine's name: the fastest of each segment, as measured on this device."""
FIRST = 'onnxruntime'
"""What runs until others are measured, and where another one fails."""


@dataclass(frozen=True)
class Engine:
    """
    One engine and how to get it.

    :param title: its name for people
    :param make: makes it; raises BackendError where it is not installed
    :param module: what must be importable
    :param provider: of ONNX Runtime, that must be in the installed build; '' for other engines
    :param gains: what installing it gains, goes on a sentence
    :param install: how to install it
    :param accelerated: whether it is meant to compute on another processor than this
    """

    title: str
    make: Callable[[], Backend]
    module: str
    provider: str = ''
    gains: str = ''
    install: str = ''
    accelerated: bool = False

    @property
    def installed(self) -> bool:
        """Whether it can be imported here; it is not started."""
        try:
            found = importlib.util.find_spec(self.module) is not None
        except (ImportError, ValueError):  # a parent package is missing or half loaded
            return False
        if found and self.provider:
            import onnxruntime
            return self.provider in onnxruntime.get_available_providers()
        return found


def _late(module: str, name: str) -> Callable[[], Backend]:
    """Return what makes an engine whose module is imported no earlier."""
    def make() -> Backend:
        made: Backend = getattr(importlib.import_module('%s.%s' % (__name__, module)), name)()
        return made
    return make


def _with_providers(name: str, providers: Sequence[str]) -> Callable[[], Backend]:
    return lambda: OnnxRuntimeBackend(providers, name=name)


ENGINES: Mapping[str, Engine] = {
    'onnxruntime': Engine('ONNX Runtime', OnnxRuntimeBackend, 'onnxruntime'),
    'openvino': Engine(
        'OpenVINO', _late('openvino', 'OpenVinoBackend'), 'openvino',
        gains='often the fastest on Intel and AMD processors, int8 and bf16 above all',
        install='pip install crowdhmt-ros[openvino]'),
    'ncnn': Engine(
        'ncnn', _late('ncnn', 'NcnnBackend'), 'ncnn',
        gains='the fastest fp32 engine on networks of 3x3 convolutions (Winograd)',
        install='pip install crowdhmt-ros[ncnn]'),
    'torch': Engine(
        'PyTorch', _late('torch', 'TorchBackend'), 'torch',
        gains='an engine where ONNX Runtime refuses a model, and training',
        install='pip install crowdhmt-ros[train]'),
    'tensorrt': Engine(
        'TensorRT', _late('tensorrt', 'TensorRtBackend'), 'tensorrt',
        gains='the fastest engine on NVIDIA graphics processors',
        install="install NVIDIA's TensorRT and CUDA bindings (on a Jetson they come with "
                'JetPack)', accelerated=True),
    'onnxruntime_cuda': Engine(
        'ONNX Runtime on CUDA', _with_providers('onnxruntime_cuda', (CUDA, CPU)), 'onnxruntime',
        CUDA, 'NVIDIA graphics processors, ready in seconds',
        'replace onnxruntime by onnxruntime-gpu', accelerated=True),
    'onnxruntime_tensorrt': Engine(
        'ONNX Runtime on TensorRT',
        _with_providers('onnxruntime_tensorrt', (TENSORRT, CUDA, CPU)), 'onnxruntime', TENSORRT,
        "NVIDIA graphics processors at TensorRT's speed for models that it takes only in part",
        'replace onnxruntime by onnxruntime-gpu and install TensorRT', accelerated=True),
}

BACKENDS: Dict[str, Callable[[], Backend]] = {
    name: engine.make for name, engine in ENGINES.items()}


def make_backend(name: str, repeat: int = 1) -> Backend:
    """
    Return an engine by its name.

    :param name: a key of `BACKENDS`, or `AUTO` for all of them: ONNX Runtime first, any other when
        a plan names it
    :param repeat: runs each inference so many times, as a slower device would take
    :raises BackendError: unknown name, an engine that is not installed, or a repetition below 1
    """
    if name not in (*BACKENDS, AUTO):
        raise BackendError('there is no backend %r, choose one of %s' % (
            name, ', '.join((AUTO, *sorted(BACKENDS)))))
    inner: Backend = SeveralBackend(FIRST, BACKENDS) if name == AUTO else BACKENDS[name]()
    return inner if repeat == 1 else RepeatingBackend(inner, repeat)


def computes_elsewhere(backend: Backend, name: str) -> bool:
    """
    Tell whether another processor than this one computes what an engine runs.

    :param backend: of `make_backend`
    :param name: of an engine
    :returns: by the providers in force; before it has started, by what it is meant for
    """
    inner = backend.inner if isinstance(backend, RepeatingBackend) else backend
    engine = inner.started(name) if isinstance(inner, SeveralBackend) else inner
    if engine is None:
        return name in ENGINES and ENGINES[name].accelerated
    return not engine.providers()[0].startswith('CPU')


def release(name: str) -> str:
    """Return the release of an installed engine without importing it, '' where none is stated."""
    module = ENGINES[name].module
    for distribution in (module, module + '-gpu'):
        try:
            return importlib.metadata.version(distribution)
        except importlib.metadata.PackageNotFoundError:
            continue
    return ''


def installed() -> Tuple[str, ...]:
    """Return the engines that can be imported here, in the order of `ENGINES`."""
    return tuple(name for name, engine in ENGINES.items() if engine.installed)


def absence(name: str) -> str:
    """
    Tell what installing an engine gains.

    :param name: a key of `ENGINES`
    :returns: one line, '' for one that is installed
    """
    engine = ENGINES[name]
    if engine.installed:
        return ''
    return '%s is not installed; it gains %s: %s' % (engine.title, engine.gains, engine.install)
