# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import argparse
import json
from dataclasses import replace

import pytest

torch = pytest.importorskip('torch', reason='training needs the extra train')
pytest.importorskip('onnx', reason='training needs the extra train')

from benchmarks import _training_cost, _training_shared, training  # noqa: E402
from benchmarks._training_baseline_runs import BaselineRun  # noqa: E402
from benchmarks._training_claims import CLAIMS  # noqa: E402
from benchmarks._training_cost import legs_of  # noqa: E402
from benchmarks._training_gap import compare, figures_of, one_thread, plans_of  # noqa: E402
from benchmarks._training_shelf import (  # noqa: E402
    Shelf,
    claimed,
    evaluated,
    is_done,
    material_of,
    opened,
    train,
    train_all,
)
from crowdhmt_ros.elastic.operators.channel import channel  # noqa: E402
from crowdhmt_ros.elastic.operators.svd import svd  # noqa: E402
from crowdhmt_ros.elastic.teaching.recipe import PhaseRecipe, Recipe  # noqa: E402
from crowdhmt_ros.errors import ConfigError, DataError  # noqa: E402
from crowdhmt_ros.tasks.alone import alone_recipe  # noqa: E402
from crowdhmt_ros.tasks.members import Member, Members, members_text  # noqa: E402
from crowdhmt_ros.tasks.recipes import named_recipe  # noqa: E402
from crowdhmt_ros.tasks.task_file import read_task  # noqa: E402
from crowdhmt_ros.types import Variant  # noqa: E402
from test.tasks.small import RECIPE, task_file  # noqa: E402

VARIANTS = {'full': Variant(((),) * 3, 1), 'half': Variant(((channel(0.5),),) * 3, 1),
            'svd': Variant(((svd(0.5),),) * 3, 1)}


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """Train a small family and its variants alone."""
    folder = tmp_path_factory.mktemp('shelf')
    task = task_file(folder)
    listed = folder / 'variants.yaml'
    listed.write_text(members_text(Members(read_task(task).backbone, tuple(
        Member(name, variant, 1.0, 1.0) for name, variant in VARIANTS.items()), 'not')), 'utf-8')
    shelf = Shelf(folder, folder / 'files', folder / 'logs', listed)
    family, alone = plans_of(1, shelf, str(task))
    plans = [family, *alone.values()]
    count = train_all(plans, shelf, lambda line: None)
    return shelf, plans, count


def test_every_training_leaves_a_log_and_its_file(trained):
    shelf, plans, count = trained
    assert count == len(plans) == 4
    assert all(is_done(plan, shelf) for plan in plans)
    log = json.loads(shelf.log(plans[2]).read_text('utf-8'))
    assert list(log['accuracy']) == ['half']
    assert [p['phase'] for p in log['phases']] == ['backbone']
    assert log['phases'][0]['epochs'] == 3
    assert log['cpu_s'] > 0.0
    assert not list(shelf.checkpoints.glob('*/checkpoint.pt'))


def test_what_is_there_is_not_trained_again(trained):
    shelf, plans, _ = trained
    assert train_all(plans, shelf, lambda line: None) == 0


def _relearnt(shelf, folder, recipe, variants=None):
    """Describe the same trainings with another recipe or other variants, under the same logs."""
    task = task_file(folder)
    (folder / 'recipe.yaml').write_text(recipe, 'utf-8')
    listed = shelf.listed
    if variants:
        listed = folder / 'variants.yaml'
        listed.write_text(members_text(Members(read_task(task).backbone, tuple(
            Member(name, variant, 1.0, 1.0) for name, variant in variants.items()), 'not')),
            'utf-8')
    other = replace(shelf, listed=listed)
    family, alone = plans_of(1, other, str(task))
    return other, family, alone


def test_trainings_of_an_earlier_recipe_are_not_compared_but_named_to_be_trained_again(
        trained, tmp_path):
    shelf, _, _ = trained
    other, family, alone = _relearnt(shelf, tmp_path, RECIPE.replace('epochs: 2', 'epochs: 5'))
    for plan in (family, alone['half']):
        assert not is_done(plan, other)
        with pytest.raises(DataError, match=r'3 epochs, its recipe has 6 now; train it again: '
                           '.*--train ' + plan.name):
            opened(plan, other)
        with pytest.raises(DataError, match='train it again'):
            compare((family, alone), other, lambda line: None)


