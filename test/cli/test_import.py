# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""`crowdhmt import`: any user's model becomes a bundle that robots open and run."""
from __future__ import annotations

import math

import numpy as np
import pytest

onnx = pytest.importorskip('onnx', reason='importing models needs the extra train')
ort = pytest.importorskip('onnxruntime')

from onnx import TensorProto, helper  # noqa: E402

from crowdhmt_ros.bundle.materialise import materialise  # noqa: E402
from crowdhmt_ros.bundle.reader import open_bundle  # noqa: E402
from crowdhmt_ros.bundle.reopen import description_of, family_of  # noqa: E402
from crowdhmt_ros.bundle.writer import write_bundle  # noqa: E402
from crowdhmt_ros.cli import main as cli  # noqa: E402
from crowdhmt_ros.loop import rederive, step  # noqa: E402
from crowdhmt_ros.profiling.front import build_front, counted_tables  # noqa: E402
from crowdhmt_ros.types import (  # noqa: E402
    EnergyCoefficients,
    LoopState,
    Reading,
    Requirements,
    ResourceSnapshot,
)
from crowdhmt_ros.vision.preprocess import Preprocessor  # noqa: E402
from test import foreign_models as models  # noqa: E402


def convert(tmp_path, model, *words, beside=False):
    """Import a model; returns the exit code and the folder."""
    source = model if not isinstance(model, onnx.ModelProto) else models.save(
        model, tmp_path / 'users.onnx', beside=beside)
    out = tmp_path / 'bundle'
    return cli.main(['import', str(source), '--out', str(out), *words]), out


def imported(tmp_path, model, *words, **more):
    code, out = convert(tmp_path, model, *words, **more)
    assert code == 0
    bundle = open_bundle(out)
    return bundle, materialise(bundle, tmp_path / 'cache')


def run(path, given):
    if isinstance(path, onnx.ModelProto):
        path = path.SerializeToString()
    session = ort.InferenceSession(path, providers=['CPUExecutionProvider'])
    names = [o.name for o in session.get_outputs()]
    return dict(zip(names, session.run(names, {i.name: given[i.name]
                                               for i in session.get_inputs()})))


def image(seed=0):
    return np.random.default_rng(seed).standard_normal(
        (1, 3, models.EDGE, models.EDGE)).astype(np.float32)


def assert_equal(found, wanted, tolerance=1e-5):
    assert set(wanted) <= set(found)
    for name, value in wanted.items():
        assert found[name].dtype == value.dtype
        np.testing.assert_allclose(found[name], value, rtol=tolerance, atol=tolerance)


def refusal(tmp_path, capsys, model, *words, **more):
    """Return the one line that refuses a model; nothing may be left behind."""
    code, out = convert(tmp_path, model, *words, **more)
    said = capsys.readouterr().err
    assert code == 2
    assert said.startswith('crowdhmt: ')
    assert said.count('\n') == 1
    assert not out.exists()
    assert not [p for p in tmp_path.iterdir() if p.name.startswith('.')]
    return said


def test_a_classifier_answers_as_before(tmp_path, capsys):
    model = models.classifier()
    bundle, segments = imported(tmp_path, model, '--name', 'birds', '--accuracy', '0.8:200')
    assert (bundle.manifest.name, bundle.manifest.front) == ('birds', ('birds',))
    given = {'image': image()}
    whole = segments[bundle.segment_for('birds')]
    assert_equal(run(whole.path, given), run(model, given))
    assert bundle.manifest.variants['birds'].variant.stages == ()
    assert bundle.accuracy('birds') == {'photos': 0.8}
    said = capsys.readouterr().out
    assert '11 before' in said
    assert 'BatchNormalization' not in [n.op_type for n in onnx.load(
        whole.path, load_external_data=False).graph.node]


