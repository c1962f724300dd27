# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The choice under budgets, and the will to stay."""
from __future__ import annotations

import dataclasses
import math

import pytest

from crowdhmt_ros.loop import step
from crowdhmt_ros.planner.budgets import HEADROOM, budgets_now, excess, has_room
from crowdhmt_ros.planner.planner import MARGIN, choose, explain
from crowdhmt_ros.planner.scoring import rate, weights_now
from crowdhmt_ros.types import (
    Candidate,
    CostEstimate,
    EngineOptions,
    Estimate,
    FrontEntry,
    LoopState,
    Placement,
    Reading,
    Requirements,
    ResourceSnapshot,
    SegmentPlacement,
    Variant,
)


def cost(name, accuracy=0.8, latency_s=0.010, memory=5e6, energy_j=0.001):
    candidate = Candidate(name, Variant(((),), 0),
                          Placement((SegmentPlacement('whole', name),)), EngineOptions())
    return CostEstimate(candidate, Estimate(accuracy, accuracy), Estimate(latency_s, latency_s),
                        Estimate(memory, memory), Estimate(energy_j, energy_j))


def look(**values):
    return ResourceSnapshot(0.0, **{k: Reading(v) for k, v in values.items()})


NO_WISH, AT_FIRST = Requirements(), LoopState()


def decide(estimates, requirements=NO_WISH, state=AT_FIRST, now_s=100.0, **readings):
    return choose(estimates, look(**readings), requirements, state, now_s)


def name_of(decision):
    return decision.chosen.candidate.variant_id


def in_force(estimate, **fields):
    return LoopState(3, estimate.candidate.candidate_id, 0.0, **fields)


RICH, LEAN = cost('rich', 0.9, energy_j=0.010), cost('lean', 0.6, energy_j=0.001)
MIDDLE = cost('middle', 0.85, energy_j=0.003)


@pytest.mark.parametrize(('battery', 'weight'), [
    (1.0, 0.3), (0.9, 0.3), (0.7, 0.3), (0.5, 0.5), (0.2, 0.8), (0.21, 0.79), (0.0, 1.0)])
def test_energy_weighs_what_the_battery_lacks(battery, weight):
    weights = weights_now(Requirements(), look(battery_ratio=battery))
    assert weights['energy'] == pytest.approx(weight)
    assert sum(weights.values()) == pytest.approx(1.0)


def test_scores_by_hand():
    rating = rate([RICH, LEAN, MIDDLE], {'accuracy': 0.7, 'energy': 0.3},
                  budgets_now(Requirements(), look()))
    scores = [r.score for r in rating.items]
    assert scores[0] == pytest.approx(0.7 - 0.3)
    assert scores[1] == pytest.approx(0.0)
    accuracy = math.log(0.85 / 0.6) / math.log(0.9 / 0.6)
    energy = math.log(3.0) / math.log(10.0)
    assert scores[2] == pytest.approx(0.7 * accuracy - 0.3 * energy)


def test_the_best_score_wins_and_the_runner_up_is_named():
    decision = decide([LEAN, RICH, MIDDLE], battery_ratio=0.9)
    assert name_of(decision) == 'middle'
    assert decision.runner_up is RICH
    assert decision.runner_up.candidate.candidate_id in decision.reason


def test_equals_are_decided_by_name():
    twins = [cost('b'), cost('a'), cost('c')]
    assert name_of(decide(twins)) == 'a'
    assert name_of(decide(list(reversed(twins)))) == 'a'


def test_a_single_candidate_is_chosen_without_a_runner_up():
    decision = decide([RICH])
    assert decision.runner_up is None
    assert decision.score == 0.0


@pytest.mark.parametrize('figures', [{'accuracy': 0.0}, {'energy_j': 0.0}])
def test_figures_of_nothing_do_not_break_the_logarithm(figures):
    assert math.isfinite(decide([cost('odd', **figures), RICH]).score)


