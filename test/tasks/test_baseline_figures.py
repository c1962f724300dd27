# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Margins over baselines are taken at equal latency; the trainings behind them are listed once."""
from __future__ import annotations

import contextlib
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip('torch')

from benchmarks import _training_baseline_runs as runs  # noqa: E402
from benchmarks import _training_baselines as figures  # noqa: E402
from benchmarks._training_baselines import (  # noqa: E402
    FAMILY,
    MARGIN,
    MARGIN_OFA,
    figures_of,
    margins,
)
from benchmarks._training_shelf import (  # noqa: E402
    Opened,
    Plan,
    Shelf,
    is_done,
    log_of,
    train_all,
)
from crowdhmt_ros.elastic.store import Reference  # noqa: E402
from crowdhmt_ros.elastic.teaching.batches import MemoryBatches  # noqa: E402
from crowdhmt_ros.elastic.teaching.recipe import PhaseRecipe, Recipe  # noqa: E402
from crowdhmt_ros.errors import ConfigError, DataError  # noqa: E402
from crowdhmt_ros.tasks.baselines import Frame  # noqa: E402
from crowdhmt_ros.tasks.fronts import Point, front_of  # noqa: E402
from crowdhmt_ros.tasks.material import Labelled, Material  # noqa: E402
from crowdhmt_ros.tasks.task import DataPlan, InputScaling, Task  # noqa: E402

TASK = Task('tiny', DataPlan('a', 'b'),
            Reference('residual', 3, {'widths': (16,), 'blocks': 1, 'edge': 32}), (), 'none')
FRAME = Frame(Recipe((PhaseRecipe('backbone', 1, 0.05),), batch_size=8), 1)


def _front(*points):
    return front_of(Point('v%g' % cost, cost, accuracy) for cost, accuracy in points)


def test_fronts_are_compared_at_the_latencies_asked_for():
    family = _front((1.0, 0.7), (0.5, 0.6), (0.25, 0.5), (0.125, 0.4))
    baseline = _front((1.0, 0.7), (0.5, 0.5), (0.25, 0.45), (0.125, 0.3))
    found = margins(family, baseline, 1.0)
    assert [(m.asked, m.speedup) for m in found] == [(2.0, 2.0), (4.0, 4.0), (8.0, 8.0)]
    assert [m.points for m in found] == pytest.approx([10.0, 5.0, 10.0])


def test_a_baseline_that_is_not_so_fast_is_compared_once_where_it_is_fastest():
    family = _front((1.0, 0.7), (0.5, 0.6), (0.125, 0.4))
    found = margins(family, _front((1.0, 0.72), (0.5, 0.65)), 1.0)
    assert [(m.asked, m.speedup) for m in found] == [(2.0, 2.0)]
    assert found[0].points == pytest.approx(-5.0)


def test_a_family_that_is_not_so_fast_has_no_accuracy_there():
    found = margins(_front((1.0, 0.7)), _front((1.0, 0.7), (0.5, 0.5)), 1.0, (2.0,))
    assert found[0].points == pytest.approx(-50.0)


def test_each_baseline_counts_alike_in_the_mean_and_one_seed_is_not_enough():
    family = _front((1.0, 0.7), (0.5, 0.6), (0.25, 0.5), (0.125, 0.4))
    slow, ofa = _front((0.6, 0.5)), _front((0.5, 0.61), (0.25, 0.51), (0.125, 0.41))
    mobile = front_of([Point('mobilenet_v2-10:whole', 0.5, 0.55)])
    seed = {FAMILY: family, 'svd': slow, 'ofa': ofa, 'mobilenet_v2': mobile}
    found = {f.key: f for f in figures_of({1: seed, 2: seed}, 1.0)}
    expected = {'svd': 100 * (0.6 + 0.1 * np.log(1.2) / np.log(2.0) - 0.5), 'ofa': -1.0,
                'mobilenet_v2': 5.0}
    for side, value in expected.items():
        assert found['baseline_margin_pt/' + side].value == pytest.approx(value)
    assert found[MARGIN].value == pytest.approx(np.mean(list(expected.values())))
    assert found[MARGIN].holds is True
    assert (found[MARGIN_OFA].value, found[MARGIN_OFA].holds) == (pytest.approx(-1.0), False)
    assert found['mobilenet_v2-10'].value == pytest.approx(55.0)
    assert 'its fastest, not 2x' in found['baseline_margin_pt/svd'].how
    alone = {f.key: f for f in figures_of({1: seed}, 1.0)}
    assert alone[MARGIN].holds is False


