# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip('torch', reason='training needs the extra train')
onnx = pytest.importorskip('onnx', reason='training needs the extra train')

from crowdhmt_ros.campus.scene import CLASSES  # noqa: E402
from crowdhmt_ros.cli import campus7, campus7_bundle  # noqa: E402
from crowdhmt_ros.cli.main import main  # noqa: E402
from crowdhmt_ros.elastic.store import elastic_of  # noqa: E402
from crowdhmt_ros.elastic.teaching.images import Images  # noqa: E402
from crowdhmt_ros.errors import ExportError  # noqa: E402
from crowdhmt_ros.graph.family import Family, FamilyGraph  # noqa: E402


def _grey(value: int, count: int = 4) -> Images:
    return Images(np.full((count, 8, 8, 3), value, np.uint8), np.zeros(count, np.int64))


def test_front_fits_the_network_and_uses_both_exits():
    net = elastic_of(campus7.BACKBONE, campus7.EXITS)
    assert net.structure.exits == (3, 4)
    front = campus7.front()
    macs = {name: net.plan(variant).macs for name, variant in front.items()}
    assert list(front) == ['w100d2', 'w075d2', 'w050d2', 'w050d1', 'w038d1', 'w038d1e0']
    assert list(macs.values()) == sorted(macs.values(), reverse=True)
    assert macs['w100d2'] >= 10 * macs['w038d1e0']
    assert front['w100d2'] == net.whole()
    assert {v.exit_index for v in front.values()} == {0, 1}
    assert len({repr(v) for v in front.values()}) == len(front)


@pytest.mark.parametrize('scale', [campus7.FULL, campus7.QUICK])
def test_recipes_come_with_the_package_and_end_at_the_robots_resolution(scale):
    features, recipe = (campus7.recipe_named(name) for name in (scale.features, scale.recipe))
    assert features.phases[0].phase == 'backbone'
    assert recipe.phases[-1].edge_at(recipe.phases[-1].epochs - 1) == campus7.EDGE


def _graph(*names: str) -> FamilyGraph:
    nodes = [onnx.helper.make_node('Relu', ['t%d' % i], ['t%d' % (i + 1)], name=name)
             for i, name in enumerate(names)]
    model = onnx.helper.make_model(onnx.helper.make_graph(nodes, 'g', [], []))
    return FamilyGraph('v', campus7.front()['w100d2'], model, {})


@pytest.mark.parametrize('names', [
    ['/units_stages_%d_0_conv1/Conv' % s for s in range(4)],
    ['/stages.%d.1/Relu_1' % s for s in range(4)]])
def test_cuts_lie_behind_the_last_operator_of_a_stage(names):
    family = campus7_bundle.with_cuts(Family({}, (_graph('/stem/Relu', *names, '/Flatten'),)))
    assert family.graphs[0].cuts == {'v-after1': ('t3',), 'v-after2': ('t4',)}


def test_a_variant_is_not_cut_behind_its_last_stage():
    graph = _graph('/stages.0.0/Relu', '/stages.1.0/Relu', '/stages.2.0/Relu', '/head/Gemm')
    assert set(campus7_bundle.with_cuts(Family({}, (graph,))).graphs[0].cuts) == {'v-after1'}


def test_a_graph_that_does_not_name_its_stages_is_not_cut_anywhere():
    with pytest.raises(ExportError, match='names its stage'):
        campus7_bundle.with_cuts(Family({}, (_graph('/Relu'),)))


def test_balanced_accuracy_counts_each_class_once():
    labels = np.array([0] * 8 + [1] * 2)
    answers = np.array([0] * 8 + [0, 1])
    assert campus7_bundle.balanced_accuracy(answers, labels) == pytest.approx(0.75)


def test_luminance_bands_part_the_range_between_the_lights():
    bands = campus7_bundle.luminance_bands(
        {'noon': _grey(180), 'afternoon': _grey(120), 'dusk': _grey(40)})
    assert bands['dusk'][0] == 0.0
    assert bands['dusk'][1] == bands['afternoon'][0]
    assert bands['afternoon'][1] == bands['noon'][0]
    assert bands['noon'][1] == 1.0
    assert 40 / 255 < bands['dusk'][1] < 120 / 255 < bands['noon'][0] < 180 / 255


def test_luminance_bands_stay_apart_when_the_lights_do_not():
    bands = campus7_bundle.luminance_bands(
        {'noon': _grey(90), 'afternoon': _grey(120), 'dusk': _grey(130)})
    assert all(low < high for low, high in bands.values())


def test_rendered_scenes_are_balanced_and_come_from_the_cache(tmp_path):
    count = 2 * len(CLASSES)
    reports = []
    first = campus7.scenes(3, 'noon', count, tmp_path, lambda *a: reports.append(a))
    again = campus7.scenes(3, 'noon', count, tmp_path, lambda *a: pytest.fail('rendered again'))
    assert reports == [(1, 1)]
    assert np.array_equal(first.pixels, again.pixels)
    assert np.bincount(first.labels).tolist() == [2] * len(CLASSES)
    other = campus7.scenes(4, 'noon', count, tmp_path, lambda *a: None)
    assert not np.array_equal(first.pixels, other.pixels)


def test_training_without_data_says_what_to_name(monkeypatch, capsys, tmp_path):
    monkeypatch.delenv('CROWDHMT_DATA', raising=False)
    assert main(['train', 'campus7', '--out', str(tmp_path / 'b')]) == 2
    assert 'CROWDHMT_DATA' in capsys.readouterr().err


def test_training_without_photos_names_the_missing_file(capsys, tmp_path):
    arguments = ['train', 'campus7', '--out', str(tmp_path / 'b'), '--data', str(tmp_path)]
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert 'cifar10_train5k.npz is missing' in error
    assert not (tmp_path / 'b').exists()