@pytest.mark.parametrize(('granted', 'readings', 'limit'), [
    (None, {}, None),
    (8e6, {}, 8e6),
    (None, {'memory_allotted_bytes': 5e6}, 5e6),
    (8e6, {'memory_allotted_bytes': 5e6}, 5e6),
    (4e6, {'memory_allotted_bytes': 5e6}, 4e6),
    (None, {'memory_available_bytes': 10e6}, 5e6),
    (8e6, {'memory_available_bytes': 10e6}, 8e6),
])
def test_memory_budget_is_the_smallest_that_anyone_states(granted, readings, limit):
    budgets = budgets_now(Requirements(memory_budget_bytes=granted), look(**readings))
    assert budgets.memory_bytes == limit


def test_budgets_are_kept_to_the_last_bit():
    budgets = budgets_now(Requirements(0.010, 5e6, 0.8), look())
    assert excess(cost('exact', 0.8, 0.010, 5e6), budgets) == (0.0, 0.0, 0.0)
    assert excess(cost('rounded', 0.8 - 1e-12, 0.010, 5e6), budgets) == (0.0, 0.0, 0.0)
    over = excess(cost('over', 0.4, 0.015, 10e6), budgets)
    assert over == pytest.approx((0.5, 1.0, 0.5))


def test_latency_counts_by_its_95th_percentile():
    shaky = dataclasses.replace(RICH, latency_s=Estimate(0.005, 0.030))
    assert name_of(decide([shaky, LEAN], Requirements(latency_budget_s=0.020))) == 'lean'


def test_a_newcomer_needs_room_and_one_in_force_does_not():
    edge = cost('rich', 0.9, latency_s=0.0199, energy_j=0.010)
    wish = Requirements(latency_budget_s=0.020)
    assert not has_room(edge, budgets_now(wish, look()))
    assert name_of(decide([edge, LEAN], wish)) == 'lean'
    assert name_of(decide([edge, LEAN], wish, in_force(edge))) == 'rich'
    assert HEADROOM * 1.03 / 0.97 < 1.0


def test_without_room_anywhere_a_tight_fit_is_better_than_none():
    edge = cost('edge', latency_s=0.0199)
    late = cost('late', latency_s=0.030)
    decision = decide([late, edge], Requirements(latency_budget_s=0.020))
    assert name_of(decision) == 'edge'
    assert decision.violated == ()


@pytest.mark.parametrize(('estimates', 'expected'), [
    ([cost('slow', latency_s=0.03, memory=1e6), cost('big', latency_s=0.02, memory=9e6)], 'big'),
    ([cost('big', 0.9, 0.02, 9e6), cost('less', 0.1, 0.02, 8e6)], 'less'),
    ([cost('dull', 0.1, 0.02, 8e6), cost('less', 0.3, 0.02, 8e6)], 'less'),
])
def test_latency_is_given_up_last_then_memory_then_accuracy(estimates, expected):
    wish = Requirements(0.010, 5e6, 0.95)
    decision = decide(estimates, wish)
    assert name_of(decision) == expected
    assert decision.violated
    assert decision.runner_up is None


def test_where_nothing_fits_a_slightly_smaller_violation_is_no_reason_to_switch():
    a, b = cost('a', latency_s=0.0200), cost('b', latency_s=0.0199)
    wish = Requirements(latency_budget_s=0.010)
    assert name_of(decide([a, b], wish)) == 'b'
    assert name_of(decide([a, b], wish, in_force(a))) == 'a'
    assert name_of(decide([a, cost('c', latency_s=0.012)], wish, in_force(a))) == 'c'


def test_a_challenger_wins_after_two_steps():
    first = decide([RICH, LEAN], state=in_force(RICH), battery_ratio=0.1)
    assert name_of(first) == 'rich'
    assert (first.challenger_id, first.challenger_steps) == (LEAN.candidate.candidate_id, 1)
    second = decide([RICH, LEAN], state=in_force(
        RICH, challenger_id=first.challenger_id, challenger_steps=1), battery_ratio=0.1)
    assert name_of(second) == 'lean'
    assert (second.challenger_id, second.challenger_steps) == ('', 0)