def test_the_committed_choices_name_eleven_trainings_of_six_kinds():
    choices = runs.read_choices()
    found = runs.runs_of(replace(TASK, name=choices.task), choices, 1)
    assert len({r.name for r in found}) == len(found) == 11
    assert {r.baseline for r in found} == {
        'svd', 'fire', 'slimmable', 'ofa', runs.STATIC, runs.MOBILENET}
    assert sorted(choices.static) == [2.0, 4.0, 8.0]


def test_choices_that_cannot_be_read_are_one_clear_error(tmp_path):
    (tmp_path / 'baselines.yaml').write_text('task: x\n', 'utf-8')
    with pytest.raises(ConfigError, match='choose'):
        runs.read_choices(tmp_path / 'baselines.yaml')


@pytest.fixture(scope='module')
def material():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 16)
    inputs = rng.normal(size=(16, 3, 32, 32)).astype(np.float32)
    part = Labelled(torch.from_numpy(inputs), torch.from_numpy(labels))
    return Material(MemoryBatches(inputs, labels), part, part, ('a', 'b', 'c'),
                    InputScaling((0.0,) * 3, (1.0,) * 3), 'noise')


@pytest.fixture(scope='module')
def trained(tmp_path_factory, material):
    """A shelf with one baseline of a tiny task, and that baseline."""
    folder = tmp_path_factory.mktemp('shelf')
    shelf = Shelf(folder, folder / 'checkpoints', folder / 'logs')
    run = next(r for r in runs.runs_of(TASK, runs.Choices('tiny', (), {}), 3)
               if r.label == 'slimmable')
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runs, 'material_at', lambda name, data, fold, seed: ((), material))
        patch.setattr(runs, 'named_recipe', lambda name: FRAME.recipe)
        assert train_all([run], shelf, lambda line: None) == 1
        assert train_all([run], shelf, lambda line: None) == 0
        yield shelf, run


def test_a_training_leaves_its_log_and_a_net_that_answers(trained):
    shelf, run = trained
    log = log_of(run, shelf)
    net, _, course = runs.opened_run(run, shelf)
    assert set(log['accuracy']) == set(log['variants']) == set(course.measured)
    assert (log['device'], log['legs'][0]['took']['complete']) == ('cpu', True)
    assert not net.training


def test_a_baseline_of_an_earlier_recipe_is_not_compared(trained, monkeypatch):
    shelf, run = trained
    longer = replace(FRAME.recipe, phases=(PhaseRecipe('backbone', 2, 0.05),))
    monkeypatch.setattr(runs, 'named_recipe', lambda name: longer)
    assert not is_done(run, shelf)
    with pytest.raises(DataError, match='it had 1 epochs, its recipe has 2 now; train it again: '
                       '.*--train tiny-baseline-slimmable-3'):
        runs.opened_run(run, shelf)


def test_family_and_baselines_are_measured(trained, material, monkeypatch):
    shelf, run = trained
    net, statistics, course = runs.opened_run(run, shelf)
    family = Opened(net, statistics, course.measured, {'sha256': 'any'}, TASK)
    choices = runs.Choices('tiny', (), {})
    for name, value in {
            'opened_family': lambda plan, shelf: family, 'read_choices': lambda: choices,
            'runs_of': lambda task, choices, seed: [run], 'read_task': lambda name: TASK,
            'material_for': lambda task, data, seed: material,
            'hold_machine': contextlib.nullcontext, 'is_done': lambda plan, shelf: True}.items():
        monkeypatch.setattr(figures, name, value)
    found = {f.key: f for f in figures.baseline_figures(
        [Plan('family', 'tiny', 3)], shelf, quick=True, say=lambda line: None)}
    assert found['baseline_margin_pt/slimmable'].value is not None
    assert (found[MARGIN_OFA].value, found[MARGIN_OFA].holds) == (None, False)


def test_a_file_that_its_log_does_not_name_is_refused_with_the_command(trained):
    shelf, run = trained
    kept = shelf.file(run).read_bytes()
    shelf.file(run).write_bytes(b'something else')
    try:
        with pytest.raises(DataError, match='--train tiny-baseline-slimmable-3'):
            runs.opened_run(run, shelf)
    finally:
        shelf.file(run).write_bytes(kept)
