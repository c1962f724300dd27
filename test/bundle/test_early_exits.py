# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A variant of a bundle that may answer early: written, checked, run."""
from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil

import numpy as np
import pytest

pytest.importorskip('onnx', reason='writing bundles needs the extra train')
torch = pytest.importorskip('torch', reason='training needs the extra train')

from crowdhmt_ros.bundle.entries import CrossingFigure  # noqa: E402
from crowdhmt_ros.bundle.materialise import materialise  # noqa: E402
from crowdhmt_ros.bundle.reader import open_bundle  # noqa: E402
from crowdhmt_ros.bundle.reopen import description_of, family_of  # noqa: E402
from crowdhmt_ros.bundle.writer import Description, write_bundle  # noqa: E402
from crowdhmt_ros.elastic.backbones.resnet import residual  # noqa: E402
from crowdhmt_ros.elastic.export import export_family  # noqa: E402
from crowdhmt_ros.elastic.make_elastic import make_elastic  # noqa: E402
from crowdhmt_ros.elastic.transformation import calibrate  # noqa: E402
from crowdhmt_ros.engine.backends import make_backend  # noqa: E402
from crowdhmt_ros.engine.cascade import Cascade, confidence  # noqa: E402
from crowdhmt_ros.engine.pool import Pool  # noqa: E402
from crowdhmt_ros.errors import BundleError, ExportError  # noqa: E402
from crowdhmt_ros.executor import Executor  # noqa: E402
from crowdhmt_ros.graph.split import border_of  # noqa: E402
from crowdhmt_ros.profiling.front import counted_tables  # noqa: E402
from crowdhmt_ros.profiling.remote_front import build_remote  # noqa: E402
from crowdhmt_ros.types import EarlyExit, EnergyCoefficients, InputSpec  # noqa: E402
from crowdhmt_ros.vision.frame import Frame  # noqa: E402
from crowdhmt_ros.vision.preprocess import Preprocessor  # noqa: E402

EDGE = 32
EARLY = (EarlyExit(0, 'early-exit0', 0.5, 2.0, 0.4), EarlyExit(1, 'early-exit1', 0.6, 1.0, 0.3))
DESCRIPTION = Description(
    'tiny', 'image_classification', ('a', 'b', 'c'),
    InputSpec('image', 'float32', (1, 3, EDGE, EDGE), 'rgb', 'area', 1 / 255, (0.5,) * 3,
              (0.25,) * 3),
    {'any': (0.0, 1.0)}, {'early': {'photos': (0.8, 10)}, 'plain': {'photos': (0.81, 10)}},
    {'seed': 1}, early_exits={'early': EARLY})


@pytest.fixture(scope='module')
def family():
    torch.manual_seed(0)
    example = torch.zeros(2, 3, EDGE, EDGE)
    net = make_elastic(residual(3, widths=(16, 16, 24), blocks=1, edge=64), example,
                       exits=(1, 2)).net
    statistics = calibrate(net, [net.whole()], [torch.randn(16, 3, EDGE, EDGE)])
    return export_family(net, {'plain': net.whole(), 'early': net.whole()}, statistics,
                         example[:1], early={'early': (0, 1)})


@pytest.fixture(scope='module')
def written(family, tmp_path_factory):
    directory = tmp_path_factory.mktemp('bundle') / 'tiny'
    write_bundle(family, DESCRIPTION, directory, tolerance=1e-5)
    return directory


@pytest.fixture(scope='module')
def segments(written, tmp_path_factory):
    return materialise(open_bundle(written), tmp_path_factory.mktemp('cache'))


def pool_of(segments, *rules):
    """A pool whose segments stop by other rules than the bundle's."""
    changed = {name: s if s.early_exit is None else dataclasses.replace(
        s, early_exit=rules[s.early_exit.exit_index]) for name, s in segments.items()}
    return Pool(make_backend('onnxruntime'), changed)


def rule(number, threshold, temperature=1.0):
    return EarlyExit(number, 'early-exit%d' % number, threshold, temperature, 0.3)


ALWAYS, NEVER = 0.0, float(np.nextafter(1.0, 0.0))


def candidate_of(bundle, name):
    return next(c for c in bundle.candidates((1,), ('fast',)) if c.variant_id == name)


def test_it_runs_step_by_step_and_is_named_like_any_other(written):
    bundle = open_bundle(written)
    early, plain = candidate_of(bundle, 'early'), candidate_of(bundle, 'plain')
    assert [(s.role, s.segment_id) for s in early.placement.segments] == [
        ('exit', 'early-exit0'), ('exit', 'early-exit1'), ('end', 'early-end')]
    assert early.placement.is_early
    assert not plain.placement.is_early
    assert early.candidate_id == 'early/local/onnxruntime/1t/fast'
    assert early.placement.label == 'local'
    assert early.placement.peers == ()