def test_a_challenger_that_falls_back_starts_over():
    state = in_force(RICH, challenger_id=LEAN.candidate.candidate_id, challenger_steps=1)
    decision = decide([RICH, LEAN], state=state, battery_ratio=0.95)
    assert name_of(decision) == 'rich'
    assert (decision.challenger_id, decision.challenger_steps) == ('', 0)


def test_a_lead_within_noise_is_no_challenge():
    near = cost('near', 0.9, energy_j=0.0097)
    assert decide([RICH, near, LEAN], state=in_force(RICH),
                  battery_ratio=0.1).challenger_id == LEAN.candidate.candidate_id
    assert decide([RICH, near], state=in_force(RICH), battery_ratio=0.1).challenger_id == ''
    assert MARGIN > 0.0


def test_two_quick_steps_are_no_reason_to_switch_twice_within_a_second():
    state = in_force(RICH, challenger_id=LEAN.candidate.candidate_id, challenger_steps=5)
    state = dataclasses.replace(state, current_since_s=99.9)
    assert name_of(decide([RICH, LEAN], state=state, now_s=100.0, battery_ratio=0.1)) == 'rich'
    assert name_of(decide([RICH, LEAN], state=state, now_s=102.0, battery_ratio=0.1)) == 'lean'


def test_reasons_are_one_line_with_the_figures_that_decided():
    wish = Requirements(latency_budget_s=0.020, memory_budget_bytes=6e6, accuracy_floor=0.5)
    noon = LoopState(condition='scenes/noon')
    reason = decide([RICH, LEAN], wish, noon, battery_ratio=0.21).reason
    assert reason == (
        'battery 21 %: energy weighs 0.79; lean/local/onnxruntime/1t/fast: 10 % of the energy '
        'and -30.0 points of accuracy against the runner-up rich/local/onnxruntime/1t/fast; '
        'latency 10.0 of 20.0 ms; memory 5.0 of 6.0 MB; accuracy 60.0 %, floor 50.0 %')


def entry(estimate):
    return FrontEntry(estimate.candidate, {'photos': estimate.accuracy.mean}, estimate.latency_s,
                      estimate.memory_bytes, estimate.energy_j, 1)


def test_an_explanation_lists_every_candidate_best_first_with_objections():
    front = [entry(e) for e in (cost('huge', 0.95, memory=50e6, energy_j=0.02), RICH, LEAN)]
    _, plan = step(LoopState(), look(battery_ratio=0.9, memory_allotted_bytes=6e6), [],
                   Requirements(), front, 0.0)
    told = explain(plan, front)
    assert told.candidates[0].candidate.variant_id == plan.chosen.candidate.variant_id
    assert told.candidates[-1].candidate.variant_id == 'huge'
    assert told.scores[-1] is None
    assert told.objections == ('', '', 'memory 50.0 of 6.0 MB')
    lines = told.text.splitlines()
    assert lines[0] == plan.reason
    assert len(lines) == 4
    assert lines[1].startswith(f'* {plan.chosen.candidate.candidate_id}: accuracy')


def test_an_explanation_says_why_a_better_candidate_was_not_switched_to():
    front = [entry(cost('edge', 0.95, latency_s=0.0199)), entry(LEAN)]
    _, plan = step(LoopState(), look(), [], Requirements(latency_budget_s=0.020), front, 0.0)
    told = explain(plan, front)
    assert plan.chosen.candidate.variant_id == 'lean'
    assert told.scores[0] > told.scores[1]
    assert 'edge' in told.text
    assert 'too close to a budget to be switched to' in told.text


def test_without_any_memory_the_smallest_candidate_is_chosen():
    large, small = cost('a_large', memory=9e6), cost('b_small', memory=3e6)
    decision = decide([large, small], memory_allotted_bytes=0.0)
    assert name_of(decision) == 'b_small'
    assert [v.constraint for v in decision.violated] == ['memory_bytes']
