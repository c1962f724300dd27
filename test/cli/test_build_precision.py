# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""`crowdhmt build --int8` and `crowdhmt import --int8`: what is written, and what is refused."""
import cv2
import numpy as np
import pytest

pytest.importorskip('torch', reason='building needs the extra train')
import onnx

from crowdhmt_ros.bundle.entries import PrecisionFigure
from crowdhmt_ros.bundle.reader import open_bundle
from crowdhmt_ros.cli import build_precision
from crowdhmt_ros.cli.main import build_parser, main
from crowdhmt_ros.elastic.store import Reference, elastic_of, save_family
from crowdhmt_ros.errors import DataError
from crowdhmt_ros.graph.family import Family, FamilyGraph
from crowdhmt_ros.types import InputSpec, Variant
from test.cli.test_build import entry, write_front

RNG = np.random.default_rng(2)
BACKBONE = Reference('residual', 2, {'widths': [8, 16], 'blocks': 1, 'edge': 32})
SPEC = InputSpec('image', 'float32', (1, 3, 8, 8), 'rgb', 'area', 1 / 255, (0.5,) * 3, (0.25,) * 3)


@pytest.fixture(scope='module')
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp('photos')
    for name, level in (('dark', 40), ('light', 200)):
        (folder / name).mkdir()
        for i in range(32):
            image = np.clip(RNG.normal(level, 30, (32, 32, 3)), 0, 255).astype(np.uint8)
            cv2.imwrite(str(folder / name / ('%d.png' % i)), image)
    return folder


@pytest.fixture(scope='module')
def model(tmp_path_factory):
    made = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> g (float[1,3,8,8] image) => '
        '(float[1,3] scores) { c = Conv<pads=[1,1,1,1]>(image, w) r = Relu(c) '
        'm = GlobalAveragePool(r) f = Flatten(m) scores = Gemm(f, v) }')
    for name, shape in (('w', (8, 3, 3, 3)), ('v', (8, 3))):
        made.graph.initializer.append(onnx.numpy_helper.from_array(
            RNG.standard_normal(shape).astype(np.float32), name))
    path = tmp_path_factory.mktemp('model') / 'users.onnx'
    onnx.save(made, str(path))
    return path


def test_a_family_is_built_in_int8_with_error_and_accuracy(photos, tmp_path, capsys):
    save_family(elastic_of(BACKBONE, ()), tmp_path / 'family.pt', backbone=BACKBONE)
    front = write_front(tmp_path / 'front.json', [entry(Variant(((), ()), 0))])
    assert main(['build', str(tmp_path / 'family.pt'), str(front), '--data', str(photos),
                 '--split', 'all', '--calibration', '24', '--threads', '1', '--cuts', '1',
                 '--int8', '--int8-error', '0.5', '--int8-agreement', '0', '--out',
                 str(tmp_path / 'bundle')]) == 0
    bundle = open_bundle(tmp_path / 'bundle')
    (name,) = bundle.manifest.front
    figure = bundle.precision_figure(name, 'int8')
    assert figure.count == 20
    assert 0.0 < figure.output_error <= 0.5
    assert figure.accuracy['photos'].count == 20
    assert bundle.accuracy(name, 'int8') == {'photos': figure.accuracy['photos'].value}
    assert bundle.precisions(name) == ('fp32', 'int8')
    half = bundle.precision_figure(name, 'bf16', 'torch')
    assert half.accuracy['photos'].count == 20
    assert bundle.accuracy(name, 'bf16', 'torch') == {'photos': half.accuracy['photos'].value}
    said = capsys.readouterr().out
    assert 'in int8: outputs differ by' in said
    assert 'MB of weights' in said
    assert '--int8 --int8-error 0.5' in bundle.manifest.provenance['command']


def _measured(model, count):
    graph = onnx.load(str(model))
    inputs = [{'image': RNG.standard_normal((1, 3, 8, 8)).astype(np.float32)}
              for _ in range(count)]
    labels = np.array([int(r[0].argmax()) for r in build_precision.outputs(graph, inputs)])
    labels[0] = (labels[0] + 1) % 3
    found = build_precision.Measured(
        {}, {'users': (PrecisionFigure('bf16', 'torch', 0.0, 0.0, 1.0, count, {}, 0),)}, ())
    family = Family({}, (FamilyGraph('users', Variant((), 0), graph, {}, {}),))
    return build_precision.with_accuracies(found, family, 'photos', inputs, labels,
                                           lambda done, total: None)


def test_accuracy_in_bf16_is_that_of_the_engine_on_every_input(model):
    (figure,) = _measured(model, 40).figures['users']
    assert figure.accuracy['photos'].count == 40
    assert 0.9 <= figure.accuracy['photos'].value <= 39 / 40


def test_an_engine_that_takes_too_long_stays_without_an_accuracy(model, monkeypatch):
    monkeypatch.setattr(build_precision, 'LONGEST_S', 0.0)
    found = _measured(model, 80)
    assert found.figures['users'][0].accuracy == {}
    (note,) = found.notes
    assert note.startswith('users in bf16 of torch: no accuracy, 80 answers would take more than')


def test_a_model_is_imported_in_int8_calibrated_on_a_folder_or_an_array(model, photos, tmp_path):
    array = tmp_path / 'inputs.npy'
    np.save(array, RNG.standard_normal((40, 3, 8, 8)).astype(np.float32))
    for data in (photos, array):
        out = tmp_path / ('out-' + data.name)
        assert main(['import', str(model), '--out', str(out), '--int8', str(data),
                     '--int8-error', '0.5', '--int8-agreement', '0.01',
                     '--accuracy', '0.8:100']) == 0
        bundle = open_bundle(out)
        assert bundle.precisions('users') == ('fp32', 'int8')
        figure = bundle.precision_figure('users', 'int8')
        assert bundle.accuracy('users', 'int8')['photos'] == pytest.approx(
            max(0.0, 0.8 + figure.agreement - 1.0), abs=1e-6)


@pytest.mark.parametrize(('words', 'told'), [
    (['--int8', '{folder}/nothing'], 'neither a folder of images nor a .npy file'),
    (['--int8', '{folder}'], 'int8 needs 16 inputs to calibrate, there are 0'),
    (['--int8', '{folder}/wrong.npy'], r'the model takes float32 \(n, 3, 8, 8\)'),
    (['--int8', '{folder}/broken.npy'], 'cannot be read'),
    (['--int8', '{folder}', '--int8-error', 'much'], '--int8-error much is no number'),
])
def test_what_cannot_be_calibrated_on_is_told_in_one_line(model, tmp_path, words, told):
    np.save(tmp_path / 'wrong.npy', np.zeros((20, 3, 9, 9), np.float32))
    (tmp_path / 'broken.npy').write_bytes(b'no array')
    given = [word.format(folder=tmp_path) for word in words]
    args = build_parser('import').parse_args(
        ['import', str(model), '--out', str(tmp_path / 'out'), *given])
    with pytest.raises(DataError, match=told):
        args.run(args)
    assert not (tmp_path / 'out').exists()


def test_images_for_a_model_without_images_are_refused(tmp_path):
    with pytest.raises(DataError, match='takes no images'):
        build_precision.read_inputs(tmp_path, SPEC, is_image=False)


def test_a_share_beyond_one_is_refused(photos, tmp_path):
    args = build_parser('build').parse_args(
        ['build', 'f.pt', 'f.json', '--data', str(photos), '--out', str(tmp_path / 'o'),
         '--int8', '--int8-agreement', '2'])
    with pytest.raises(DataError, match='--int8-agreement is 2'):
        args.run(args)
