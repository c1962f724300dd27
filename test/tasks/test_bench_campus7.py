# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The training bench judges the shipped campus7 bundle."""
from __future__ import annotations

import pytest

pytest.importorskip('torch', reason='the bundle is made with the extra train')
pytest.importorskip('onnx', reason='the bundle is made with the extra train')

from benchmarks import _training_campus7 as bench  # noqa: E402
from benchmarks._training_claims import CLAIMS  # noqa: E402
from crowdhmt_ros.bundle.reader import open_bundle  # noqa: E402
from crowdhmt_ros.errors import DataError  # noqa: E402

ENDS = {'richest': 'rich', 'leanest': 'lean'}


def reached(photos, noon, afternoon, dusk):
    return {'photos': photos, 'scenes/noon': noon, 'scenes/afternoon': afternoon,
            'scenes/dusk': dusk}


BEFORE = {'rich': reached(0.8, 0.9, 0.9, 0.8), 'mid': reached(0.8, 0.8, 0.8, 0.8),
          'lean': reached(0.7, 0.7, 0.7, 0.7)}
NOW = {'rich': reached(0.9, 0.91, 0.92, 0.85), 'mid': reached(0.8, 0.8, 0.77, 0.8),
       'lean': reached(0.8, 0.75, 0.75, 0.699)}


def test_photos_answered_anew_and_each_light_band_have_their_targets():
    anew = {'rich': {'photos': 0.87}, 'lean': {'photos': 0.77}}
    found = {f.key: f for f in bench.figures_of(ENDS, NOW, anew, BEFORE)}
    assert set(CLAIMS['campus7']) <= set(found)
    assert (found['campus7_photos_richest'].value, found['campus7_photos_richest'].holds) == (
        0.87, True)
    assert found['campus7_photos_leanest'].holds is False
    assert found['campus7_scenes_change_pt/noon'].value == pytest.approx(1.0)
    assert found['campus7_scenes_change_pt/afternoon'].holds
    assert found['campus7_scenes_change_pt/dusk'].holds is False
    worst = found['campus7_scenes_change_pt']
    assert (worst.value, worst.holds) == (pytest.approx(-3.0), None)
    assert 'mid scenes/afternoon' in worst.how


def test_without_photos_the_manifest_is_told_but_holds_nothing(tmp_path):
    found = {f.key: f for f in bench.campus7_figures(tmp_path)}
    for end in ENDS:
        figure = found['campus7_photos_' + end]
        assert figure.value is not None
        assert figure.holds is False
        assert 'not answered anew' in figure.how


def test_the_figures_from_before_are_of_the_shipped_variants_and_conditions():
    bundle = open_bundle(bench.NAME)
    before = bench.read_before()
    assert set(before) == set(bundle.manifest.front)
    assert all(set(before[v]) == set(bundle.accuracy(v)) for v in before)
    assert set(bench.ends_of(bundle).values()) == {'w100d2', 'w038d1e0'}


def test_damaged_figures_from_before_are_one_clear_error(tmp_path):
    (tmp_path / 'before.yaml').write_text('accuracy: 3', 'utf-8')
    with pytest.raises(DataError, match='take it from the repository'):
        bench.read_before(tmp_path / 'before.yaml')
    with pytest.raises(DataError, match='has no scenes/noon of rich'):
        bench.figures_of(ENDS, NOW, {}, {})