def test_other_phases_of_the_family_leave_what_was_trained_alone_valid(trained, tmp_path):
    shelf, _, _ = trained
    other, family, alone = _relearnt(
        shelf, tmp_path, RECIPE.replace('members_ratio: 0.5', 'members_ratio: 1.0'))
    assert not is_done(family, other)
    with pytest.raises(DataError, match='other phases now'):
        opened(family, other)
    assert all(is_done(plan, other) for plan in alone.values())
    again = _relearnt(shelf, tmp_path, RECIPE.replace('0.01', '0.02'))
    assert not any(is_done(plan, again[0]) for plan in again[2].values())


def test_trainings_of_another_list_of_variants_are_not_compared(trained, tmp_path):
    shelf, _, _ = trained
    variants = {**VARIANTS, 'half': Variant(((channel(0.25),),) * 3, 1)}
    other, family, alone = _relearnt(shelf, tmp_path, RECIPE, variants)
    with pytest.raises(DataError, match='other variants are listed now: half'):
        opened(family, other)
    assert not is_done(alone['half'], other)
    assert is_done(alone['svd'], other)


def test_a_log_that_says_no_recipe_is_of_another_training(trained, tmp_path):
    shelf, plans, _ = trained
    other = replace(shelf, logs=tmp_path)
    other.log(plans[0]).parent.mkdir(parents=True)
    log = {k: v for k, v in opened(plans[0], shelf).log.items() if k != 'recipe'}
    other.log(plans[0]).write_text(json.dumps(log), 'utf-8')
    assert not is_done(plans[0], other)
    with pytest.raises(DataError, match='cannot be read'):
        opened(plans[0], other)
    other.log(plans[0]).write_text('{', 'utf-8')
    with pytest.raises(DataError, match='delete it'):
        is_done(plans[0], other)


def test_another_process_that_has_a_training_keeps_it(trained, tmp_path):
    shelf, plans, _ = trained
    other = replace(shelf, checkpoints=tmp_path)
    with claimed(other.file(plans[0]).parent) as mine:
        assert mine
        assert train_all(plans[:1], other, lambda line: None) == 0


def test_what_is_measured_anew_is_what_was_logged(trained):
    shelf, plans, _ = trained
    for plan in plans:
        found, accuracy = evaluated(plan, shelf)
        assert accuracy == pytest.approx(dict(found.log['accuracy']), abs=1e-6)


def test_a_repeated_training_ends_with_the_same_file(trained, tmp_path):
    shelf, plans, _ = trained
    again = replace(shelf, checkpoints=tmp_path, logs=tmp_path)
    old, new = opened(plans[3], shelf).log, train(plans[3], again, lambda line: None)
    figure = training.repeated(plans[3].name, old, new)
    assert figure.holds
    assert figure.value == 0.0
    assert figure.how.endswith('the same file')


def test_a_file_that_its_log_does_not_name_is_refused(trained, tmp_path):
    shelf, plans, _ = trained
    other = replace(shelf, checkpoints=tmp_path)
    with pytest.raises(DataError, match='is missing; it takes'):
        opened(plans[0], other)
    other.file(plans[0]).parent.mkdir()
    other.file(plans[0]).write_bytes(b'another')
    with pytest.raises(DataError, match='is not the file that its log names'):
        opened(plans[0], other)