def test_head_and_tail_at_every_cut_answer_as_the_whole(tmp_path):
    model = models.classifier()
    bundle, segments = imported(tmp_path, model, '--cuts', '3')
    given = {'image': image(1)}
    wanted = run(model, given)
    assert bundle.manifest.cuts
    for cut_id, cut in bundle.manifest.cuts.items():
        head = run(segments[bundle.segment_for('users', 'head', cut_id=cut_id)].path, given)
        assert [t.name for t in cut.tensors] == list(head)
        tail = run(segments[bundle.segment_for('users', 'tail', cut_id=cut_id)].path, head)
        assert_equal(tail, wanted)


def test_pieces_between_cuts_chain_and_survive_a_reopening(tmp_path):
    model = models.classifier()
    bundle, segments = imported(tmp_path, model, '--pieces', '--cuts', '3')
    pieces = [s for s in bundle.manifest.segments.values() if s.role == 'piece']
    assert len(pieces) == len(bundle.manifest.cuts) - 1 > 0
    known = {'image': image(2)}
    wanted = run(model, known)
    first, *_, last = bundle.manifest.cuts
    known.update(run(segments[bundle.segment_for('users', 'head', cut_id=first)].path, known))
    for piece in pieces:
        known.update(run(segments[piece.segment_id].path, known))
    known.update(run(segments[bundle.segment_for('users', 'tail', cut_id=last)].path, known))
    assert_equal(known, wanted)
    again = write_bundle(family_of(bundle), description_of(bundle), tmp_path / 'again',
                         tolerance=1e-5)
    assert again == bundle.sha256


@pytest.mark.parametrize('accuracy', [(), ('--accuracy', '0.8:200')])
def test_the_planner_decides_over_an_imported_model(tmp_path, accuracy):
    bundle, segments = imported(tmp_path, models.classifier(), *accuracy)
    coefficients = EnergyCoefficients(52.8e-12, idle_w=0.2)
    front = build_front(bundle, counted_tables(bundle, segments), coefficients,
                        segments=segments)
    snapshot = ResourceSnapshot(0.0, battery_ratio=Reading(0.5))
    for requirements in (Requirements(), Requirements(accuracy_floor=0.7)):
        _, plan = step(LoopState(), snapshot, [], requirements, front, 0.0)
        assert plan.chosen.candidate.variant_id == 'users'
        assert plan.violated == ()
        assert math.isfinite(plan.score)
        assert rederive(plan, front) == plan.chosen.candidate.candidate_id


def test_camera_images_reach_an_imported_model(tmp_path):
    model = models.classifier()
    bundle, segments = imported(tmp_path, model, '--scale', '1/255', '--mean', '0.5', '--std',
                                '0.2,0.3,0.4')
    assert (bundle.input.mean, bundle.input.std) == ((0.5,) * 3, (0.2, 0.3, 0.4))
    tensor = np.zeros(bundle.input.shape, np.float32)
    photo = np.random.default_rng(3).integers(0, 256, (48, 64, 3)).astype(np.uint8)
    Preprocessor(bundle.input).into(photo, tensor)
    given = {'image': tensor}
    assert_equal(run(segments[bundle.segment_for('users')].path, given), run(model, given))


@pytest.mark.parametrize('resize', ['area', 'linear'])
def test_frames_are_resized_as_the_model_learnt_it(tmp_path, resize):
    bundle, _ = imported(tmp_path, models.classifier(), '--resize', resize)
    assert bundle.input.resize == resize
    Preprocessor(bundle.input)


def test_classes_come_from_a_file(tmp_path, capsys):
    names = tmp_path / 'names.txt'
    names.write_text('\n'.join('abcde') + '\n\n')
    bundle, _ = imported(tmp_path, models.classifier(), '--classes', str(names))
    assert bundle.classes == tuple('abcde')
    names.write_text('a\nb\n')
    assert cli.main(['import', str(tmp_path / 'users.onnx'), '--out', str(tmp_path / 'other'),
                     '--classes', str(names)]) == 2
    assert '2 classes are named, the model tells 5 apart' in capsys.readouterr().err
    names.write_text('a\nb\na\n')
    assert cli.main(['import', str(tmp_path / 'users.onnx'), '--out', str(tmp_path / 'other'),
                     '--classes', str(names)]) == 2
    assert 'names a more than once' in capsys.readouterr().err