def test_what_a_frame_takes_is_the_mean_over_its_exits(written):
    bundle = open_bundle(written)
    work = [sum(c.macs for c in bundle.layer_costs(name))
            for name in ('early-exit0', 'early-exit1', 'early-end')]
    assert bundle.macs('early') == round(work[0] + 0.6 * work[1] + 0.3 * work[2])
    assert bundle.macs('early') < bundle.macs('plain')
    assert bundle.manifest.front == ('plain', 'early')


def test_the_steps_cost_no_weights_beside_those_of_the_exits(written):
    bundle = open_bundle(written)
    plain = {bundle.manifest.recipes[i].tensor
             for i in bundle.segment('plain-whole').recipes}
    own = {bundle.manifest.recipes[i].tensor for name in ('early-exit0', 'early-exit1',
                                                          'early-end')
           for i in bundle.segment(name).recipes} - plain
    assert own == {'exits.0.weight', 'exits.0.bias', 'exits.1.weight', 'exits.1.bias'}


def test_it_is_no_head_for_a_peer(written):
    bundle = open_bundle(written)
    assert bundle.heads() == ()


def test_a_head_that_gives_an_answer_of_its_own_is_not_offered_to_peers(family, tmp_path):
    plain, early = family.graphs
    border = border_of(early.model, 'exit1')
    carrying = dataclasses.replace(early, exits={}, cuts={'carrying': (border,)})
    cut = dataclasses.replace(plain, cuts={'plain-cut': (border,)})
    figures = tuple(CrossingFigure(name, cut_id, 'int8', 900.0, 0.0, 5)
                    for name, cut_id in (('early', 'carrying'), ('plain', 'plain-cut')))
    write_bundle(dataclasses.replace(family, graphs=(cut, carrying)),
                 dataclasses.replace(DESCRIPTION, early_exits={}, crossings=figures),
                 tmp_path / 'b', tolerance=1e-5)
    bundle = open_bundle(tmp_path / 'b')
    assert [o.name for o in bundle.segment('carrying-head').outputs] == [border, 'exit0']
    assert {h.placement.segments[0].segment_id for h in bundle.heads()} == {'plain-cut-head'}
    segments = materialise(bundle, tmp_path / 'cache')
    offered = build_remote(bundle, counted_tables(bundle, segments), EnergyCoefficients(1e-12),
                           segments=segments)
    assert {o.head_segment_id for o in offered} == {'plain-cut-head'}


def test_segments_on_the_device_know_when_to_stop(segments):
    assert segments['early-exit0'].early_exit == EARLY[0]
    assert segments['early-exit1'].early_exit == EARLY[1]
    assert segments['early-end'].early_exit is None
    assert segments['early-whole'].early_exit is None
    assert segments['plain-whole'].early_exit is None


@pytest.mark.parametrize(('first', 'second', 'exit_index', 'output'), [
    (ALWAYS, ALWAYS, 0, 1), (NEVER, ALWAYS, 1, 2), (NEVER, NEVER, 2, 0)])
def test_the_executor_answers_from_the_exit_that_is_sure(
        written, segments, first, second, exit_index, output):
    bundle = open_bundle(written)
    pool = pool_of(segments, rule(0, first), rule(1, second))
    executor = Executor(bundle.classes, Preprocessor(bundle.input))
    candidate = candidate_of(bundle, 'early')
    executable = pool.prepare(candidate)
    assert isinstance(executable, Cascade)
    executor.switch(candidate, executable, 1)
    image = np.random.default_rng(1).integers(0, 256, (48, 64, 3), np.uint8)
    found = executor.infer(Frame(image, 0, 'camera', 0.0))
    assert found.exit_index == exit_index
    whole = pool._backend.compile(segments['early-whole'], candidate.engine)
    outputs = [np.zeros(o.shape, np.float32) for o in whole.outputs]
    whole.run((executor._input,), outputs)
    wanted = np.exp(outputs[output][0]) / np.exp(outputs[output][0]).sum()
    np.testing.assert_allclose(found.scores, wanted, atol=1e-4)
    assert max(found.scores) == pytest.approx(confidence(outputs[output]), abs=1e-4)


def test_one_that_is_switched_to_again_is_the_same(written, segments):
    bundle = open_bundle(written)
    pool = Pool(make_backend('onnxruntime'), segments)
    candidate = candidate_of(bundle, 'early')
    assert pool.get(candidate) is None
    first = pool.prepare(candidate)
    assert pool.get(candidate) is first
    assert pool.prepare(candidate) is first
    assert len(pool.evict_to(0.0)) == 1
    assert pool.get(candidate) is None
    assert pool.prepare(candidate) is not first


