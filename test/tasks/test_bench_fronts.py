# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The bench parts that judge trained families again."""
import json
from dataclasses import asdict

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
    first = (tmp_path / 'images' / 'front-tiny.svg').read_bytes()
    page.write_page(judged, tmp_path)
    assert (tmp_path / 'images' / 'front-tiny.svg').read_bytes() == first
    assert len(first) < 60_000


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
    assert set(drawn.LOSSES) <= set(figures)


def judged_points():
    listed = (Point('full', 10.0, 0.70), Point('a', 2.0, 0.66), Point('b', 2.2, 0.64),
              Point('c', 0.9, 0.60))
    random = (Point('r', 5.0, 0.60), Point('s', 3.0, 0.66))
    return drawn.Judged(1, listed, random, random, {
        'full': 0.7, 'a': 0.62, 'b': 0.65, 'c': 0.6, 'r': 0.5, 's': 0.6})


def test_the_variant_for_a_latency_is_chosen_on_data_held_back():
    figures = {f.key: f for f in drawn.figures_of([judged_points()])}
    assert figures['cifar100_loss_pt_at_4x'].value == pytest.approx(6.0)
    assert figures['cifar100_loss_pt_at_10x'].value == pytest.approx(10.0)
    against = {f.key: f for f in drawn.figures_of([judged_points()], {1: 0.72})}
    assert against['cifar100_loss_pt_at_4x'].value == pytest.approx(8.0)
    assert against[drawn.LARGEST].value == pytest.approx(2.0)


def test_the_share_near_the_front_counts_five_points():
    figures = {f.key: f for f in drawn.figures_of([judged_points()])}
    assert figures[drawn.NEAR].value == pytest.approx(0.5)
    assert not figures[drawn.NEAR].holds
