# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
import json

import cv2
import numpy as np
import pytest

pytest.importorskip('torch', reason='building needs the extra train')
import onnxruntime
import torch

from crowdhmt_ros.bundle.materialise import materialise
from crowdhmt_ros.bundle.reader import open_bundle
from crowdhmt_ros.cli import build, build_early
from crowdhmt_ros.cli.main import build_parser, main
from crowdhmt_ros.cli.variant_names import MAX_NAME, variant_names
from crowdhmt_ros.elastic.norms import FixedNorms
from crowdhmt_ros.elastic.operators.channel import channel
from crowdhmt_ros.elastic.operators.depth import depth
from crowdhmt_ros.elastic.operators.scale import scale
from crowdhmt_ros.elastic.operators.svd import svd
from crowdhmt_ros.elastic.scaling import InputScaling
from crowdhmt_ros.elastic.store import Reference, elastic_of, save_family
from crowdhmt_ros.engine.backends import make_backend
from crowdhmt_ros.engine.pool import Pool
from crowdhmt_ros.executor import Executor
from crowdhmt_ros.tasks import cascade, thresholds
from crowdhmt_ros.types import OperatorChoice, Variant, variant_to_json
from crowdhmt_ros.vision.frame import Frame
from crowdhmt_ros.vision.preprocess import Preprocessor
from test.datasets import trees

BACKBONE = Reference('residual', 2, {'widths': [16, 24], 'blocks': 2, 'edge': 32})
VARIANTS = (Variant(((), ()), 1), Variant(((channel(0.5), svd(0.5)),) * 2, 1),
            Variant(((depth(2),),), 0))


@pytest.fixture(scope='module')
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp('photos')
    rng = np.random.default_rng(0)
    for name, level in (('dark', 40), ('light', 200)):
        (folder / name).mkdir()
        for i in range(12):
            image = np.clip(rng.normal(level, 30, (32, 32, 3)), 0, 255).astype(np.uint8)
            cv2.imwrite(str(folder / name / ('%d.png' % i)), image)
    return folder


def entry(variant, accuracy=0.75, **more):
    return {**variant_to_json(variant), 'accuracy': {'value': accuracy, 'count': 40}, **more}


def write_front(path, entries):
    path.write_text(json.dumps({'format': 'crowdhmt-front', 'format_version': 1,
                                'front': entries}))
    return path


def save(backbone, exits, folder):
    torch.manual_seed(0)
    save_family(elastic_of(backbone, exits), folder / 'family.pt', backbone=backbone)
    return folder / 'family.pt'


@pytest.fixture(scope='module')
def family(tmp_path_factory):
    return save(BACKBONE, (1,), tmp_path_factory.mktemp('family'))


@pytest.fixture(scope='module')
def front(tmp_path_factory):
    return write_front(tmp_path_factory.mktemp('front') / 'front.json',
                       [entry(v, 0.5 + 0.1 * i) for i, v in enumerate(VARIANTS)])


def command(family, front, photos, out, *more):
    return ['build', str(family), str(front), '--data', str(photos), '--split', 'all',
            '--calibration', '8', '--threads', '1', '--out', str(out), *more]


def built(words):
    return build.build(build_parser('build').parse_args(words))


def runner(path):
    session = onnxruntime.InferenceSession(path, providers=['CPUExecutionProvider'])
    return lambda given: dict(zip(
        [o.name for o in session.get_outputs()],
        session.run(None, {i.name: given[i.name] for i in session.get_inputs()})))


def test_the_bundle_answers_as_the_family_whole_and_cut(family, front, photos, tmp_path):
    made = built(command(family, front, photos, tmp_path / 'bundle'))
    bundle = open_bundle(tmp_path / 'bundle')
    assert set(bundle.manifest.front) == {'full', 'w50-svd50', 'd2-e0'}
    segments = materialise(bundle, tmp_path / 'cache')
    x = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    parts = 0
    for name in bundle.manifest.front:
        with torch.no_grad():
            wanted = made.net(x, made.members[name].variant, FixedNorms(made.statistics),
                              every_exit=False)[-1].numpy()
        whole = runner(segments[bundle.segment_for(name)].path)({'image': x.numpy()})['logits']
        np.testing.assert_allclose(whole, wanted, atol=1e-4)
        for cut_id in (c for c in bundle.manifest.cuts if c.startswith(name)):
            crossing = runner(segments[cut_id + '-head'].path)({'image': x.numpy()})
            found = runner(segments[cut_id + '-tail'].path)(crossing)['logits']
            np.testing.assert_allclose(found, whole, atol=1e-4)
            parts += 1
    assert parts >= 3
    assert bundle.macs('full') == made.net.plan(VARIANTS[0]).macs


