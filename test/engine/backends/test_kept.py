# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
import os
from dataclasses import replace

import numpy as np
import onnxruntime
import pytest

from crowdhmt_ros.engine.backend import make_buffers
from crowdhmt_ros.engine.backends import kept
from crowdhmt_ros.engine.backends.mapped import LEAST_RELEASE, is_supported
from crowdhmt_ros.engine.backends.onnxruntime import OnnxRuntimeBackend
from crowdhmt_ros.types import EngineOptions

pytestmark = pytest.mark.skipif(not is_supported(onnxruntime.__version__),
                                reason='needs ONNX Runtime %d.%d' % LEAST_RELEASE)
VERSION = str(onnxruntime.__version__)


@pytest.fixture(scope='module')
def wide(bundle, tmp_path_factory):
    from crowdhmt_ros.bundle.materialise import materialise
    return materialise(bundle, tmp_path_factory.mktemp('kept'))['wide/whole']


@pytest.fixture
def loaded(monkeypatch):
    """Note which files sessions are made from."""
    found = []
    real = onnxruntime.InferenceSession

    def session(source, *rest, **more):
        found.append(str(source))
        return real(source, *rest, **more)

    monkeypatch.setattr(onnxruntime, 'InferenceSession', session)
    return found


def answer(executable, image):
    outputs = make_buffers(executable.outputs)
    executable.run((image,), outputs)
    return outputs[0].copy()


def test_a_kept_graph_answers_bit_by_bit_as_the_one_it_was_made_from(wide, image, loaded):
    backend = OnnxRuntimeBackend()
    options = [EngineOptions(threads=threads) for threads in (1, 2)]
    before = [answer(backend.compile(wide, o), image) for o in options]
    assert kept.keep_rewritten([wide], EngineOptions(), VERSION) == ()
    after = [answer(backend.compile(wide, o), image) for o in options]
    assert [os.path.dirname(p) == os.path.dirname(wide.path) for p in loaded] == [
        True, True, False, False]
    assert [a.tobytes() for a in after] == [b.tobytes() for b in before]
    assert np.isfinite(after[0]).all()


def test_other_memory_modes_and_other_providers_do_not_take_it(wide, loaded):
    kept.keep_rewritten([wide], EngineOptions(), VERSION)
    OnnxRuntimeBackend().compile(wide, EngineOptions(memory_mode='lean'))
    assert loaded == [wide.path]
    backend = OnnxRuntimeBackend()
    backend._requested = ('OtherExecutionProvider',)
    assert backend._kept(wide, EngineOptions(), onnxruntime.SessionOptions()) is None


def test_a_damaged_kept_graph_costs_time_and_nothing_else(wide, image, loaded, caplog):
    backend = OnnxRuntimeBackend()
    expected = answer(backend.compile(wide, EngineOptions()), image)
    path = kept.optimised_graph(wide, EngineOptions(), VERSION).graph_path
    status = os.stat(path)
    with open(path, 'r+b') as stream:  # of the same size and time, so that it seems fresh
        stream.write(b'\xff' * 64)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    del loaded[:]
    found = answer(backend.compile(wide, EngineOptions()), image)
    assert loaded == [path, wide.path]
    assert 'is rewritten again' in caplog.text
    assert found.tobytes() == expected.tobytes()


def test_what_cannot_be_kept_is_told_and_the_others_are_kept(wide, segments, tmp_path, caplog):
    gone = replace(wide, segment_id='gone/whole', path=str(tmp_path / 'gone.onnx'))
    told = []
    failed = kept.keep_rewritten([gone, segments['narrow/whole']], EngineOptions(), VERSION,
                                 progress=lambda part, what: told.append((part, what)))
    assert failed == ('gone/whole',)
    assert 'gone' in caplog.text
    assert kept.kept_graph(segments['narrow/whole'], EngineOptions(), VERSION) is not None
    assert told == [(0.0, 'rewriting gone/whole'), (0.5, 'rewriting narrow/whole')]


def test_an_engine_that_cannot_map_rewritten_graphs_keeps_none(wide):
    assert kept.keep_rewritten([wide], EngineOptions(), '1.18.1') == ('wide/whole',)
    assert kept.kept_session(wide, EngineOptions(), onnxruntime.SessionOptions(),
                             engine_version='1.18.1', errors=(RuntimeError,)) is None
