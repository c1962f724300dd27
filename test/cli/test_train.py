# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import dataclasses
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip('torch', reason='training needs the extra train')
pytest.importorskip('onnx', reason='training needs the extra train')

from crowdhmt_ros.bundle.reader import open_bundle  # noqa: E402
from crowdhmt_ros.bundle.reopen import description_of, family_of  # noqa: E402
from crowdhmt_ros.bundle.writer import write_bundle  # noqa: E402
from crowdhmt_ros.cli import campus7  # noqa: E402
from crowdhmt_ros.cli.main import main  # noqa: E402
from crowdhmt_ros.elastic import data  # noqa: E402
from crowdhmt_ros.elastic.training import Cycle, Recipe  # noqa: E402
from crowdhmt_ros.graph.family import Family  # noqa: E402

TINY = (campus7.Amounts(28, 14, 14, 14, crossing_scenes=7),
        Recipe((Cycle(1, 0.03, ((0.0, 32),)),), batch_size=14))


def _photos(folder: Path) -> None:
    """Write archives with one plain picture per mapped class."""
    for files in (data.TRAIN_FILES, data.TEST_FILES):
        for name, mapping in files:
            names = [n for members in mapping.values() for n in members]
            blobs = [cv2.imencode('.png', np.full((32, 32, 3), 4 * i, np.uint8))[1].ravel()
                     for i in range(len(names))]
            np.savez(folder / name, blob=np.concatenate(blobs), y=np.arange(len(names)),
                     offsets=np.cumsum([0] + [len(b) for b in blobs]), classes=np.array(names))


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp('train')
    _photos(folder)
    command = ['train', 'campus7', '--quick', '--threads', '1', '--data', str(folder),
               '--checkpoint-dir', str(folder / 'checkpoints'), '--out']
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(campus7, 'QUICK', TINY)
        assert main([*command, str(folder / 'first')]) == 0
        assert main([*command, str(folder / 'again'), '--resume']) == 0
    return folder


def test_one_command_writes_a_measured_bundle(trained):
    bundle = open_bundle(trained / 'first')
    assert set(bundle.manifest.front) == set(campus7.front())
    for entry in bundle.manifest.variants.values():
        assert {c: a.count for c, a in entry.accuracy.items()} == {
            'photos': 60, 'scenes/noon': 14, 'scenes/afternoon': 14, 'scenes/dusk': 14}


def test_finished_training_resumes_to_the_same_bundle(trained):
    assert open_bundle(trained / 'first').sha256 == open_bundle(trained / 'again').sha256


def test_the_same_command_measures_what_crosses_each_cut(trained):
    bundle = open_bundle(trained / 'first')
    assert {c.variant_id for c in bundle.crossings} == set(bundle.manifest.front)
    assert {c.cut_id for c in bundle.crossings} == {'', *bundle.manifest.cuts}
    assert all(c.count == 21 for c in bundle.crossings)


def test_a_bundle_is_cut_anew_with_the_weights_it_has(trained):
    folder = trained / 'stripped'
    whole = open_bundle(trained / 'first')
    family = family_of(whole)
    graphs = tuple(dataclasses.replace(g, cuts={}) for g in family.graphs)
    write_bundle(Family(family.tensors, graphs),
                 dataclasses.replace(description_of(whole), crossings=()), folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(campus7, 'QUICK', TINY)
        patch.delenv('CROWDHMT_DATA', raising=False)
        assert main(['train', 'campus7', '--quick', '--weights', str(folder), '--out',
                     str(trained / 'cut'), '--checkpoint-dir', str(trained / 'checkpoints')]) == 0
    assert not open_bundle(folder).manifest.cuts
    assert open_bundle(trained / 'cut').sha256 == whole.sha256


def test_provenance_holds_the_command_but_no_folder(trained):
    content = (trained / 'first' / 'manifest.json').read_text()
    assert 'crowdhmt train campus7 --out DIR --seed 7 --quick' in content
    assert str(trained) not in content