def test_what_was_measured_before_stands_in_the_manifest(family, front, photos, tmp_path, capsys):
    assert main(command(family, front, photos, tmp_path / 'bundle', '--cuts', '1')) == 0
    manifest = open_bundle(tmp_path / 'bundle').manifest
    assert manifest.classes == ('dark', 'light')
    assert manifest.input.shape == (1, 3, 32, 32)
    assert manifest.input.mean == pytest.approx((0.47, 0.46, 0.43))
    assert open_bundle(tmp_path / 'bundle').accuracy('full') == {'photos': 0.5}
    assert {t.dtype for t in manifest.tensors.values()} == {'float16', 'float32'}
    origin = manifest.provenance
    assert origin['command'].startswith('crowdhmt build family.pt front.json --data photos')
    assert str(tmp_path) not in json.dumps(dict(origin), default=str)
    assert len(origin['family_sha256']) == len(origin['front_sha256']) == 64
    said = capsys.readouterr().out
    assert 'calibrating: 3 of 3' in said
    assert 'exporting: 3 of 3' in said


def test_accuracies_are_measured_and_weights_stay_when_asked(family, front, photos, tmp_path):
    names = tmp_path / 'names'
    names.write_text('night\nday\n')
    assert main(command(family, front, photos, tmp_path / 'bundle', '--measure', '--full',
                        '--cuts', '0', '--classes', str(names))) == 0
    bundle = open_bundle(tmp_path / 'bundle')
    assert bundle.classes == ('night', 'day')
    assert not bundle.manifest.cuts
    assert {t.dtype for t in bundle.manifest.tensors.values()} == {'float32'}
    counts = [n for v in bundle.manifest.front
              for n in (a.count for a in bundle.variant(v).accuracy.values())]
    assert counts == [16] * 3


def test_variants_that_stop_early_are_added_and_measured(family, front, photos, tmp_path, capsys,
                                                         monkeypatch):
    monkeypatch.setattr(build_early, 'ROUNDS', 2)
    # An untrained exit pays by chance only: here it is asked, and answers about half.
    monkeypatch.setattr(cascade, 'choose', lambda *given, **options: thresholds.Thresholds(
        (float(np.median(thresholds.confidences(given[0][0]))),), (1.0,)))
    assert main(command(family, front, photos, tmp_path / 'bundle', '--early')) == 0
    bundle = open_bundle(tmp_path / 'bundle')
    assert set(bundle.manifest.front) == {'full', 'fullx', 'w50-svd50', 'w50-svd50x', 'd2-e0'}
    (stop,) = bundle.early_exits('fullx')
    assert (stop.exit_index, stop.cut_id) == (0, 'fullx-exit0')
    assert 0.0 < stop.ratio < 1.0
    assert bundle.macs('fullx') < bundle.macs('full')
    assert {a.count for v in bundle.manifest.front
            for a in bundle.variant(v).accuracy.values()} == {8}
    assert not any(c.variant_id.endswith('x') for c in bundle.heads())
    assert 'fullx stops early' in capsys.readouterr().out
    early = next(c for c in bundle.candidates((1,), ('fast',)) if c.variant_id == 'fullx')
    pool = Pool(make_backend('onnxruntime'), materialise(bundle, tmp_path / 'cache'))
    executor = Executor(bundle.classes, Preprocessor(bundle.input))
    executor.switch(early, pool.prepare(early), 1)
    taken = {executor.infer(Frame(cv2.imread(str(path)), 0, 'camera', 0.0)).exit_index
             for path in photos.glob('*/*.png')}
    assert taken == {0, 1}


def test_an_exit_that_does_not_pay_adds_no_variant(family, front, photos, tmp_path, monkeypatch):
    monkeypatch.setattr(build_early, 'ROUNDS', 2)
    monkeypatch.setattr(cascade, 'choose', lambda *given, **options: thresholds.Thresholds(
        (thresholds.NEVER,), (1.0,)))
    assert main(command(family, front, photos, tmp_path / 'bundle', '--early')) == 0
    bundle = open_bundle(tmp_path / 'bundle')
    assert set(bundle.manifest.front) == {'full', 'w50-svd50', 'd2-e0'}


def test_windows_become_a_bundle_of_another_task(tmp_path):
    backbone = Reference('motion_cnn', 2, {'width': 8, 'channels': 9})
    path = trees.har_npz(tmp_path / 'windows.npz')
    family = save(backbone, (), tmp_path)
    stages = len(elastic_of(backbone, ()).structure.stages)
    front = write_front(tmp_path / 'front.json', [entry(Variant(((),) * stages, 0))])
    assert main(command(family, front, path, tmp_path / 'bundle')) == 0
    manifest = open_bundle(tmp_path / 'bundle').manifest
    assert manifest.task == 'other'
    assert manifest.input.shape == (1, 9, 128)
    assert (manifest.input.scale, manifest.input.mean, manifest.input.std) == (1.0, (), ())


