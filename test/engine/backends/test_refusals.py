# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What an engine cannot do it says in one line, before or instead of doing something else."""
import importlib
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from crowdhmt_ros.engine.backends import ENGINES, absence, installed, make_backend
from crowdhmt_ros.errors import BackendError
from crowdhmt_ros.types import EngineOptions, TensorSpec

from . import small_graphs

OTHERS = ('openvino', 'ncnn', 'torch')
MODULES = {'openvino': 'openvino', 'ncnn': 'ncnn', 'torch': 'torch', 'tensorrt': 'tensorrt'}


@pytest.fixture(params=OTHERS)
def backend(request):
    if not ENGINES[request.param].installed:
        pytest.skip('%s is not installed' % request.param)
    return make_backend(request.param)


@pytest.mark.parametrize('name', MODULES)
def test_an_engine_that_is_not_installed_is_one_line_with_the_mend(monkeypatch, name):
    monkeypatch.setitem(sys.modules, MODULES[name], None)
    with pytest.raises(BackendError, match='install') as caught:
        make_backend(name)
    assert ENGINES[name].title in str(caught.value)
    assert '\n' not in str(caught.value)


def test_an_engine_whose_library_does_not_load_says_why(monkeypatch):
    def fail(name):
        raise ImportError('libtbb.so.12: cannot open shared object file')
    monkeypatch.setattr(importlib, 'import_module', fail)
    from crowdhmt_ros.engine.backends.openvino import OpenVinoBackend
    with pytest.raises(BackendError, match='libtbb'):
        OpenVinoBackend()


def test_engines_are_not_imported_before_they_are_asked_for():
    import subprocess
    done = subprocess.run(
        [sys.executable, '-c', 'import sys; from crowdhmt_ros.engine import backends; '
         'backends.installed(); print([n for n in %r if n in sys.modules])' % list(
             MODULES.values())],
        capture_output=True, text=True, timeout=60, check=True,
        cwd=str(Path(__file__).resolve().parents[3]))
    assert done.stdout.strip() == '[]'


def test_installed_engines_need_no_words_and_absent_ones_say_what_they_gain(monkeypatch):
    assert 'onnxruntime' in installed()
    for name, engine in ENGINES.items():
        assert (absence(name) == '') == engine.installed
    monkeypatch.setattr('importlib.util.find_spec', lambda name: None)
    for name in ENGINES:
        if name != 'onnxruntime':
            assert 'gains' in absence(name)
            assert ENGINES[name].install in absence(name)


@pytest.mark.parametrize('options', [
    {'backend': 'onnxruntime'}, {'precision': 'int8'}, {'precision': 'fp64'},
    {'memory_mode': 'tiny'}, {'threads': 0}, {'threads': 100000}, {'spinning': True}], ids=str)
def test_options_that_an_engine_cannot_follow_are_refused(backend, tmp_path, options):
    segment = small_graphs.write(small_graphs.residual(), tmp_path)
    asked = replace(EngineOptions(backend=backend.name), **options)
    refusal = backend.refusal(segment, asked)
    assert refusal
    assert '\n' not in refusal
    with pytest.raises(BackendError) as caught:
        backend.compile(segment, asked)
    assert str(caught.value) == refusal


def test_what_runs_is_not_refused(backend, tmp_path):
    segment = small_graphs.write(small_graphs.residual(), tmp_path)
    assert backend.refusal(segment, EngineOptions(backend=backend.name)) == ''


@pytest.mark.parametrize('content', [b'', b'garbage', None], ids=['empty', 'garbage', 'cut'])
def test_a_damaged_graph_is_one_clear_line(backend, tmp_path, content):
    segment = small_graphs.write(small_graphs.residual(), tmp_path)
    path = Path(segment.path)
    path.write_bytes(path.read_bytes()[:300] if content is None else content)
    with pytest.raises(BackendError, match='small') as caught:
        backend.compile(segment, EngineOptions(backend=backend.name))
    assert '\n' not in str(caught.value)


def test_a_missing_graph_is_one_clear_line(backend, tmp_path):
    segment = small_graphs.write(small_graphs.residual(), tmp_path)
    Path(segment.path).unlink()
    with pytest.raises(BackendError, match='materialise'):
        backend.compile(segment, EngineOptions(backend=backend.name))


def test_missing_weights_are_one_clear_line(backend, tmp_path):
    segment = small_graphs.write(small_graphs.residual(), tmp_path, external=True)
    (tmp_path / 'initialisers.bin').unlink()
    with pytest.raises(BackendError, match='small') as caught:
        backend.compile(segment, EngineOptions(backend=backend.name))
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize('change', [
    {'inputs': (TensorSpec('x', 'float32', (1, 8, 32, 32)),)}, {'outputs': ()}], ids=str)
def test_a_graph_that_is_not_what_the_bundle_declares_is_refused(backend, tmp_path, change):
    segment = replace(small_graphs.write(small_graphs.residual(), tmp_path), **change)
    with pytest.raises(BackendError, match='the bundle declares'):
        backend.compile(segment, EngineOptions(backend=backend.name))


def test_an_operator_of_another_domain_is_refused(backend, tmp_path):
    segment = small_graphs.write(small_graphs.of_another_domain(), tmp_path)
    with pytest.raises(BackendError, match='small') as caught:
        backend.compile(segment, EngineOptions(backend=backend.name))
    assert '\n' not in str(caught.value)


def test_buffers_that_do_not_fit_are_refused(backend, tmp_path):
    import numpy as np
    segment = small_graphs.write(small_graphs.residual(), tmp_path)
    executable = backend.compile(segment, EngineOptions(backend=backend.name))
    good, out = np.zeros((1, 8, 10, 9), 'f4'), np.zeros((1, 8, 10, 9), 'f4')
    for inputs, outputs in (((), (out,)), ((good[:, :4],), (out,)), ((good,), (out[:, ::-1],)),
                            ((good.astype('f8'),), (out,))):
        with pytest.raises(BackendError):
            executable.run(inputs, outputs)
    executable.run((good,), (out,))
    assert np.isfinite(out).all()


@pytest.mark.parametrize('graph', ['transposed', 'quantised'])
def test_ncnn_names_the_operator_that_it_is_not_given(tmp_path, graph):
    pytest.importorskip('ncnn')
    segment = small_graphs.write(getattr(small_graphs, graph)(), tmp_path)
    refusal = make_backend('ncnn').refusal(segment, EngineOptions(backend='ncnn'))
    assert 'no rule for' in refusal
    assert 'choose another backend' in refusal