def test_a_model_with_channels_last_is_turned(tmp_path):
    model = models.channels_last()
    bundle, segments = imported(tmp_path, model)
    assert bundle.input.shape == (1, 3, models.EDGE, models.EDGE)
    given = {bundle.input.name: image(), 'x': image().transpose(0, 2, 3, 1)}
    path = segments[bundle.segment_for('users')].path
    assert_equal(run(path, given), run(model, given))
    assert 'Transpose' not in [n.op_type for n in onnx.load(
        path, load_external_data=False).graph.node]


def test_a_last_softmax_stays_unless_it_is_to_go(tmp_path, capsys):
    model = models.ending_in_softmax()
    given = {'image': image()}
    wanted = run(model, given)['p']
    bundle, segments = imported(tmp_path, model)
    assert '--drop-softmax' in capsys.readouterr().out
    np.testing.assert_allclose(
        run(segments[bundle.segment_for('users')].path, given)['p'], wanted, atol=1e-5)
    bundle, segments = imported(tmp_path, model, '--drop-softmax')
    scores = run(segments[bundle.segment_for('users')].path, given)['p']
    assert abs(scores.sum() - 1) > 1e-3
    shares = np.exp(scores - scores.max())
    np.testing.assert_allclose(shares / shares.sum(), wanted, atol=1e-5)


def test_a_detector_is_written_opened_and_runs(tmp_path):
    model = models.detector()
    bundle, segments = imported(tmp_path, model, '--task', 'other')
    whole = bundle.segment(bundle.segment_for('users'))
    assert [(o.name, o.dtype) for o in whole.outputs] == [
        ('boxes', 'float32'), ('which', 'int64'), ('early', 'float32')]
    assert [i.name for i in whole.inputs] == ['image', 'focus']
    side = models.EDGE // 4
    given = {'image': image(), 'focus': np.random.default_rng(1).standard_normal(
        (1, 16, side, side)).astype(np.float32)}
    wanted = run(model, given)
    assert_equal(run(segments[whole.segment_id].path, given), wanted)
    for cut_id in bundle.manifest.cuts:
        known = dict(given)
        for role in ('head', 'tail'):
            name = bundle.segment_for('users', role, cut_id=cut_id)
            known.update(run(segments[name].path, known))
        assert_equal(known, wanted)


def test_whole_numbers_are_stored_as_they_are(tmp_path):
    model = models.quantised()
    bundle, segments = imported(tmp_path, model)
    kinds = {t.dtype for t in bundle.manifest.tensors.values()}
    given = {'image': image()}
    assert_equal(run(segments[bundle.segment_for('users')].path, given), run(model, given))
    assert kinds <= {'int8', 'float32'}


def test_halves_are_stored_only_within_the_tolerance(tmp_path, capsys):
    model, given = models.classifier(), {'image': image()}
    bundle, segments = imported(tmp_path, model, '--half', '0.01')
    assert 'float16' in {t.dtype for t in bundle.manifest.tensors.values()}
    found = run(segments[bundle.segment_for('users')].path, given)['scores']
    wanted = run(model, given)['scores']
    assert 0 < np.abs(found - wanted).max() <= 0.01 * max(1.0, np.abs(wanted).max())
    capsys.readouterr()
    bundle, _ = imported(tmp_path, model, '--half', '1e-9')
    assert {t.dtype for t in bundle.manifest.tensors.values()} == {'float32'}
    assert 'stay float32' in capsys.readouterr().out


def test_data_beside_the_model_is_taken_in(tmp_path):
    model = models.classifier()
    given = {'image': image()}
    wanted = run(model, given)
    bundle, segments = imported(tmp_path, model, beside=True)
    assert_equal(run(segments[bundle.segment_for('users')].path, given), wanted)


