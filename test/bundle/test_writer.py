# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

onnx = pytest.importorskip('onnx', reason='writing bundles needs the extra train')
torch = pytest.importorskip('torch', reason='training needs the extra train')
ort = pytest.importorskip('onnxruntime')

from crowdhmt_ros.bundle.entries import CrossingFigure  # noqa: E402
from crowdhmt_ros.bundle.materialise import materialise  # noqa: E402
from crowdhmt_ros.bundle.reader import open_bundle  # noqa: E402
from crowdhmt_ros.bundle.reopen import description_of, family_of  # noqa: E402
from crowdhmt_ros.bundle.writer import Description, write_bundle  # noqa: E402
from crowdhmt_ros.elastic.backbones.resnet import residual  # noqa: E402
from crowdhmt_ros.elastic.export import export_family, to_onnx  # noqa: E402
from crowdhmt_ros.elastic.extraction import extract  # noqa: E402
from crowdhmt_ros.elastic.make_elastic import make_elastic  # noqa: E402
from crowdhmt_ros.elastic.operators.channel import channel  # noqa: E402
from crowdhmt_ros.elastic.operators.depth import depth  # noqa: E402
from crowdhmt_ros.elastic.transformation import calibrate, round_weights  # noqa: E402
from crowdhmt_ros.errors import ExportError  # noqa: E402
from crowdhmt_ros.graph.counts import layer_costs  # noqa: E402
from crowdhmt_ros.graph.family import Family  # noqa: E402
from crowdhmt_ros.graph.split import last_output  # noqa: E402
from crowdhmt_ros.types import InputSpec, Variant  # noqa: E402

EDGE = 32
HALF = channel(0.5)
VARIANTS = {
    'rich': Variant(((), (), ()), 1), 'slim': Variant(((HALF,),) * 3, 1),
    'shallow': Variant(((HALF, depth(2)), (HALF, depth(1)), (HALF, depth(1))), 1),
    'early': Variant(((HALF, depth(2)), (HALF, depth(1))), 0)}
DESCRIPTION = Description(
    'tiny', 'image_classification', ('a', 'b', 'c'),
    InputSpec('image', 'float32', (1, 3, EDGE, EDGE), 'rgb', 'area', 1 / 255, (0.5,) * 3,
              (0.25,) * 3),
    {'noon': (0.4, 1.0), 'dusk': (0.0, 0.4)}, {'rich': {'photos': (0.9, 10)}}, {'seed': 1})


@pytest.fixture(scope='module')
def trained():
    torch.manual_seed(0)
    example = torch.zeros(2, 3, EDGE, EDGE)
    backbone = residual(3, widths=(16, 16, 24), blocks=2, edge=64)
    net = make_elastic(backbone, example, exits=(2,)).net
    with torch.no_grad():
        for unit in net.structure.units:
            if unit.norm:
                net.tensor(unit.norm + '.weight').uniform_(0.3, 1.3)
                net.tensor(unit.norm + '.bias').uniform_(0.3, 1.3)
    round_weights(net)
    statistics = calibrate(net, VARIANTS.values(), [torch.randn(16, 3, EDGE, EDGE)])
    return net, statistics, export_family(net, VARIANTS, statistics, example[:1])


@pytest.fixture(scope='module')
def written(trained, tmp_path_factory):
    directory = tmp_path_factory.mktemp('bundle') / 'tiny'
    digest = write_bundle(trained[2], DESCRIPTION, directory)
    return directory, digest


def test_materialised_graphs_answer_as_the_network(trained, written, tmp_path):
    net, statistics, _ = trained
    bundle = open_bundle(written[0])
    segments = materialise(bundle, tmp_path)
    image = torch.randn(1, 3, EDGE, EDGE)
    for variant_id, variant in VARIANTS.items():
        session = ort.InferenceSession(
            segments[bundle.segment_for(variant_id)].path, providers=['CPUExecutionProvider'])
        logits = session.run(['logits'], {'image': image.numpy()})[0]
        wanted = extract(net, variant, statistics).module(image).detach().numpy()
        assert np.abs(wanted).max() > 1e-3
        np.testing.assert_allclose(logits, wanted, atol=1e-4)