def test_what_stays_of_it_in_the_pool_lets_go_of_its_memory(written, segments):
    pool = Pool(make_backend('onnxruntime'), segments)
    candidate = candidate_of(open_bundle(written), 'early')
    pool.prepare(candidate)
    pool.evict_to(0.0)
    assert pool.memory_bytes == 0
    assert not list(pool._cascades)


def test_a_bundle_that_is_opened_and_written_again_stays_as_it_is(written, tmp_path):
    bundle = open_bundle(written)
    write_bundle(family_of(bundle), description_of(bundle), tmp_path / 'again', tolerance=1e-5)
    again = open_bundle(tmp_path / 'again')
    assert again.early_exits('early') == EARLY
    assert again.early_exits('plain') == ()
    assert again.sha256 == bundle.sha256


def test_graph_and_rules_must_name_the_same_exits(family, tmp_path):
    for early in ((), EARLY[:1], (EARLY[0], dataclasses.replace(EARLY[1], cut_id='other'))):
        other = dataclasses.replace(DESCRIPTION, early_exits={'early': early})
        with pytest.raises(ExportError, match='early exits'):
            write_bundle(family, other, tmp_path / 'other', tolerance=1e-5)


def test_one_that_answers_early_is_not_cut_for_peers_as_well(family, tmp_path):
    plain, early = family.graphs
    cut = dataclasses.replace(early, cuts={'c': ('anything',)})
    with pytest.raises(ExportError, match='answers early'):
        write_bundle(dataclasses.replace(family, graphs=(plain, cut)), DESCRIPTION,
                     tmp_path / 'cut', tolerance=1e-5)


def of(manifest, name='early'):
    return next(v for v in manifest['variants'] if v['variant_id'] == name)


def step(manifest, name):
    return next(s for s in manifest['segments'] if s['segment_id'] == name)


def crossing():
    return {'variant_id': 'early', 'cut_id': '', 'codec': 'jpeg', 'bytes_mean': 900.0,
            'accuracy_drop': 0.0, 'count': 5}


@pytest.mark.parametrize(('change', 'finding'), [
    (lambda m: of(m)['early_exits'][0].update(threshold=1.5), 'threshold is 1.5'),
    (lambda m: of(m)['early_exits'][0].update(threshold=1.0), 'must lie below 1'),
    (lambda m: of(m)['early_exits'][0].update(temperature=0.0), 'temperature is 0'),
    (lambda m: of(m)['early_exits'][0].update(ratio=0.9), 'must not exceed 1 together'),
    (lambda m: of(m)['early_exits'][1].update(exit_index=0), 'ascending'),
    (lambda m: of(m)['early_exits'][1].update(exit_index=2), 'below 2'),
    (lambda m: of(m)['early_exits'].pop(), 'no early exit of it names'),
    (lambda m: of(m).update(early_exits=None), 'no early exit of it names'),
    (lambda m: of(m)['early_exits'][1].update(cut_id='gone'), 'has no exit segment'),
    (lambda m: of(m, 'plain').update(early_exits=of(m)['early_exits']),
     'variant plain answers early but has no exit segment'),
    (lambda m: step(m, 'early-exit0')['outputs'][0].update(shape=[1, 4]), 'gives float32'),
    (lambda m: step(m, 'early-end')['outputs'][0].update(dtype='float16'), 'gives float32'),
    (lambda m: step(m, 'early-exit1')['inputs'].reverse() or step(
        m, 'early-exit1')['inputs'][0].update(name='other'), 'does not go on'),
    (lambda m: step(m, 'early-exit0')['outputs'].pop(), 'does not go on'),
    (lambda m: step(m, 'early-end')['outputs'].append(
        {'name': 'more', 'dtype': 'float32', 'shape': [1]}), 'does not go on'),
    (lambda m: m.update(crossings=[crossing()]), 'is not shared with peers')])
def test_a_manifest_whose_steps_do_not_fit_is_refused(written, tmp_path, change, finding):
    directory = tmp_path / 'copy'
    shutil.copytree(written, directory)
    manifest = json.loads((directory / 'manifest.json').read_text())
    change(manifest)
    content = json.dumps(manifest).encode()
    (directory / 'manifest.json').write_bytes(content)
    (directory / 'manifest.json.sha256').write_text(hashlib.sha256(content).hexdigest())
    with pytest.raises(BundleError, match=finding) as caught:
        open_bundle(directory)
    assert '\n' not in str(caught.value)