def test_a_newer_model_is_converted_when_it_answers_the_same(tmp_path):
    model = models.classifier(opset=18, ir_version=10)
    given = {'image': image()}
    bundle, segments = imported(tmp_path, model)
    segment = bundle.segment(bundle.segment_for('users'))
    assert (segment.opset, segment.ir_version) == (17, 8)
    assert_equal(run(segments[segment.segment_id].path, given), run(model, given))


def test_a_newer_model_that_cannot_be_converted_is_refused(tmp_path, capsys):
    nodes = [helper.make_node('Gelu', ['x'], ['y'], 'gelu')]
    model = models.model_of(nodes, [models.tensor('x', [1, 4])], [models.tensor('y', [1, 4])],
                            {}, opset=20, ir_version=9)
    said = refusal(tmp_path, capsys, model, '--task', 'other')
    assert 'opset 20' in said
    assert 'opset_version=17' in said


@pytest.mark.parametrize(('shape', 'said'), [
    (['N', 3, 'H', 'W'], 'leaves H, W open: say --input-shape image:1,3,N,N'),
    (None, 'has no shape'),
])
def test_open_extents_are_asked_for(tmp_path, capsys, shape, said):
    model = models.model_of([*models.body(), *models.top()], [models.tensor('image', shape)],
                            [models.tensor('scores', None)], models.weights())
    assert said in refusal(tmp_path, capsys, model)
    bundle, _ = imported(tmp_path, model, '--input-shape', 'image:1,3,40,48')
    assert bundle.input.shape == (1, 3, 40, 48)


@pytest.mark.parametrize(('words', 'said'), [
    (('--input-shape', 'image:1,3,32,32,1'), 'has 4 extents'),
    (('--input-shape', 'image:1,3,16,16'), 'extent 32 at axis 2'),
    (('--input-shape', 'photo:1,3,32,32'), 'no input photo, it has image'),
    (('--input-shape', 'image'), 'say NAME:1,3,224,224'),
    (('--std', '0.2,0,0.2'), '--std 0.2,0,0.2 is not three numbers above 0'),
    (('--mean', 'grey'), '--mean grey is not three numbers'),
    (('--scale', '0'), '--scale 0 is no number above 0'),
    (('--accuracy', '76'), '--accuracy 76 is no ratio'),
    (('--cuts', '-1'), 'say 0 to 64'),
    (('--half', 'much'), '--half much'),
    (('--classes', '/nowhere/names.txt'), 'names.txt cannot be read'),
])
def test_bad_words_are_told_in_one_line(tmp_path, capsys, words, said):
    assert said in refusal(tmp_path, capsys, models.classifier(), *words)


def test_what_is_no_classifier_is_told_so(tmp_path, capsys):
    said = refusal(tmp_path, capsys, models.detector())
    assert '--task other' in said
    fixed = models.classifier(batch=4)
    assert '(4, 3, 32, 32)' in refusal(tmp_path, capsys, fixed)


def test_outputs_whose_shape_depends_on_values_are_refused(tmp_path, capsys):
    said = refusal(tmp_path, capsys, models.choosing_boxes(), '--task', 'other')
    assert 'NonMaxSuppression' in said
    assert 'kept' in said


def test_operators_of_others_are_refused(tmp_path, capsys):
    model = models.classifier()
    model.graph.node[2].domain = 'com.example'
    model.opset_import.append(helper.make_opsetid('com.example', 1))
    assert 'Relu of com.example' in refusal(tmp_path, capsys, model)


