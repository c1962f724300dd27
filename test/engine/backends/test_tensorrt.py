# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""TensorRT against stand-ins: what is asked of it, what is kept, what is said."""
import gc
import logging
import os
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from crowdhmt_ros.engine.backend import make_buffers
from crowdhmt_ros.engine.backends import make_backend
from crowdhmt_ros.engine.backends.onnxruntime import OnnxRuntimeBackend
from crowdhmt_ros.errors import BackendError
from crowdhmt_ros.types import EngineOptions, TensorSpec

from . import small_graphs
from .fake_tensorrt import FakeCuda, FakeTensorRT, Flag

OPTIONS = EngineOptions(backend='tensorrt')


@pytest.fixture
def cuda(monkeypatch):
    found = FakeCuda()
    monkeypatch.setitem(sys.modules, 'cuda.bindings.runtime', found)
    return found


@pytest.fixture
def tensorrt(monkeypatch, cuda):
    found = FakeTensorRT(cuda)
    monkeypatch.setitem(sys.modules, 'tensorrt', found)
    return found


@pytest.fixture
def segment(tmp_path):
    return small_graphs.write(small_graphs.several_outputs(), tmp_path, external=True)


def engines_of(segment):
    return sorted(Path(segment.path).parent.glob('engines/*.engine'))


def test_it_computes_into_the_callers_buffers_and_frees_the_device(tensorrt, cuda, segment):
    executable = make_backend('tensorrt').compile(segment, OPTIONS)
    random = np.random.default_rng(0)
    inputs = [random.standard_normal(s.shape).astype('f4') for s in executable.inputs]
    outputs = make_buffers(executable.outputs)
    executable.run(inputs, outputs)
    plain = OnnxRuntimeBackend().compile(segment, EngineOptions())
    wanted = make_buffers(plain.outputs)
    plain.run(inputs, wanted)
    for found, other in zip(outputs, wanted):
        np.testing.assert_allclose(found, other, rtol=1e-4, atol=1e-4)
    assert executable.memory_bytes > segment.weight_bytes + 4096
    assert len(cuda.memory) == len(inputs) + len(outputs)
    del executable
    gc.collect()
    assert (cuda.memory, cuda.streams) == ({}, set())


def test_an_engine_is_built_once_and_kept(tensorrt, segment, caplog):
    with caplog.at_level(logging.INFO):
        make_backend('tensorrt').compile(segment, OPTIONS)
    assert 'building the TensorRT engine of small in fp32: this may take minutes' in caplog.text
    assert 'is built' in caplog.text
    make_backend('tensorrt').compile(segment, OPTIONS)
    assert len(tensorrt.built) == 1
    assert len(engines_of(segment)) == 1


def test_fp32_is_no_tf32_and_other_precisions_are_asked_for(tensorrt, segment, tmp_path):
    for precision in ('fp32', 'fp16', 'bf16'):
        make_backend('tensorrt').compile(segment, replace(OPTIONS, precision=precision))
    (tmp_path / 'q').mkdir()
    quantised = small_graphs.write(small_graphs.quantised(), tmp_path / 'q')
    make_backend('tensorrt').compile(quantised, replace(OPTIONS, precision='int8'))
    assert [flags for _, flags in tensorrt.built] == [
        frozenset(), {Flag.FP16}, {Flag.BF16}, {Flag.INT8}]


def test_another_release_device_precision_or_model_is_another_engine(
        tensorrt, cuda, segment, monkeypatch):
    paths = [make_backend('tensorrt').cache_path(segment, 'fp32'),
             make_backend('tensorrt').cache_path(segment, 'fp16')]
    paths.append(make_backend('tensorrt').cache_path(replace(segment, sha256='0' * 64), 'fp32'))
    cuda.capability = (9, 0)
    paths.append(make_backend('tensorrt').cache_path(segment, 'fp32'))
    monkeypatch.setattr(FakeTensorRT, '__version__', '10.4.0')
    paths.append(make_backend('tensorrt').cache_path(segment, 'fp32'))
    os.utime(segment.path, (1, 1))
    paths.append(make_backend('tensorrt').cache_path(segment, 'fp32'))
    assert len(set(paths)) == len(paths)


def test_a_kept_engine_that_does_not_load_is_built_again(tensorrt, segment):
    make_backend('tensorrt').compile(segment, OPTIONS)
    engine, = engines_of(segment)
    engine.write_bytes(b'half an engi')
    make_backend('tensorrt').compile(segment, OPTIONS)
    assert len(tensorrt.built) == 2
    make_backend('tensorrt').compile(segment, OPTIONS)
    assert len(tensorrt.built) == 2


def test_where_nothing_can_be_kept_it_runs_and_says_so(tensorrt, segment, caplog):
    (Path(segment.path).parent / 'engines').write_text('in the way')
    make_backend('tensorrt').compile(segment, OPTIONS)
    assert 'built again at each start' in caplog.text


def test_what_the_parser_says_is_passed_on(tensorrt, segment):
    tensorrt.refuses = 'No importer registered for op: Foo'
    with pytest.raises(BackendError, match='small cannot be compiled by TensorRT: No importer'):
        make_backend('tensorrt').compile(segment, OPTIONS)


def test_a_graph_that_is_not_what_the_bundle_declares_is_refused(tensorrt, segment):
    other = replace(segment, outputs=(TensorSpec('z', 'float32', (1, 2)),))
    with pytest.raises(BackendError, match='the bundle declares'):
        make_backend('tensorrt').compile(other, OPTIONS)


def test_an_engine_that_does_not_run_is_a_backend_error(tensorrt, segment):
    executable = make_backend('tensorrt').compile(segment, OPTIONS)
    executable._context.fails = True
    with pytest.raises(BackendError, match='did not run'):
        executable.run(make_buffers(executable.inputs), make_buffers(executable.outputs))


def test_the_older_name_of_the_cuda_bindings_will_do(tensorrt, cuda, segment, monkeypatch):
    monkeypatch.setitem(sys.modules, 'cuda.bindings.runtime', None)
    monkeypatch.setitem(sys.modules, 'cuda.cudart', cuda)
    assert make_backend('tensorrt').providers() == ('CUDA 8.7',)


def test_without_cuda_bindings_it_says_so(tensorrt, monkeypatch):
    for name in ('cuda.bindings.runtime', 'cuda.cudart'):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(BackendError, match='CUDA bindings'):
        make_backend('tensorrt')


def test_without_a_processor_it_says_so(tensorrt, cuda):
    cuda.error = 100
    with pytest.raises(BackendError, match='CUDA error 100'):
        make_backend('tensorrt')


def test_a_release_without_bf16_does_not_offer_it(tensorrt, monkeypatch):
    class Older:
        FP16, INT8, TF32 = range(3)
    monkeypatch.setattr(tensorrt, 'BuilderFlag', Older)
    assert make_backend('tensorrt').precisions() == ('fp32', 'fp16', 'int8')