def test_reader_finds_what_was_written(written):
    bundle = open_bundle(written[0])
    assert bundle.sha256 == written[1]
    assert bundle.classes == ('a', 'b', 'c')
    assert bundle.input == DESCRIPTION.input
    assert bundle.accuracy('rich') == {'photos': 0.9}
    assert {v: e.variant for v, e in bundle.manifest.variants.items()} == VARIANTS


def test_front_is_ordered_by_work(written):
    bundle = open_bundle(written[0])
    macs = [bundle.macs(v) for v in bundle.manifest.front]
    assert macs == sorted(macs, reverse=True)


def test_weights_are_stored_once(written):
    manifest = json.loads((written[0] / 'manifest.json').read_text())
    apart = sum(2 * v['parameters'] for v in manifest['variants'])
    assert (written[0] / 'weights.bin').stat().st_size < apart
    names = [t['name'] for t in manifest['tensors']]
    assert len(names) == len(set(names))


def test_graphs_carry_no_weights(written, trained):
    for path in (written[0] / 'graphs').iterdir():
        model = onnx.load(path, load_external_data=False)
        floats = [t for t in model.graph.initializer if t.data_type == onnx.TensorProto.FLOAT]
        assert floats
        assert all(t.data_location == onnx.TensorProto.EXTERNAL for t in floats)
        assert not any(t.raw_data for t in floats)
        assert path.stat().st_size < 20000


def test_two_writings_are_equal_byte_by_byte(trained, written, tmp_path):
    assert write_bundle(trained[2], DESCRIPTION, tmp_path / 'tiny') == written[1]


def test_writing_again_replaces_the_bundle_and_leaves_nothing_else(trained, tmp_path):
    target = tmp_path / 'tiny'
    write_bundle(trained[2], DESCRIPTION, target)
    other = dataclasses.replace(DESCRIPTION, provenance={'seed': 2})
    digest = write_bundle(trained[2], other, target)
    assert open_bundle(target).sha256 == digest
    assert [p.name for p in tmp_path.iterdir()] == ['tiny']


def test_failed_writing_leaves_the_old_bundle(trained, tmp_path):
    target = tmp_path / 'tiny'
    digest = write_bundle(trained[2], DESCRIPTION, target)
    broken = {k: np.zeros_like(v) for k, v in trained[2].tensors.items()}
    with pytest.raises(ExportError, match='differs from its recipe'):
        write_bundle(Family(broken, trained[2].graphs), DESCRIPTION, target)
    assert open_bundle(target).sha256 == digest
    assert [p.name for p in tmp_path.iterdir()] == ['tiny']


CROSSINGS = (CrossingFigure('rich', '', 'jpeg', 2000.26, 0.0123456, 30),
             CrossingFigure('rich', 'rich-after0', 'int8', 900.0, -0.001, 30))


@pytest.fixture(scope='module')
def cut(trained, tmp_path_factory):
    """The family with a cut behind the first stage of each variant but the last."""
    graphs = tuple(g if g.variant_id == 'early' else dataclasses.replace(
        g, cuts={g.variant_id + '-after0': (last_output(g.model, '/kept_stages_0_'),)})
        for g in trained[2].graphs)
    family = Family(trained[2].tensors, graphs)
    directory = tmp_path_factory.mktemp('cut') / 'tiny'
    write_bundle(family, dataclasses.replace(DESCRIPTION, crossings=CROSSINGS), directory)
    return family, directory


def test_head_and_tail_materialise_and_equal_the_whole(cut, tmp_path):
    bundle = open_bundle(cut[1])
    segments = materialise(bundle, tmp_path)
    image = np.random.default_rng(0).standard_normal((1, 3, EDGE, EDGE)).astype(np.float32)
    for variant_id in ('rich', 'slim', 'shallow'):
        run = {role: ort.InferenceSession(
            segments[bundle.segment_for(variant_id, role, cut_id=c)].path,
            providers=['CPUExecutionProvider'])
            for role, c in (('whole', ''), ('head', variant_id + '-after0'),
                            ('tail', variant_id + '-after0'))}
        wanted = run['whole'].run(None, {'image': image})[0]
        crossing = run['head'].run(None, {'image': image})[0]
        (name,) = [i.name for i in run['tail'].get_inputs()]
        found = run['tail'].run(None, {name: crossing})[0]
        assert np.abs(wanted).max() > 1e-3
        np.testing.assert_allclose(found, wanted, atol=1e-6)


