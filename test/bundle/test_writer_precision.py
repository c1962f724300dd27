# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Bundles in whole numbers: stored once, as accurate as they say, and old bundles stay valid."""
from __future__ import annotations

import dataclasses

import numpy as np
import pytest

onnx = pytest.importorskip('onnx', reason='writing bundles needs the extra train')
pytest.importorskip('onnxruntime')

from crowdhmt_ros.bundle.entries import Accuracy, PrecisionFigure  # noqa: E402
from crowdhmt_ros.bundle.materialise import materialise  # noqa: E402
from crowdhmt_ros.bundle.reader import open_bundle  # noqa: E402
from crowdhmt_ros.bundle.reopen import description_of, family_of  # noqa: E402
from crowdhmt_ros.bundle.writer import write_bundle  # noqa: E402
from crowdhmt_ros.engine.backend import make_buffers  # noqa: E402
from crowdhmt_ros.engine.backends.onnxruntime import OnnxRuntimeBackend  # noqa: E402
from crowdhmt_ros.errors import BundleError, ExportError  # noqa: E402
from crowdhmt_ros.graph.lower import Limits, deviation, lower, outputs  # noqa: E402
from crowdhmt_ros.types import EngineOptions  # noqa: E402
from test.bundle.test_writer_fusion import DESCRIPTION, family  # noqa: E402

RNG = np.random.default_rng(5)


def images(count):
    return [{'image': RNG.standard_normal((1, 3, 8, 8)).astype(np.float32)} for _ in range(count)]


@pytest.fixture(scope='module')
def lowered():
    whole = family(cut=True)
    found = lower(whole.graphs[0].model, images(32), images(64), Limits(0.03, 0.9))
    assert found.holds
    return whole, found


def described(found, agreement=0.95, accuracy=None):
    figure = PrecisionFigure('int8', '', found.deviation.output_error,
                             found.deviation.largest_error, agreement, found.deviation.count,
                             accuracy or {}, len(found.kept))
    return dataclasses.replace(DESCRIPTION, precisions={'plain': (figure,)},
                               accuracy={'plain': {'photos': (0.8, 100)}})


@pytest.fixture(scope='module')
def written(lowered, tmp_path_factory):
    folder = tmp_path_factory.mktemp('int8')
    write_bundle(lowered[0], described(lowered[1]), folder / 'tiny', lowered={
        'plain': lowered[1]})
    bundle = open_bundle(folder / 'tiny')
    return bundle, materialise(bundle, folder / 'robot')


def ran(segment, given, precision='fp32'):
    executable = OnnxRuntimeBackend().compile(segment, EngineOptions(precision=precision))
    found = make_buffers(executable.outputs)
    executable.run([given[s.name] for s in executable.inputs], found)
    return {s.name: value for s, value in zip(executable.outputs, found)}


def test_a_robot_asks_for_int8_and_gets_its_graph(written):
    bundle, segments = written
    assert bundle.precisions('plain') == ('fp32', 'int8')
    assert {c.engine.precision for c in bundle.candidates()} == {'fp32'}
    offered = bundle.candidates((1,), ('fast',), all_precisions=True)
    assert [c.engine.precision for c in offered] == ['fp32', 'int8']
    (placed,) = offered[1].placement.segments
    assert placed.segment_id == bundle.segment_for('plain', precision='int8')
    assert OnnxRuntimeBackend().refusal(segments[placed.segment_id], offered[1].engine) == ''
    assert all(h.engine.precision == 'fp32' for h in bundle.heads())
    assert bundle.segment_for('plain', precision='bf16') == bundle.segment_for('plain')


def test_the_stated_error_is_what_a_robot_finds(written):
    bundle, segments = written
    figure = bundle.precision_figure('plain', 'int8')
    inputs = images(64)
    wanted, found = [], []
    for given in inputs:
        wanted.append([ran(segments[bundle.segment_for('plain')], given)['logits']])
        found.append([ran(segments[bundle.segment_for('plain', precision='int8')], given,
                          'int8')['logits']])
    here = deviation(wanted, found)
    assert 0.0 < here.output_error <= 1.5 * figure.output_error
    assert figure.output_error <= figure.largest_error


def test_no_graph_in_int8_is_carried_that_no_robot_may_choose(written):
    bundle = written[0]
    carried = {s.segment_id for s in bundle.manifest.segments.values() if s.precision == 'int8'}
    offered = {s.segment_id for c in bundle.candidates(all_precisions=True)
               for s in c.placement.segments}
    assert carried
    assert carried <= offered


def test_weights_take_a_byte_each_and_stand_in_the_store_once(written):
    bundle = written[0]
    stored = [t for t in bundle.manifest.tensors.values() if t.name.startswith('int8.')]
    weights = [t for t in stored if t.dtype == 'int8' and len(t.shape) > 1]
    assert sorted(t.shape for t in weights) == sorted(
        [(16, 3, 3, 3), (8, 16, 1, 1), (8, 16, 1, 1), (16, 16, 3, 3), (16, 3)])
    assert len({(t.offset, t.size_bytes) for t in stored}) == len(stored)
    plain = bundle.segment(bundle.segment_for('plain'))
    assert bundle.layer_costs(bundle.segment_for('plain', precision='int8')) == plain.layers


def test_accuracy_in_int8_is_as_measured_or_bounded_by_the_agreement(lowered, written, tmp_path):
    bundle = written[0]
    assert bundle.accuracy('plain', 'int8') == {'photos': pytest.approx(0.75)}
    assert bundle.accuracy('plain') == {'photos': pytest.approx(0.8)}
    assert bundle.accuracy('plain', 'bf16', 'ncnn') == {}
    write_bundle(lowered[0], described(lowered[1], accuracy={'photos': Accuracy(0.79, 50)}),
                 tmp_path / 'tiny', lowered={'plain': lowered[1]})
    assert open_bundle(tmp_path / 'tiny').accuracy('plain', 'int8') == {
        'photos': pytest.approx(0.79)}


def test_graphs_in_int8_without_figures_are_refused(lowered, tmp_path):
    with pytest.raises(ExportError, match='does not say what int8 costs'):
        write_bundle(lowered[0], DESCRIPTION, tmp_path / 'tiny', lowered={'plain': lowered[1]})


def test_a_plain_bundle_has_no_int8(tmp_path):
    write_bundle(family(), DESCRIPTION, tmp_path / 'tiny')
    bundle = open_bundle(tmp_path / 'tiny')
    assert bundle.precisions('plain') == ('fp32',)
    with pytest.raises(BundleError, match='in int8'):
        bundle.segment_for('plain', precision='int8')
    assert len(bundle.candidates((1,), ('fast',), all_precisions=True)) == 1


def test_reopening_finds_the_plain_family(written, tmp_path):
    again = family_of(written[0])
    write_bundle(again, description_of(written[0]), tmp_path / 'again')
    assert open_bundle(tmp_path / 'again').precisions('plain') == ('fp32',)


def test_what_hurts_stays_in_fp32_until_the_limits_hold(lowered):
    model = lowered[0].graphs[0].model
    calibration, check = images(32), images(64)
    free = lower(model, calibration, check, Limits(1.0, 0.0))
    tight = lower(model, calibration, check, Limits(0.7 * free.deviation.output_error, 0.0,
                                               least_work_ratio=0.1))
    assert not free.kept
    assert tight.kept
    assert tight.holds
    assert tight.deviation.output_error < free.deviation.output_error
    never = lower(model, calibration, check, Limits(0.0, 1.0))
    assert not never.holds
    assert outputs(model, check[:1])[0][0].shape == (1, 3)
