# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The bench parts that judge trained families again."""
import json
from dataclasses import asdict, replace

import cv2
import numpy as np
import pytest
import torch

from benchmarks import _training_fronts as fronts
from benchmarks import _training_logs as logs
from benchmarks import _training_page as page
from benchmarks import _training_random as drawn
from crowdhmt_ros.elastic.store import Reference, elastic_of, save_family
from crowdhmt_ros.elastic.transformation import calibrate
from crowdhmt_ros.errors import ConfigError, DataError
from crowdhmt_ros.tasks.evaluation import accuracies
from crowdhmt_ros.tasks.fronts import Point
from crowdhmt_ros.tasks.material import open_material
from crowdhmt_ros.tasks.task import DataPlan, InputScaling, Task
from crowdhmt_ros.types import OperatorChoice, Variant, variant_to_json

BACKBONE = Reference('residual', 4, {'widths': [8, 16], 'blocks': 1, 'edge': 32})
HALF = (OperatorChoice('channel', (('ratio', 0.5),)),)


def tiny_task():
    plan = DataPlan('tiny_train.npz', 'tiny_test.npz', held_back_ratio=0.25)
    return Task('tiny', plan, BACKBONE, (1,), 'none', 'none',
                InputScaling((0.5,) * 3, (0.25,) * 3, 1 / 255))


def write_images(path, images):
    files = [cv2.imencode('.png', image)[1].reshape(-1) for image in images]
    np.savez(path, blob=np.concatenate(files), y=np.arange(len(images)) % 4,
             offsets=np.cumsum([0, *map(len, files)]), classes=np.array(list('abcd')))


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """Make data, an untrained family, and the log that a training of it would leave."""
    root = tmp_path_factory.mktemp('trained')
    data, kept, run = root / 'data', root / 'kept', root / 'runs' / 'tiny-1'
    for folder in (data, kept, run):
        folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name in ('tiny_train.npz', 'tiny_test.npz'):
        write_images(data / name, rng.integers(0, 256, (48, 32, 32, 3), np.uint8))
    task = tiny_task()
    torch.manual_seed(0)
    net = elastic_of(task.backbone, task.exits)
    variants = {'full': net.whole(), 'half': Variant((HALF, HALF), 1)}
    material = open_material(task, data, seed=1)
    statistics = calibrate(net, variants.values(), material.train.unvaried(1, 32, 0))
    save_family(net, kept / 'any.pt', backbone=task.backbone, statistics=statistics)
    log = {'definition': asdict(task), 'seed': 1, 'held_out': [], 'described': 'noise',
           'variants': {n: variant_to_json(v) for n, v in variants.items()},
           'accuracy': accuracies(net, variants, statistics, material.test), 'cpu_s': 1.5,
           'family_sha256': logs.sha256_of(kept / 'any.pt'), 'command': 'crowdhmt train tiny'}
    (run / 'log.json').write_text(json.dumps(log))
    return data, kept, run.parent


def test_a_task_comes_back_from_its_log():
    task = tiny_task()
    assert logs.task_of(json.loads(json.dumps(asdict(task)))) == task


def test_families_are_found_by_their_sha256_and_missing_ones_named_with_the_command(
        trained, tmp_path):
    _, kept, folder = trained
    runs = logs.read_runs(folder)
    assert logs.families(runs, kept) == {'tiny-1': kept / 'any.pt'}
    said = logs.missing(runs, {}, tmp_path)
    assert 'crowdhmt train tiny' in said[0]
    assert logs.missing(runs, logs.families(runs, kept), kept) == []


def test_a_damaged_log_is_named(tmp_path):
    (tmp_path / 'bad').mkdir()
    (tmp_path / 'bad' / 'log.json').write_text('{"family_sha256": "x"}')
    with pytest.raises(DataError, match=r'log\.json is no log of a training'):
        logs.read_runs(tmp_path)


def test_judged_again_a_family_reaches_what_its_log_says_and_is_drawn(
        trained, tmp_path, monkeypatch):
    data, kept, folder = trained
    monkeypatch.setattr(fronts, 'OTHERS', 3)
    monkeypatch.setattr(fronts, 'shown_variants', lambda net: (net.whole(),))
    judged = fronts.judge_all(logs.read_runs(folder), kept, data, quick=True)
    assert len(judged[0].accuracy) > len(judged[0].run.variants)  # few are logged
    figures = {f.key: f for f in fronts.figures_of(judged)}
    assert figures[fronts.AGAIN].holds
    assert figures[fronts.AGAIN].value == pytest.approx(0.0, abs=1e-9)
    assert not figures['har_accuracy'].holds
    pytest.importorskip('matplotlib')
    text = page.write_page(judged, tmp_path).read_text()
    assert 'seed 1' in text
    assert '| `half` |' in text
    assert '## campus7' in text
    assert '| `w038d1e0` | 9.54 | **80.99** |' in text
    first = (tmp_path / 'images' / 'front-tiny.svg').read_bytes()
    page.write_page(judged, tmp_path)
    assert (tmp_path / 'images' / 'front-tiny.svg').read_bytes() == first
    assert len(first) < 60_000


def test_variants_that_two_families_of_a_task_share_are_timed_once(trained, monkeypatch):
    data, kept, folder = trained
    monkeypatch.setattr(fronts, 'FEW', 0)
    calls = []
    measure = fronts.latencies
    monkeypatch.setattr(fronts, 'latencies', lambda *given, **options: calls.append(given) or
                        measure(*given, **options))
    run, timed = logs.read_runs(folder)[0], {}
    first, again = (fronts.judge(run, kept / 'any.pt', data, rounds=2, timed=timed)
                    for _ in range(2))
    assert first.latency_s == again.latency_s
    assert len(calls) == 1


