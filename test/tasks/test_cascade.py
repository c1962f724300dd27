# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from benchmarks._training_exits import Answers, answers, figures_of, settled_mean
from crowdhmt_ros.elastic.store import Reference, elastic_of
from crowdhmt_ros.elastic.transformation import calibrate
from crowdhmt_ros.errors import ConfigError, DataError
from crowdhmt_ros.tasks import cascade, thresholds
from crowdhmt_ros.tasks.material import Labelled
from crowdhmt_ros.types import Variant

CLASSES, CHANNELS, LENGTH = 4, 6, 64


def windows(count: int, seed: int) -> Labelled:
    """Waves whose pitch is the class; noise hides it in some."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, CLASSES, count)
    time = np.arange(LENGTH) / LENGTH
    phase = rng.uniform(0.0, 2.0 * np.pi, (count, CHANNELS, 1))
    wave = np.sin(2.0 * np.pi * (2.0 + 2.0 * labels[:, None, None]) * time + phase)
    noise = rng.normal(0.0, 1.0, wave.shape) * rng.choice([0.3, 1.5], (count, 1, 1))
    return Labelled(torch.from_numpy((wave + noise).astype(np.float32)),
                    torch.from_numpy(labels))


@pytest.fixture(scope='module')
def taught():
    torch.manual_seed(0)
    torch.set_num_threads(1)
    options = {'width': 16, 'samples': LENGTH, 'channels': CHANNELS}
    net = elastic_of(Reference('motion_cnn', CLASSES, options), (1, 2))
    data, whole = windows(256, 1), net.whole()
    teacher = torch.optim.Adam(net.parameters(), 3e-3)
    for epoch in range(4):
        for part in torch.randperm(256, generator=torch.Generator().manual_seed(epoch)).split(32):
            loss = sum(F.cross_entropy(scores, data.labels[part])
                       for scores in net(data.inputs[part], whole))
            teacher.zero_grad()
            loss.backward()
            teacher.step()
    statistics = calibrate(net, [whole], list(data.inputs.split(128)))
    return net, whole, statistics


@pytest.fixture(scope='module')
def built(taught):
    net, whole, statistics = taught
    return cascade.cascade_of(net, whole, statistics, windows(600, 2), rounds=3,
                              most_lost_ratio=0.02, caution=0.0)


def test_costs_are_measured_for_each_exit(built):
    costs = built.costs
    assert len(costs.head_s) == len(costs.tail_s) == 2
    assert min(*costs.head_s, *costs.tail_s, costs.whole_s) > 0.0


def test_scores_of_all_exits_are_those_of_the_supernet(taught):
    net, whole, statistics = taught
    data = windows(40, 5)
    found = cascade.exit_logits(net, whole, statistics, data.inputs, batch=16)
    assert [scores.shape for scores in found] == [(40, CLASSES)] * 3
    again = cascade.exit_logits(net, whole, statistics, data.inputs, batch=40)
    assert all(np.allclose(a, b, atol=1e-4) for a, b in zip(found, again))


def open_at(built, confidence):
    """The same network with other thresholds; all its exits must be in the graph."""
    return cascade.Cascade(built.family, thresholds.Thresholds(confidence, (1.0, 1.0)),
                           built.costs, built.held_back)


@pytest.fixture(scope='module')
def asking_both(taught, built):
    net, whole, statistics = taught
    family = cascade.exported(net, whole, statistics, windows(1, 0).inputs, 'v', (0, 1))
    return cascade.Cascade(family, built.thresholds, built.costs, built.held_back)


@pytest.mark.parametrize('confidence', [(0.9, 0.9), (0.0, 0.9), (0.999999, 0.5)])
def test_it_stops_where_the_thresholds_say(taught, asking_both, confidence):
    net, whole, statistics = taught
    data = windows(60, 3)
    chosen = open_at(asking_both, confidence)
    runs, stops = cascade.steps_of(chosen)
    assert stops == tuple((c, 1.0) for c in confidence)
    logits = cascade.exit_logits(net, whole, statistics, data.inputs)
    wanted = thresholds.taken(chosen.thresholds, logits)
    found = [runs.answer(x[None], stops) for x in data.inputs.numpy()]
    agree = np.mean([number == e for (number, _), e in zip(found, wanted)])
    assert agree > 0.95  # weights are rounded to float16
    for i, (number, scores) in enumerate(found):
        assert np.allclose(scores[0], logits[number][i], atol=0.05)


def test_answers_are_counted_and_timed_on_the_test_part(asking_both):
    data = windows(100, 4)
    found = answers(open_at(asking_both, (0.6, 0.6)), data)
    assert found.whole_s > 0.0
    assert found.early_s > 0.0
    assert sum(found.ratios) == pytest.approx(1.0)
    assert len(found.ratios) == 3
    assert 0.25 < found.early_accuracy <= 1.0


def test_a_network_whose_exits_are_not_asked_answers_alike(built, taught):
    net, whole, statistics = taught
    family = cascade.exported(net, whole, statistics, windows(1, 0).inputs, 'v', ())
    never = cascade.Cascade(family, thresholds.Thresholds((1.0, 1.0), (1.0, 1.0)), built.costs,
                            built.held_back)
    found = answers(never, windows(40, 4))
    assert found.ratios == (1.0,)
    assert found.lost_pt == 0.0


def test_it_tells_a_bundle_where_and_when_it_stops(asking_both):
    first, second = open_at(asking_both, (0.6, 0.8)).early_exits
    assert (first.exit_index, first.cut_id, first.threshold) == (0, 'v-exit0', 0.6)
    assert (second.exit_index, second.cut_id, second.threshold) == (1, 'v-exit1', 0.8)
    assert first.ratio == asking_both.held_back.exit_ratios[0]


def test_a_time_that_neighbours_have_taken_moves_no_mean():
    usual = np.array([0.001] * 60 + [0.004] * 40)
    disturbed = usual.copy()
    disturbed[::10] += 0.5
    step = np.array([0] * 60 + [1] * 40)
    wanted = 0.6 * 0.001 + 0.4 * 0.004
    assert settled_mean(usual, step) == pytest.approx(wanted)
    assert settled_mean(disturbed, step) == pytest.approx(wanted)


def test_a_variant_without_early_exits_is_refused(taught):
    net, whole, statistics = taught
    with pytest.raises(ConfigError, match='no early exit'):
        cascade.cascade_of(net, Variant(whole.stages[:1], 0), statistics, windows(10, 1))


def test_without_data_held_back_thresholds_are_not_chosen(taught):
    net, whole, statistics = taught
    with pytest.raises(DataError, match='held back'):
        cascade.cascade_of(net, whole, statistics, windows(0, 1))


def told(seed, faster, lost, built):
    return seed, built, Answers(faster, 1.0, (faster, 1.0), 0.7, 0.7 - lost / 100.0, (0.5, 0.5))


def test_the_figure_holds_over_two_seeds(built):
    good, _ = figures_of([told(0, 1.5, 0.4, built), told(1, 1.4, 0.2, built)])
    assert good.holds
    assert good.value == pytest.approx(1.45)


@pytest.mark.parametrize('rows', [
    [], [(0, 1.5, 0.1)], [(0, 1.5, 0.1), (0, 1.5, 0.1)], [(0, 1.5, 0.9), (1, 1.5, 0.4)],
    [(0, 1.1, 0.1), (1, 1.2, 0.1)]])
def test_the_figure_falls_short(built, rows):
    figure, _ = figures_of([told(*row, built) for row in rows])
    assert not figure.holds
