# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""One graph in int8 on every engine that is there: the same answers, or a refusal beforehand."""
from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip('onnx', reason='quantising needs the extra train')

from crowdhmt_ros.bundle.entries import PrecisionFigure  # noqa: E402
from crowdhmt_ros.bundle.materialise import materialise  # noqa: E402
from crowdhmt_ros.bundle.reader import open_bundle  # noqa: E402
from crowdhmt_ros.bundle.writer import write_bundle  # noqa: E402
from crowdhmt_ros.engine.backend import make_buffers  # noqa: E402
from crowdhmt_ros.engine.backends import ENGINES  # noqa: E402
from crowdhmt_ros.graph.lower import Limits, lower  # noqa: E402
from crowdhmt_ros.types import EngineOptions  # noqa: E402
from test.bundle.test_writer_fusion import DESCRIPTION, family  # noqa: E402

RNG = np.random.default_rng(8)
MODES = ('fast', 'lean', 'mapped', 'planned')


def images(count):
    return [{'image': RNG.standard_normal((1, 3, 8, 8)).astype(np.float32)} for _ in range(count)]


@pytest.fixture(scope='module')
def segment(tmp_path_factory):
    from dataclasses import replace
    folder = tmp_path_factory.mktemp('int8')
    whole = family()
    found = lower(whole.graphs[0].model, images(24), images(24), Limits(0.05, 0.0))
    d = found.deviation
    figure = PrecisionFigure('int8', '', d.output_error, d.largest_error, d.agreement, d.count)
    write_bundle(whole, replace(DESCRIPTION, precisions={'plain': (figure,)}), folder / 'b',
                 lowered={'plain': found})
    bundle = open_bundle(folder / 'b')
    name = bundle.segment_for('plain', precision='int8')
    return materialise(bundle, folder / 'robot', [name])[name]


def answer(engine, segment, given, mode='fast'):
    options = EngineOptions(engine, precision='int8', memory_mode=mode)
    backend = ENGINES[engine].make()
    if backend.refusal(segment, options):
        pytest.skip('%s refuses: %s' % (engine, backend.refusal(segment, options)))
    executable = backend.compile(segment, options)
    found = make_buffers(executable.outputs)
    executable.run([given['image']], found)
    return found[0].copy()


@pytest.mark.parametrize('engine', ['openvino', 'torch'])
def test_engines_agree_on_a_graph_in_int8(segment, engine):
    if not ENGINES[engine].installed:
        pytest.skip('%s is not installed' % engine)
    for given in images(4):
        wanted = answer('onnxruntime', segment, given)
        if engine == 'torch':  # computes as the graph says, in real numbers
            found = ENGINES[engine].make().compile(segment, EngineOptions(engine))
            buffers = make_buffers(found.outputs)
            found.run([given['image']], buffers)
            got = buffers[0]
        else:
            got = answer(engine, segment, given)
        np.testing.assert_allclose(got / np.abs(wanted).max(), wanted / np.abs(wanted).max(),
                                   atol=0.02)


@pytest.mark.parametrize('mode', MODES)
def test_memory_modes_compute_the_same_in_int8(segment, mode):
    (given,) = images(1)
    np.testing.assert_allclose(answer('onnxruntime', segment, given, mode),
                               answer('onnxruntime', segment, given), rtol=0.02, atol=0.02)


@pytest.mark.skipif(not ENGINES['ncnn'].installed, reason='ncnn is not installed')
def test_an_engine_without_int8_says_so_before_the_work(segment):
    refusal = ENGINES['ncnn'].make().refusal(segment, EngineOptions('ncnn', precision='int8'))
    assert 'int8' in refusal
