# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Bundles that carry fused forms: each answers as the plain one, and old bundles stay valid."""
from __future__ import annotations

import dataclasses

import numpy as np
import pytest

onnx = pytest.importorskip('onnx', reason='writing bundles needs the extra train')
pytest.importorskip('onnxruntime')

from crowdhmt_ros.bundle.materialise import materialise  # noqa: E402
from crowdhmt_ros.bundle.reader import open_bundle  # noqa: E402
from crowdhmt_ros.bundle.reopen import description_of, family_of  # noqa: E402
from crowdhmt_ros.bundle.writer import Description, write_bundle  # noqa: E402
from crowdhmt_ros.bundle.writer_fusion import run_alone  # noqa: E402
from crowdhmt_ros.bundle.writer_graphs import Part  # noqa: E402
from crowdhmt_ros.graph.compare import largest_difference, random_inputs, run_model  # noqa: E402
from crowdhmt_ros.graph.family import Family, FamilyGraph, Recipe  # noqa: E402
from crowdhmt_ros.graph.fusion import fuse, useful_sets  # noqa: E402
from crowdhmt_ros.types import InputSpec, Variant  # noqa: E402

RNG = np.random.default_rng(3)
DESCRIPTION = Description(
    'tiny', 'image_classification', ('a', 'b', 'c'),
    InputSpec('image', 'float32', (1, 3, 8, 8), 'rgb', 'area', 1.0, (0.0,) * 3, (1.0,) * 3),
    {'any': (0.0, 1.0)})
BODY = """c = Conv<pads=[1,1,1,1]>(image, w0) p = Conv(c, w1) q = Conv(c, w2)
    j = Concat<axis=1>(p, q) r = Relu(j) cut = Conv<pads=[1,1,1,1]>(r, w3) s = Add(cut, r)
    m = ReduceMean<axes=[2,3]>(s) f = Flatten(m) t = Gemm(f, w4) logits = Mul(t, two)"""
SHAPES = {'w0': (16, 3, 3, 3), 'w1': (8, 16, 1, 1), 'w2': (8, 16, 1, 1), 'w3': (16, 16, 3, 3),
          'w4': (16, 3)}


def family(*, cut=False):
    tensors = {n: RNG.standard_normal(s).astype(np.float32) for n, s in SHAPES.items()}
    tensors['unused'] = np.zeros(100000, np.float32)
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> g (float[1,3,8,8] image) => '
        '(float[1,3] logits) { %s }' % BODY)
    for name, value in {**tensors, 'two': np.float32(2.0)}.items():
        if name != 'unused':
            model.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(value), name))
    recipes = {n: Recipe(n, tuple((0, e) for e in s)) for n, s in SHAPES.items()}
    return Family(tensors, (FamilyGraph(
        'plain', Variant((), 0), model, recipes, {'c1': ('r',)} if cut else {}),))


def models(bundle, folder):
    segments = materialise(bundle, folder)
    return {name: onnx.load(segment.path) for name, segment in segments.items()}


@pytest.fixture(scope='module')
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp('fused')
    write_bundle(family(cut=True), DESCRIPTION, folder / 'tiny', fused=True)
    bundle = open_bundle(folder / 'tiny')
    return bundle, models(bundle, folder / 'robot')


def test_a_bundle_offers_what_was_fused(written):
    bundle = written[0]
    sets = bundle.fusion_sets('plain')
    assert sets[0] == 'none'
    assert len(sets) > 1
    assert {c.engine.fusion_set for c in bundle.candidates()} == {'none'}
    offered = bundle.candidates((1,), ('fast',), all_fusions=True)
    assert [c.engine.fusion_set for c in offered] == list(sets)
    assert len({c.candidate_id for c in offered}) == len(sets)
    assert all(h.engine.fusion_set == 'none' for h in bundle.heads())


def test_fused_forms_answer_as_the_plain_one_with_fewer_operators(written):
    bundle, graphs = written
    plain = graphs[bundle.segment_for('plain')]
    given = random_inputs(plain)
    wanted = run_model(plain, given)
    for name in bundle.fusion_sets('plain')[1:]:
        fused = graphs[bundle.segment_for('plain', fusion_set=name)]
        assert len(fused.graph.node) <= len(plain.graph.node)
        assert largest_difference(wanted, run_model(fused, given)) <= 1e-5
    assert len(fused.graph.node) < len(plain.graph.node)


def test_no_fused_form_is_carried_that_no_robot_may_choose(written):
    bundle = written[0]
    carried = {s.segment_id for s in bundle.manifest.segments.values() if s.fusion_set != 'none'}
    offered = {s.segment_id for c in bundle.candidates(all_fusions=True)
               for s in c.placement.segments}
    assert carried
    assert carried <= offered


def test_a_variant_that_answers_early_runs_by_its_steps():
    whole, head, tail, step, end = (
        Part(role, role, onnx.ModelProto()) for role in ('whole', 'head', 'tail', 'exit', 'end'))
    assert run_alone((whole, head, tail)) == [whole]
    assert run_alone((whole, step, end)) == [step, end]


def test_weights_are_shared_between_plain_and_fused_forms(written):
    bundle = written[0]
    plain = bundle.segment(bundle.segment_for('plain'))
    last = bundle.segment(bundle.segment_for(
        'plain', fusion_set=bundle.fusion_sets('plain')[-1]))
    assert set(plain.recipes) & set(last.recipes)
    assert 'unused' not in bundle.manifest.tensors


def test_what_would_need_too_many_new_weights_is_left_out(tmp_path, monkeypatch):
    monkeypatch.setattr('crowdhmt_ros.bundle.writer_fusion.GROWTH', 0.0)
    write_bundle(family(), DESCRIPTION, tmp_path / 'tiny', fused=True)
    bundle = open_bundle(tmp_path / 'tiny')
    new = [t for t in bundle.manifest.tensors if t.startswith('fused.')]
    assert not new


def test_what_leaves_no_fewer_operators_is_not_carried(tmp_path, monkeypatch):
    tried = []

    def counted(model, families, **options):
        tried.append(model.graph.name)
        return fuse(model, families, **options)

    monkeypatch.setattr('crowdhmt_ros.bundle.writer_fusion.fuse', counted)
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> g (float[1,3,8,8] image) => '
        '(float[1,3] logits) { m = ReduceMean<axes=[2,3]>(image) c = Conv(m, w) '
        'logits = Flatten(c) }')
    model.graph.initializer.append(onnx.numpy_helper.from_array(
        RNG.standard_normal((3, 3, 1, 1)).astype(np.float32), 'w'))
    plain = Family({}, (FamilyGraph('plain', Variant((), 0), model, {}, {}),))
    assert useful_sets(model)
    write_bundle(plain, DESCRIPTION, tmp_path / 'tiny', fused=True)
    assert open_bundle(tmp_path / 'tiny').fusion_sets('plain') == ('none',)
    assert not tried


def test_a_plain_bundle_is_what_it_was(tmp_path):
    first = write_bundle(family(), DESCRIPTION, tmp_path / 'one')
    bundle = open_bundle(tmp_path / 'one')
    assert bundle.fusion_sets('plain') == ('none',)
    described = dataclasses.replace(description_of(bundle))
    assert write_bundle(family_of(bundle), described, tmp_path / 'two') == first


def test_reopening_a_bundle_with_fused_forms_finds_the_plain_family(written, tmp_path):
    again = family_of(written[0])
    assert [g.variant_id for g in again.graphs] == ['plain']
    write_bundle(again, description_of(written[0]), tmp_path / 'again')
    assert open_bundle(tmp_path / 'again').fusion_sets('plain') == ('none',)