def test_cuts_cost_graphs_only(cut, written):
    with_cuts, without = open_bundle(cut[1]), open_bundle(written[0])
    assert (cut[1] / 'weights.bin').read_bytes() == (written[0] / 'weights.bin').read_bytes()
    assert with_cuts.manifest.recipes == without.manifest.recipes
    for segment_id, entry in without.manifest.segments.items():
        assert with_cuts.manifest.segments[segment_id] == entry
        assert with_cuts.file_sha256(entry.file) == without.file_sha256(entry.file)


def test_head_and_tail_share_work_and_weights_of_the_whole(cut):
    bundle = open_bundle(cut[1])
    parts = [bundle.segment(bundle.segment_for('rich', role, cut_id='rich-after0'))
             for role in ('head', 'tail')]
    assert sum(c.macs for p in parts for c in p.layers) == bundle.macs('rich')
    recipes = [set(p.recipes) for p in parts]
    assert not recipes[0] & recipes[1]
    assert recipes[0] | recipes[1] == set(bundle.segment('rich-whole').recipes)
    assert bundle.manifest.cuts['rich-after0'].tensors == parts[0].outputs == parts[1].inputs


def test_crossings_are_written_rounded(cut):
    frame, packed = open_bundle(cut[1]).crossings
    assert frame == CrossingFigure('rich', '', 'jpeg', 2000.3, 0.012346, 30)
    assert packed == CROSSINGS[1]


def test_a_cut_that_does_not_part_the_graph_leaves_no_bundle(trained, tmp_path):
    graph = trained[2].graphs[0]
    inner = next(n.output[0] for n in graph.model.graph.node
                 if n.name == '/kept_stages_0_0_relu1/Relu')
    family = Family(trained[2].tensors, (dataclasses.replace(graph, cuts={'bad': (inner,)}),))
    with pytest.raises(ExportError, match='go around the cut'):
        write_bundle(family, DESCRIPTION, tmp_path / 'tiny')
    assert not list(tmp_path.iterdir())


def test_a_bundle_taken_apart_and_written_again_is_the_same(cut, tmp_path):
    bundle = open_bundle(cut[1])
    again = write_bundle(family_of(bundle), description_of(bundle), tmp_path / 'tiny')
    assert again == bundle.sha256


def test_too_new_a_graph_is_refused(trained, tmp_path):
    graph = trained[2].graphs[0]
    model = onnx.ModelProto()
    model.CopyFrom(graph.model)
    model.opset_import[0].version = 18
    family = Family(trained[2].tensors, (dataclasses.replace(graph, model=model),))
    with pytest.raises(ExportError, match='opset 18'):
        write_bundle(family, DESCRIPTION, tmp_path / 'tiny')


def test_counts_agree_with_pencil_and_paper(written):
    layers = {(c.operator, c.macs): c
              for c in open_bundle(written[0]).layer_costs('rich-whole')}
    stem = layers['Conv', 16 * 16 * 16 * 27]
    assert (stem.input_words, stem.weight_words, stem.output_words) == (
        3 * 32 * 32, 16 * 27 + 16, 16 * 16 * 16)
    head = layers['Gemm', 3 * 24]
    assert (head.input_words, head.weight_words, head.output_words) == (24, 3 * 24 + 3, 3)
    assert all(macs == 0 for operator, macs in layers if operator in ('Relu', 'Add'))


def test_exported_model_is_readable_by_old_robots():
    model = to_onnx(torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()),
        torch.zeros(1, 3, 16, 16))
    assert max(o.version for o in model.opset_import) <= 17
    assert model.ir_version <= 8
    assert sum(c.macs for c in layer_costs(model)) == 14 * 14 * 4 * 27