def test_what_training_found_of_the_inputs_reaches_the_robot(tmp_path):
    backbone = Reference('motion_cnn', 2, {'width': 8, 'channels': 9})
    path = trees.har_npz(tmp_path / 'windows.npz')
    torch.manual_seed(0)
    net = elastic_of(backbone, ())
    scaling = InputScaling(tuple(0.5 * c for c in range(9)), tuple(1.0 + c for c in range(9)))
    save_family(net, tmp_path / 'family.pt', backbone=backbone, scaling=scaling)
    front = write_front(tmp_path / 'front.json',
                        [entry(Variant(((),) * len(net.structure.stages), 0))])
    made = built(command(tmp_path / 'family.pt', front, path, tmp_path / 'bundle'))
    spec = open_bundle(tmp_path / 'bundle').input
    assert (spec.mean, spec.std, spec.scale) == (scaling.mean, scaling.std, 1.0)
    twice = built(command(tmp_path / 'family.pt', front, path, tmp_path / 'other',
                          '--mean', '0', '--std', '1'))
    assert open_bundle(tmp_path / 'other').input.mean == (0.0,) * 9
    key = next(iter(made.statistics))  # calibrated on scaled inputs, so they differ
    assert not torch.allclose(made.statistics[key][0], twice.statistics[key][0])


def test_images_are_scaled_as_the_family_learnt_unless_told_otherwise(front, photos, tmp_path):
    torch.manual_seed(0)
    scaling = InputScaling((0.4, 0.5, 0.6), (0.2, 0.3, 0.4), 1 / 255)
    save_family(elastic_of(BACKBONE, (1,)), tmp_path / 'family.pt', backbone=BACKBONE,
                scaling=scaling)
    for name, more, wanted in (('own', (), scaling.mean), ('told', ('--mean', '0.1'),
                                                            (0.1,) * 3)):
        built(command(tmp_path / 'family.pt', front, photos, tmp_path / name, '--cuts', '0',
                      *more))
        spec = open_bundle(tmp_path / name).input
        assert (spec.mean, spec.std) == (pytest.approx(wanted), pytest.approx(scaling.std))


@pytest.mark.parametrize(('more', 'words'), [
    (('--calibration', '400'), '24 inputs in split all, 400 are asked for'),
    (('--calibration', '24', '--measure'), '24 inputs in split all, 25 are asked for'),
    (('--cuts', '99'), '--cuts is 99; give at most 64'),
    (('--std', '0'), '--std above 0'),
    (('--mean', '1', '2'), 'one number or one for each of the 3 channels'),
    (('--classes', '/nowhere'), '/nowhere cannot be read'),
    (('--layout', 'tape'), "no layout 'tape'"),
])
def test_what_cannot_be_used_is_said_in_one_line(family, front, photos, tmp_path, capsys, more,
                                                 words):
    assert main(command(family, front, photos, tmp_path / 'bundle', *more)) == 2
    said = capsys.readouterr().err
    assert words in said
    assert said.count('\n') == 1
    assert not (tmp_path / 'bundle').exists()


@pytest.mark.parametrize(('entries', 'words'), [
    ([], 'lists no variants'),
    ([7], 'front[0] is 7, expected an object'),
    ([entry(Variant(((),), 1))], 'front[0] does not fit the family: variant describes 1 stages'),
    ([entry(Variant(((OperatorChoice('fold'),), ()), 1))], "operator 'fold' is not known"),
    ([entry(VARIANTS[0]), entry(VARIANTS[0])], 'front[1] is the same variant as front[0]'),
    ([entry(VARIANTS[0], macs=3)], 'give the family that was searched'),
    ([entry(VARIANTS[0], accuracy=1.5)], 'front[0].accuracy is'),
    ([entry(Variant(((), ()), 1, 'int8'))], 'asks for precision int8'),
])
def test_a_front_that_does_not_fit_is_said_in_one_line(family, photos, tmp_path, capsys, entries,
                                                       words):
    front = write_front(tmp_path / 'front.json', entries)
    assert main(command(family, front, photos, tmp_path / 'bundle')) == 2
    said = capsys.readouterr().err
    assert words in said
    assert said.count('\n') == 1


@pytest.mark.parametrize('text', ['', '[]', '{"format": "other"}', '{"format": "crowdhmt-front"}'])
def test_what_is_no_front_is_said(family, photos, tmp_path, capsys, text):
    (tmp_path / 'front.json').write_text(text)
    assert main(command(family, tmp_path / 'front.json', photos, tmp_path / 'bundle')) == 2
    assert 'front' in capsys.readouterr().err


def test_a_folder_with_something_else_stays(family, front, photos, tmp_path, capsys):
    (tmp_path / 'notes.txt').write_text('mine')
    assert main(command(family, front, photos, tmp_path)) == 2
    assert 'is no bundle and would be lost' in capsys.readouterr().err
    assert (tmp_path / 'notes.txt').read_text() == 'mine'


def test_names_tell_operators_and_stay_short_and_unique():
    def same(*choices):
        return Variant((choices,) * 4, 1)

    long = Variant(tuple((svd(r), scale(kernel=1), channel(r)) for r in (0.1, 0.2, 0.3, 0.4)), 1)
    seeds = [same(channel(0.5, seed)) for seed in (1, 2)]
    found = variant_names([same(), same(svd(0.25)), Variant(((), (depth(1),)), 0),
                           Variant(((), (), (), (scale(kernel=1),)), 1), *seeds, long, long], 2)
    assert found[:6] == ('full', 'svd25', 'd1.2-e0', 'k1.4', 'w50r1', 'w50r2')
    assert found[6:] == ('svd-k1-w', 'svd-k1-w-2') or len(set(found)) == len(found)
    assert max(map(len, found)) <= MAX_NAME