def test_files_that_are_no_models_are_told_so(tmp_path, capsys):
    for name, content in (('text.onnx', b'hello, this is no model'), ('empty.onnx', b''),
                          ('noise.onnx', bytes(range(256)) * 9)):
        path = tmp_path / name
        path.write_bytes(content)
        said = refusal(tmp_path, capsys, path)
        assert 'no ONNX model' in said or 'holds no graph' in said
    assert 'cannot be read' in refusal(tmp_path, capsys, tmp_path / 'missing.onnx')
    content = models.classifier().SerializeToString()
    (tmp_path / 'short.onnx').write_bytes(content[:len(content) // 2])
    assert 'crowdhmt: ' in refusal(tmp_path, capsys, tmp_path / 'short.onnx')


def test_sizes_that_are_claimed_are_not_believed(tmp_path, capsys):
    model = models.classifier()
    model.graph.initializer[0].dims[0] = 1 << 40
    assert 'malformed' in refusal(tmp_path, capsys, model)
    huge = models.model_of(
        [helper.make_node('Expand', ['x', 'to'], ['y'], 'expand')], [models.tensor('x', [1, 4])],
        [models.tensor('y', None)], {'to': np.array([1 << 40, 4], np.int64)})
    assert 'would take' in refusal(tmp_path, capsys, huge, '--task', 'other')


@pytest.mark.parametrize(('change', 'said'), [
    ({'location': '../secret.data'}, 'must be in the folder of the model'),
    ({'location': '/etc/hostname'}, 'must be in the folder of the model'),
    ({'location': 'link.data'}, 'must be in the folder of the model'),
    ({'location': 'missing.data'}, 'which is missing'),
    ({'offset': '99999999'}, 'ends before'),
    ({'length': '7'}, 'does not fit'),
    ({'offset': '-4'}, 'is no number of bytes'),
])
def test_data_elsewhere_is_not_read(tmp_path, capsys, change, said):
    path = models.save(models.classifier(), tmp_path / 'users.onnx', beside=True)
    (tmp_path / 'link.data').symlink_to('/etc/hostname')
    model = onnx.load(path, load_external_data=False)
    tensor = next(t for t in model.graph.initializer
                  if t.data_location == TensorProto.EXTERNAL)
    place = {**{e.key: e.value for e in tensor.external_data}, **change}
    del tensor.external_data[:]
    for key, value in place.items():
        tensor.external_data.add(key=key, value=value)
    path.write_bytes(model.SerializeToString())
    assert said in refusal(tmp_path, capsys, path)


def test_a_folder_with_other_things_is_left_alone(tmp_path, capsys):
    home = tmp_path / 'home'
    home.mkdir()
    (home / 'letter.txt').write_text('dear')
    source = models.save(models.classifier(), tmp_path / 'users.onnx')
    assert cli.main(['import', str(source), '--out', str(home)]) == 2
    assert 'would be lost' in capsys.readouterr().err
    assert (home / 'letter.txt').read_text() == 'dear'


def broken(change):
    """Return a classifier with one thing in it that no exporter writes."""
    model = models.classifier()
    change(model)
    return model.SerializeToString()


@pytest.mark.parametrize(('content', 'said'), [
    (models.classifier().SerializeToString().replace(b'scores', b'sc\x96res'), 'no text'),
    (broken(lambda m: m.graph.input[0].type.tensor_type.shape.dim[0].__setattr__(
        'dim_value', 1 << 40)), 'would take'),
    (broken(lambda m: m.graph.input[0].type.tensor_type.__setattr__(
        'elem_type', TensorProto.STRING)), 'is no tensor of'),
    (broken(lambda m: m.graph.node.reverse()), 'malformed'),
    (broken(lambda m: m.graph.node[0].__setattr__('op_type', 'Convolute')), 'malformed'),
    (broken(lambda m: m.opset_import[0].__setattr__('version', 99)), 'opset 99'),
    (broken(lambda m: m.graph.initializer[0].__setattr__('data_type', 99)), 'unknown type 99'),
])
def test_what_no_exporter_writes_is_told_in_one_line(tmp_path, capsys, content, said):
    path = tmp_path / 'users.onnx'
    path.write_bytes(content)
    assert said in refusal(tmp_path, capsys, path)
