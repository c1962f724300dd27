# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import dataclasses
import hashlib
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
from crowdhmt_ros.datasets import campus_photos  # noqa: E402
from crowdhmt_ros.elastic.scaling import InputScaling  # noqa: E402
from crowdhmt_ros.elastic.store import Reference, load_family  # noqa: E402
from crowdhmt_ros.elastic.teaching.recipe import PhaseRecipe, Recipe  # noqa: E402
from crowdhmt_ros.graph.family import Family  # noqa: E402

RECIPE = Recipe(tuple(PhaseRecipe(name, 1, 0.01, ((0.0, 32),)) for name in (
    'backbone', 'mutation')), batch_size=14)
FEATURES = Recipe((PhaseRecipe('backbone', 1, 0.01, ((0.0, 32),)),), batch_size=14)
AMOUNTS = campus7.Amounts(60, 14, 14, 14, 14, crossing_scenes=7, calibration_images=28)
FRONT = {name: campus7.FRONT[name] for name in ('w100d2', 'w038d1e0')}
BACKBONE = Reference('residual', 7, {'widths': (16, 16, 24, 24), 'blocks': 2, 'edge': 64})


@pytest.fixture(scope='module', autouse=True)
def _small():
    """A small network, two variants and a short recipe instead of the task's own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(campus7, 'QUICK', campus7.Scale(AMOUNTS, 'features', 'tiny'))
        patch.setattr(campus7, 'recipe_named', {'features': FEATURES, 'tiny': RECIPE}.get)
        patch.setattr(campus7, 'FRONT', FRONT)
        patch.setattr(campus7, 'BACKBONE', BACKBONE)
        yield


def _photos(folder: Path) -> None:
    """Write archives with one plain picture per mapped class."""
    for files in (campus_photos.TRAIN_FILES, campus_photos.TEST_FILES):
        for name, mapping in files:
            names = [n for members in mapping.values() for n in members]
            blobs = [cv2.imencode('.png', np.full((32, 32, 3), 4 * i, np.uint8))[1].ravel()
                     for i in range(len(names))]
            np.savez(folder / name, blob=np.concatenate(blobs), y=np.arange(len(names)),
                     offsets=np.cumsum([0] + [len(b) for b in blobs]), classes=np.array(names))


def _command(folder: Path, out: str, *more: str):
    return ['train', 'campus7', '--quick', '--threads', '1', '--data', str(folder),
            '--checkpoint-dir', str(folder / 'checkpoints'), '--out', str(folder / out), *more]


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp('train')
    _photos(folder)
    assert main(_command(folder, 'first')) == 0
    assert main(_command(folder, 'again', '--resume')) == 0
    return folder


def test_one_command_writes_a_measured_bundle(trained):
    bundle = open_bundle(trained / 'first')
    assert set(bundle.manifest.front) == set(FRONT)
    for entry in bundle.manifest.variants.values():
        assert {c: a.count for c, a in entry.accuracy.items()} == {
            'photos': 60, 'scenes/noon': 14, 'scenes/afternoon': 14, 'scenes/dusk': 14}


def test_the_trained_family_is_left_beside_the_checkpoint(trained):
    net, statistics, header = load_family(trained / 'checkpoints' / 'family-campus7.pt')
    assert header.backbone == BACKBONE
    colours = campus7.NORMALISATION
    assert header.scaling == InputScaling(colours.mean, colours.std, 1 / 255)
    assert net.structure.exits == (3, 4)
    assert statistics


def test_training_starts_from_a_family_instead_of_features(trained, capsys):
    family = trained / 'start.pt'
    family.write_bytes((trained / 'checkpoints' / 'family-campus7.pt').read_bytes())
    command = _command(trained, 'started', '--start', str(family), '--phases', 'mutation')
    command[command.index('--checkpoint-dir') + 1] = str(trained / 'other')
    assert main(command) == 0
    provenance = open_bundle(trained / 'started').manifest.provenance
    assert [p['phase'] for p in provenance['recipe']['phases']] == ['mutation']
    assert provenance['start_sha256'] == hashlib.sha256(family.read_bytes()).hexdigest()
    assert '--start FAMILY --phases mutation' in provenance['command']


def test_a_start_that_is_no_family_is_one_clear_error(trained, capsys):
    command = _command(trained, 'never', '--start', str(trained / 'first' / 'manifest.json'))
    assert main(command) == 2
    assert 'no file of a family' in capsys.readouterr().err
    assert not (trained / 'never').exists()


def test_an_unknown_phase_is_one_clear_error(trained, capsys):
    assert main(_command(trained, 'never', '--phases', 'melting')) == 2
    assert 'the recipe has backbone, mutation' in capsys.readouterr().err


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
        patch.delenv('CROWDHMT_DATA', raising=False)
        assert main(['train', 'campus7', '--quick', '--weights', str(folder), '--out',
                     str(trained / 'cut'), '--checkpoint-dir', str(trained / 'checkpoints')]) == 0
    assert not open_bundle(folder).manifest.cuts
    assert open_bundle(trained / 'cut').sha256 == whole.sha256


def test_provenance_holds_the_command_but_no_folder(trained):
    content = (trained / 'first' / 'manifest.json').read_text()
    assert 'crowdhmt train campus7 --out DIR --seed 7 --quick' in content
    assert str(trained) not in content
