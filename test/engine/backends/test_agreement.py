# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Every engine computes what ONNX Runtime computes."""
import gc
import threading

import numpy as np
import pytest

from crowdhmt_ros.bundle.materialise import materialise
from crowdhmt_ros.bundle.reader import open_bundle
from crowdhmt_ros.engine.backend import make_buffers
from crowdhmt_ros.engine.backends import ENGINES, make_backend
from crowdhmt_ros.types import EngineOptions

from . import small_graphs

TOLERANCE = 1e-4
OTHERS = ('openvino', 'ncnn', 'torch')
SEGMENTS = ('w038d1e0/whole', 'w050d1/whole', 'w050d2/after1-head', 'w050d2/after1-tail',
            'w050d2/after2-tail')


@pytest.fixture(scope='session')
def engines():
    return {}


@pytest.fixture
def engine(engines):
    """Return what makes an engine once, or skips where it is not installed."""
    def get(name):
        if not ENGINES[name].installed:
            pytest.skip('%s is not installed' % name)
        if name not in engines:
            engines[name] = make_backend(name)
        return engines[name]
    return get


@pytest.fixture(scope='session')
def campus(tmp_path_factory):
    found = materialise(open_bundle('campus7'), tmp_path_factory.mktemp('campus'))
    return {name.replace('-after', '/after'): segment for name, segment in found.items()}


def inputs_of(segment, seed=0):
    random = np.random.default_rng(seed)
    return [random.standard_normal(s.shape).astype(s.dtype) for s in segment.inputs]


def computed(backend, segment, inputs, **options):
    executable = backend.compile(segment, EngineOptions(backend=backend.name, **options))
    outputs = make_buffers(executable.outputs)
    executable.run(inputs, outputs)
    return outputs


def assert_alike(found, wanted, tolerance=TOLERANCE):
    assert len(found) == len(wanted)
    for one, other in zip(found, wanted):
        np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize('graph', small_graphs.EVERYWHERE, ids=lambda g: g.__name__)
@pytest.mark.parametrize('name', OTHERS)
def test_small_graphs(engine, tmp_path, name, graph):
    segment = small_graphs.write(graph(), tmp_path, external=True)
    inputs = inputs_of(segment)
    wanted = computed(engine('onnxruntime'), segment, inputs)
    before = [buffer.copy() for buffer in inputs]
    for buffer in inputs:
        buffer.flags.writeable = False
    assert_alike(computed(engine(name), segment, inputs), wanted)
    for buffer, kept in zip(inputs, before):
        np.testing.assert_array_equal(buffer, kept)


@pytest.mark.parametrize('segment_id', SEGMENTS)
@pytest.mark.parametrize('name', OTHERS)
def test_segments_of_the_shipped_bundle(engine, campus, name, segment_id):
    segment = campus[segment_id] if segment_id in campus else campus[segment_id.replace('/', '-')]
    inputs = inputs_of(segment)
    wanted = computed(engine('onnxruntime'), segment, inputs)
    for threads in (1, 2):
        assert_alike(computed(engine(name), segment, inputs, threads=threads), wanted)


@pytest.mark.parametrize('name', ['ncnn', 'torch'])
def test_the_lean_mode_computes_the_same(engine, tmp_path, name):
    segment = small_graphs.write(small_graphs.residual(), tmp_path, external=True)
    inputs = inputs_of(segment)
    wanted = computed(engine('onnxruntime'), segment, inputs)
    assert_alike(computed(engine(name), segment, inputs, memory_mode='lean'), wanted)


@pytest.mark.parametrize('name', ['ncnn', 'torch'])
def test_bf16_is_near_and_not_the_same(engine, tmp_path, name):
    segment = small_graphs.write(small_graphs.residual(), tmp_path)
    inputs = inputs_of(segment)
    wanted = computed(engine('onnxruntime'), segment, inputs)
    found = computed(engine(name), segment, inputs, precision='bf16')
    error = np.abs(found[0] - wanted[0]).max() / np.abs(wanted[0]).max()
    assert 1e-5 < error < 3e-2