def test_a_family_that_is_not_there_keeps_the_claim_from_holding(trained, tmp_path):
    data, _, folder = trained
    figures = fronts.front_figures(logs.read_runs(folder), tmp_path, data, quick=True)
    assert figures[0].holds is False
    assert 'make it with: crowdhmt train tiny' in figures[0].how
    with pytest.raises(ConfigError, match='no family was found'):
        page.write_page([], tmp_path)


def test_drawn_variants_are_judged_beside_the_listed_ones(trained, monkeypatch):
    monkeypatch.setattr(drawn, 'QUICK_DRAWN', 3)
    data, kept, folder = trained
    run = logs.read_runs(folder)[0]
    figures = {f.key: f for f in drawn.random_figures(
        [(run, kept / 'any.pt')], data, backbones={1: 0.5}, quick=True)}
    assert 0.0 <= figures[drawn.NEAR].value <= 1.0
    assert figures[drawn.LARGEST].value is not None
    assert {'cifar100_loss_pt_at_4x', 'cifar100_loss_pt_at_10x'} <= set(figures)


def judged_points():
    listed = (Point('full', 10.0, 0.70), Point('a', 2.0, 0.66), Point('b', 2.2, 0.64),
              Point('c', 0.9, 0.60))
    random = (Point('r', 5.0, 0.60), Point('s', 3.0, 0.66))
    return drawn.Judged(1, listed, random, random, {
        'full': 0.7, 'a': 0.62, 'b': 0.65, 'c': 0.6, 'r': 0.5, 's': 0.6},
        {'full': 0.71, 'b': 0.65, 'c': 0.61})


def test_the_variant_for_a_latency_is_chosen_on_data_held_back_and_told_of_the_whole_test_part():
    one = judged_points()
    figures = {f.key: f for f in drawn.figures_of([one, replace(one, seed=2)], {1: 0.72, 2: 0.72})}
    assert figures['cifar100_loss_pt_at_4x'].value == pytest.approx(7.0)
    assert figures['cifar100_loss_pt_at_10x'].value == pytest.approx(11.0)
    assert figures[drawn.LARGEST].value == pytest.approx(1.0)
    assert figures['cifar100_backbone_accuracy'].holds


def test_without_the_backbone_alone_or_with_one_seed_no_loss_holds():
    one = replace(judged_points(), whole_test={'full': 0.6, 'b': 0.6, 'c': 0.6})
    for judged, backbones in (([one], {1: 0.6}), ([one, replace(one, seed=2)], {1: 0.6})):
        figures = {f.key: f for f in drawn.figures_of(judged, backbones)}
        assert figures['cifar100_loss_pt_at_4x'].value == pytest.approx(0.0)
        assert not figures['cifar100_loss_pt_at_4x'].holds


def test_the_full_width_has_targets_of_its_own_and_no_drawn_variants():
    one = judged_points()
    found = drawn.figures_of([one, replace(one, seed=2)], {1: 0.72, 2: 0.72},
                             task='cifar100_full', drawn_too=False)
    assert {f.key: f.target for f in found} == {
        'cifar100_full_backbone_accuracy': 0.762, 'cifar100_full_loss_pt_at_4x': 1.5,
        'cifar100_full_loss_pt_at_10x': 4.0}


def test_the_share_near_the_front_counts_five_points():
    figures = {f.key: f for f in drawn.figures_of([judged_points()], {})}
    assert figures[drawn.NEAR].value == pytest.approx(0.5)
    assert not figures[drawn.NEAR].holds


def folded(fold, seed, **accuracy):
    """Make a family judged on a fold: a whole network and cheaper variants of it."""
    task = replace(tiny_task(), name='esc10')
    run = logs.Run('esc10-fold%s-%d' % (fold, seed), task, seed, (fold,), '', {},
                   {'full': 0.9}, 1.0, '', '')
    macs = {'full': 80, 'lean': 10, 'thin': 8, 'half': 40}
    return fronts.Judged(run, 'full', {'full': 0.9, 'half': 0.9, **accuracy}, macs, macs)


def esc10_figures(judged):
    return {f.key: f for f in fronts.figures_of(judged) if f.key.startswith('esc10')}


def test_every_fold_of_every_seed_must_be_there():
    whole = [folded(f, s, lean=0.88, thin=0.8) for f in 'abc' for s in (1, 2)]
    figures = esc10_figures(whole)
    assert figures['esc10_accuracy'].holds
    assert figures['esc10_loss_pt_at_8x_macs'].holds
    figures = esc10_figures(whole[:4:2] + whole[4:])  # all folds of seed 1, one of seed 2
    assert not figures['esc10_accuracy'].holds
    assert not figures['esc10_loss_pt_at_8x_macs'].holds
    assert 'not all of them' in figures['esc10_accuracy'].how


def test_the_cheap_variant_is_chosen_on_other_folds_and_its_loss_told_of_its_own():
    judged = [folded('a', 1, lean=0.5, thin=0.9), folded('b', 1, lean=0.9, thin=0.7),
              folded('c', 1, lean=0.9, thin=0.7)]
    lost, told = fronts.lost_by_folds(judged, 8.0)
    # On b and c lean is better, and loses 40 points on a; on the others thin is, and loses 20.
    assert lost == pytest.approx((40 + 20 + 20) / 3)
    assert told == 'lean at 8.0x, thin at 10.0x, thin at 10.0x'
    assert fronts.lost_by_folds(judged[:1], 8.0) == (None, 'none')
    assert fronts.lost_by_folds([], 8.0)[0] is None
    assert fronts.lost_by_folds(judged, 20.0)[0] is None