def test_the_gap_is_alone_minus_inside(trained):
    shelf, plans, _ = trained
    logs = {p.name: opened(p, shelf).log for p in plans}
    inside = logs[plans[0].name]['accuracy']
    alone = {p.alone: logs[p.name]['accuracy'][p.alone] for p in plans[1:]}
    gaps = [100.0 * (alone[n] - inside[n]) for n in VARIANTS]
    found = compare((plans[0], {p.alone: p for p in plans[1:]}), shelf, lambda line: None)
    taken_s = {'family': 6.0, **{p.alone: 5.0 for p in plans[1:]}}
    figures = {f.key: f for f in figures_of([found], taken_s)}
    assert figures['recycle_gap_mean_pt'].value == pytest.approx(sum(gaps) / 3)
    assert figures['recycle_gap_max_pt'].value == pytest.approx(max(gaps))
    spent = [logs[p.name]['cpu_s'] for p in plans]
    assert figures['training_cost_ratio_logged'].value == pytest.approx(
        spent[0] / sum(spent[1:]))
    assert figures['training_cost_ratio'].value == pytest.approx(0.4)
    assert figures['training_cost_ratio'].holds
    assert not figures['recycle_gap_mean_pt'].holds  # one seed is too few


def test_the_cost_of_a_training_counts_every_phase_edge_and_calibration(trained, monkeypatch):
    shelf, plans, _ = trained
    task, material = read_task(plans[0].task), material_of(plans[0], shelf)[1]
    recipe = named_recipe(task.recipe)
    legs = legs_of('family', recipe)
    assert sum(leg.epochs for leg in legs) == recipe.epochs
    assert sum(leg.enters for leg in legs) == len(recipe.phases)
    monkeypatch.setattr(_training_cost, 'timed', lambda trainer, steps: (2.0, 0.5))
    monkeypatch.setattr(_training_cost, '_calibration_s', lambda *_: 10.0)
    taken = _training_cost.seconds(task, material, shelf.variants(task), rounds=2,
                                   say=lambda line: None)
    steps = material.train.steps(recipe.batch_size) * recipe.epochs
    assert set(taken) == {'family', *VARIANTS}
    assert taken['family'] == pytest.approx(10.0 + 0.5 * steps + 2.0 * len(recipe.phases))
    assert taken['full'] == pytest.approx(10.0 + 0.5 * steps + 2.0)


def test_alone_has_the_familys_epochs_and_edges_in_one_curve():
    recipe = Recipe((
        PhaseRecipe('backbone', 4, 0.1, edges=((0.0, 24),), warm_up_ratio=0.25, end_ratio=0.5),
        PhaseRecipe('transformation', 1, 0.4, edges=((0.0, 24),)),
        PhaseRecipe('joint', 5, 0.05, edges=((0.0, 24), (0.2, 32)))))
    plan, = alone_recipe(recipe).phases
    assert (plan.phase, plan.epochs, plan.learning_rate) == ('backbone', 10, 0.1)
    assert plan.warm_up_ratio == pytest.approx(0.1)
    assert [plan.edge_at(e) for e in range(10)] == [24] * 6 + [32] * 4
    assert plan.learning_rate_at(1.0) == pytest.approx(0.0)
    with pytest.raises(ConfigError, match='no phase in which the whole network learns'):
        alone_recipe(Recipe((PhaseRecipe('transformation', 1, 0.1),)))


def test_a_part_that_was_not_trained_falls_short_and_says_how_to_train(tmp_path):
    shelf = Shelf(tmp_path, tmp_path, tmp_path)
    for part in ('gap', 'exits', 'random'):
        figures = training.measured(part, shelf, quick=False)
        assert {f.key for f in figures} == set(CLAIMS[part])
        assert all(f.holds is False and '--train' in f.how for f in figures)


def test_a_part_that_fails_or_cannot_be_imported_keeps_all_its_claims(tmp_path, monkeypatch):
    shelf = Shelf(tmp_path, tmp_path, tmp_path)

    def without(shelf, quick):
        raise ImportError(name='torch')

    for part, claims in CLAIMS.items():
        monkeypatch.setitem(training.PARTS, part, without)
        figures = training.measured(part, shelf, quick=False)
        assert [f.key for f in figures] == list(claims)
        assert not any(f.holds for f in figures)
    assert 'reevaluated_diff_pt' in CLAIMS['fronts']


def test_every_part_has_claims_and_plans_name_what_is_judged():
    assert set(training.PARTS) == set(CLAIMS)
    assert set(training.PLANS) - set(training.PARTS) == {'others'}
    assert set(training.PARTS) - set(training.PLANS) == {'campus7'}


