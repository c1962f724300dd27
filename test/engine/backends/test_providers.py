# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Providers of ONNX Runtime on an accelerator: their options, and the way back."""
import logging
from pathlib import Path

import onnxruntime
import pytest

from crowdhmt_ros.engine.backends import computes_elsewhere, make_backend
from crowdhmt_ros.engine.backends.onnxruntime import (
    CPU,
    CUDA,
    TENSORRT,
    OnnxRuntimeBackend,
    provider_options,
)
from crowdhmt_ros.errors import BackendError
from crowdhmt_ros.types import EngineOptions

from . import small_graphs


@pytest.fixture
def segment(tmp_path):
    return small_graphs.write(small_graphs.residual(), tmp_path)


@pytest.fixture
def accelerated(monkeypatch):
    """Pretend a build with all providers; sessions start on the processor all the same."""
    real, asked = onnxruntime.InferenceSession, []

    def session(path, options, providers):
        asked.append(providers)
        return real(path, options, providers=[CPU])
    monkeypatch.setattr(onnxruntime, 'get_available_providers', lambda: [TENSORRT, CUDA, CPU])
    monkeypatch.setattr(onnxruntime, 'InferenceSession', session)
    return asked


@pytest.mark.parametrize(('precision', 'flag'), [
    ('fp32', None), ('fp16', 'trt_fp16_enable'), ('bf16', 'trt_bf16_enable'),
    ('int8', 'trt_int8_enable')])
def test_tensorrt_keeps_its_engines_beside_the_segment_by_precision(segment, precision, flag):
    name, options = provider_options(TENSORRT, segment, precision)
    folder = Path(options['trt_engine_cache_path'])
    assert name == TENSORRT
    assert options['trt_engine_cache_enable'] == 'True'
    assert folder == Path(segment.path).parent / 'engines' / ('onnxruntime-' + precision)
    assert folder.is_dir()
    enabled = {key for key in options if key in (
        'trt_fp16_enable', 'trt_bf16_enable', 'trt_int8_enable')}
    assert enabled == ({flag} if flag else set())


def test_where_engines_cannot_be_kept_it_goes_on_without(segment, caplog):
    (Path(segment.path).parent / 'engines').write_text('in the way')
    assert provider_options(TENSORRT, segment, 'fp32') == (TENSORRT, {})
    assert 'built again at each start' in caplog.text


def test_cuda_computes_fp32_in_fp32(segment):
    assert provider_options(CUDA, segment, 'fp32') == (CUDA, {'use_tf32': '0'})


def test_a_provider_that_does_not_start_is_a_loud_warning(segment, accelerated, caplog):
    backend = make_backend('onnxruntime_tensorrt')
    assert backend.warnings == ()
    with caplog.at_level(logging.INFO):
        backend.compile(segment, EngineOptions(backend='onnxruntime_tensorrt'))
    assert [p if isinstance(p, str) else p[0] for p in accelerated[0]] == [TENSORRT, CUDA, CPU]
    assert 'building the TensorRT engine of small' in caplog.text
    assert [r.levelname for r in caplog.records if 'could not start' in r.message] == [
        'WARNING', 'WARNING']
    assert len(backend.warnings) == 2
    assert backend.providers() == (CPU,)


def test_a_build_without_the_provider_answers_on_the_processor_and_says_so(segment, caplog):
    if CUDA in onnxruntime.get_available_providers():
        pytest.skip('this build has CUDA')
    backend = make_backend('onnxruntime_cuda')
    assert CUDA in caplog.text
    assert backend.providers() == (CPU,)
    backend.compile(segment, EngineOptions(backend='onnxruntime_cuda'))


@pytest.mark.parametrize('repeat', [1, 2])
def test_who_computes_is_told_by_the_provider_in_force(segment, accelerated, repeat):
    backend = make_backend('auto', repeat)
    assert not computes_elsewhere(backend, 'onnxruntime')
    assert not computes_elsewhere(backend, 'ncnn')
    assert computes_elsewhere(backend, 'tensorrt'), 'it has not started'
    options = EngineOptions(backend='onnxruntime_cuda')
    assert computes_elsewhere(backend, options.backend), 'it has not started'
    assert backend.refusal(segment, options) == ''
    assert computes_elsewhere(backend, options.backend), 'it has, and says what it asks for'
    backend.compile(segment, options)
    assert not computes_elsewhere(backend, options.backend), 'the session is on the processor'
    assert computes_elsewhere(make_backend('onnxruntime_cuda', repeat), 'onnxruntime_cuda')


def test_fp16_is_for_tensorrt_only(segment, accelerated):
    assert 'fp16' in OnnxRuntimeBackend((TENSORRT, CPU)).precisions()
    plain = OnnxRuntimeBackend()
    assert plain.precisions() == ('fp32', 'int8')
    with pytest.raises(BackendError, match='fp16'):
        plain.compile(segment, EngineOptions(precision='fp16'))