@pytest.mark.parametrize('name', ['openvino', 'torch'])
def test_a_quantised_graph_is_computed_as_it_says(engine, tmp_path, name):
    segment = small_graphs.write(small_graphs.quantised(), tmp_path)
    inputs = inputs_of(segment)
    wanted = computed(engine('onnxruntime'), segment, inputs)
    found = computed(engine(name), segment, inputs)
    assert np.abs(found[0] - wanted[0]).max() <= 0.0501  # one step where a value lies between two


@pytest.mark.parametrize('name', ['onnxruntime', 'openvino'])
def test_int8_runs_a_quantised_graph(engine, tmp_path, name):
    segment = small_graphs.write(small_graphs.quantised(), tmp_path)
    inputs = inputs_of(segment)
    found = computed(engine(name), segment, inputs, precision='int8')
    wanted = computed(engine('onnxruntime'), segment, inputs)
    assert np.abs(found[0] - wanted[0]).max() <= 0.0501


@pytest.mark.parametrize('name', OTHERS)
def test_outputs_are_written_into_the_buffers_of_each_call(engine, tmp_path, name):
    segment = small_graphs.write(small_graphs.residual(), tmp_path)
    executable = engine(name).compile(segment, EngineOptions(backend=name))
    calls = [(inputs_of(segment, seed), make_buffers(executable.outputs)) for seed in (1, 2)]
    for inputs, outputs in calls:
        executable.run(inputs, outputs)
    first = calls[0][1][0].copy()
    calls[0][1][0][:] = np.nan
    executable.run(*calls[0])
    np.testing.assert_allclose(calls[0][1][0], first, rtol=1e-6, atol=1e-6)
    for inputs, outputs in calls:
        wanted = computed(engine('onnxruntime'), segment, inputs)
        assert_alike(outputs, wanted)


@pytest.mark.parametrize('name', OTHERS)
def test_the_content_of_the_same_buffers_may_change(engine, tmp_path, name):
    segment = small_graphs.write(small_graphs.several_outputs(), tmp_path)
    executable = engine(name).compile(segment, EngineOptions(backend=name))
    inputs, outputs = inputs_of(segment), make_buffers(executable.outputs)
    executable.run(inputs, outputs)
    for buffer in inputs:
        buffer *= -1.5
    gc.collect()
    executable.run(inputs, outputs)
    assert_alike(outputs, computed(engine('onnxruntime'), segment, inputs))


@pytest.mark.parametrize('name', OTHERS)
def test_two_threads_take_turns(engine, tmp_path, name):
    segment = small_graphs.write(small_graphs.residual(), tmp_path)
    executable = engine(name).compile(segment, EngineOptions(backend=name))
    calls = [(inputs_of(segment, seed), make_buffers(executable.outputs)) for seed in (1, 2)]
    wanted = [computed(engine('onnxruntime'), segment, inputs) for inputs, _ in calls]
    wrong = []

    def work(index):
        inputs, outputs = calls[index]
        for _ in range(30):
            outputs[0][:] = np.nan
            executable.run(inputs, outputs)
            if not np.allclose(outputs[0], wanted[index][0], rtol=TOLERANCE, atol=TOLERANCE):
                wrong.append(index)
    threads = [threading.Thread(target=work, args=(index,)) for index in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@pytest.mark.parametrize('name', ['onnxruntime', *OTHERS])
def test_engines_say_what_they_are_and_take(engine, tmp_path, name):
    segment = small_graphs.write(small_graphs.residual(), tmp_path)
    backend = engine(name)
    executable = backend.compile(segment, EngineOptions(backend=name))
    assert backend.name == name
    assert backend.version[0].isdigit()
    assert backend.providers()
    assert backend.precisions()[0] == 'fp32'
    assert executable.memory_bytes >= segment.weight_bytes > 0
    assert (executable.inputs, executable.outputs) == (segment.inputs, segment.outputs)