def test_the_full_width_is_skipped_with_the_command_where_nothing_was_trained(tmp_path):
    figures = training.measured('full_width', Shelf(tmp_path, tmp_path, tmp_path), quick=False)
    assert {f.key for f in figures} == set(CLAIMS['full_width'])
    assert all(f.holds is None and '--device cuda' in f.how for f in figures)


def test_a_device_that_is_not_there_is_one_clear_error(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    options = argparse.Namespace(only=[], train=['exits'], retrain=None, data=tmp_path,
                                 checkpoints=tmp_path, device='cuda')
    with pytest.raises(ConfigError, match='torch finds no GPU here'):
        training.run(options)


def test_what_to_train_is_named_by_part_or_by_name(tmp_path):
    shelf = Shelf(tmp_path, tmp_path)
    plans = training.planned(['gap', 'exits', 'har-fold2-1'], shelf)
    names = [plan.name for plan in plans]
    assert len(names) == len(set(names)) == 34 + 2 + 1
    assert [p.name for p in training.planned(['others'], shelf)] == [
        'cifar10-1', 'statefarm-fold1-1']
    assert {p.task for p in training.planned(['full_width'], shelf)} == {'cifar100_full'}
    with pytest.raises(ConfigError, match='neither a part'):
        training.planned(['nothing'], shelf)


def test_baselines_are_trained_by_part_or_by_name_beside_their_families(tmp_path):
    shelf = Shelf(tmp_path, tmp_path)
    names = [p.name for p in training.planned(['baselines'], shelf)]
    assert len(names) == len(set(names)) == 2 + 2 * 11
    one, = training.planned(['cifar100_quarter-baseline-ofa-2'], shelf)
    assert (one.baseline, one.seed) == ('ofa', 2)


def test_a_training_is_drawn_to_be_repeated_among_those_that_were_done(tmp_path, monkeypatch):
    shelf = Shelf(tmp_path, tmp_path / 'files', tmp_path / 'logs')
    with pytest.raises(DataError, match='nothing was trained yet'):
        training.retrained(7, shelf)
    run, = training.planned(['cifar100_quarter-baseline-fire-1'], shelf)
    shelf.log(run).parent.mkdir(parents=True)
    log = {'accuracy': {'whole': 0.5}, 'sha256': 'a', 'wall_s': 60.0}
    shelf.log(run).write_text(json.dumps(log), 'utf-8')
    monkeypatch.setattr(BaselineRun, 'outdated', lambda self, log, shelf: '')
    monkeypatch.setattr(BaselineRun, 'train', lambda self, shelf, say: {
        **log, 'accuracy': {'whole': 0.495}})
    figure = training.retrained(7, shelf)
    assert figure.how.startswith(run.name)
    assert (figure.value, figure.holds) == (pytest.approx(0.5), True)


def test_the_time_of_all_parts_is_a_claim_of_the_whole_bench_alone():
    figure, = training._elapsed(31 * 60.0, list(training.PARTS), quick=False)
    assert (figure.key, figure.value, figure.holds) == ('bench_training_minutes', 31.0, False)
    assert training._elapsed(1.0, ['gap'], quick=False) == []
    assert training._elapsed(1.0, list(training.PARTS), quick=True) == []


def test_what_comes_after_the_cost_of_training_has_its_threads_again():
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        with one_thread():
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_parts_share_what_one_has_opened_or_measured(trained, monkeypatch):
    shelf, plans, _ = trained
    found, accuracy = evaluated(plans[0], shelf)
    assert material_of(plans[0], shelf)[1] is material_of(plans[1], shelf)[1]
    monkeypatch.setattr(_training_shared, 'accuracies', lambda *_, **__: pytest.fail('again'))
    assert evaluated(plans[0], shelf)[1] == accuracy
    test = material_of(plans[0], shelf)[1].test
    few = _training_shared.thinned(test, 5)
    assert len(few) == 5
    assert torch.equal(few.labels[[0, -1]], test.labels[[0, -1]])
    assert _training_shared.thinned(test, len(test)) is test
