# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Figures of a candidate that may answer early."""
from __future__ import annotations

import dataclasses

import pytest

from crowdhmt_ros.profiling.calibration import Settings, calibrate
from crowdhmt_ros.profiling.corrections import absorb, depth_id
from crowdhmt_ros.profiling.cost_model import estimate
from crowdhmt_ros.profiling.exits import exit_costs, mean_latency, per_frame, reached_ratios
from crowdhmt_ros.profiling.front import build_front, counted_tables, front_sha256
from crowdhmt_ros.profiling.tables import row_key
from crowdhmt_ros.types import (
    ESTIMATED,
    MEASURED,
    Candidate,
    EarlyExit,
    EnergyCoefficients,
    EngineOptions,
    Estimate,
    ExitCost,
    Feedback,
    FrontEntry,
    LayerCost,
    LoopState,
    Placement,
    ResourceSnapshot,
    Segment,
    SegmentPlacement,
    TensorSpec,
    Variant,
)

STEPS = (('exit', 'early.0'), ('exit', 'early.1'), ('end', 'early.2'))
SPEC = (TensorSpec('x', 'float32', (1, 4)),)
RULES = {'early.0': EarlyExit(0, 'c0', 0.9, 1.0, 0.5),
         'early.1': EarlyExit(1, 'c1', 0.8, 1.0, 0.3)}
SEGMENTS = {name: Segment(name, name * 4, name, SPEC, SPEC, early_exit=RULES.get(name))
            for name in ('early.0', 'early.1', 'early.2', 'plain')}
EARLY = Candidate('early', Variant(((),), 2), Placement(tuple(
    SegmentPlacement(role, name) for role, name in STEPS)), EngineOptions())
PLAIN = Candidate('plain', Variant(((),), 2), Placement((SegmentPlacement('whole', 'plain'),)),
                  EngineOptions())
TIMES = [Estimate(0.004, 0.005, MEASURED), Estimate(0.002, 0.003, MEASURED),
         Estimate(0.010, 0.012, MEASURED)]
MEAN_S = 0.5 * 0.004 + 0.3 * 0.006 + 0.2 * 0.016
SNAPSHOT = ResourceSnapshot(0.0)


class Bundle:
    """One variant that may answer early, and one that does not."""

    sha256 = 'cd' * 32

    def candidates(self, threads=(1, 2), memory_modes=('fast', 'lean')):
        return (PLAIN, EARLY)

    def heads(self, threads=(1,), memory_modes=('fast', 'lean')):
        return ()

    def accuracy(self, variant_id):
        return {'photos': 0.8 if variant_id == 'plain' else 0.79}

    def macs(self, variant_id):
        return 1_600_000 if variant_id == 'plain' else 700_000

    def layer_costs(self, segment_id):
        return (LayerCost('c', 'Conv', 1_000_000, 100, 1_000, 200),)


def entry():
    exits = exit_costs(EARLY, [SEGMENTS[name] for _, name in STEPS], TIMES)
    return FrontEntry(EARLY, {'photos': 0.8}, mean_latency(exits, MEASURED), Estimate(3e6, 3e6),
                      Estimate(0.001, 0.001), 700_000, exits=exits)


def plain_entry():
    return FrontEntry(PLAIN, {'photos': 0.8}, Estimate(0.015, 0.015, MEASURED),
                      Estimate(2e6, 2e6), Estimate(0.001, 0.001), 1_600_000)


def test_the_mean_is_head_plus_what_goes_on_times_tail():
    found = entry()
    assert [c.exit_index for c in found.exits] == [0, 1, 2]
    assert [c.ratio for c in found.exits] == pytest.approx([0.5, 0.3, 0.2])
    assert found.latency_s.mean == pytest.approx(MEAN_S)
    assert found.latency_s.mean == pytest.approx(0.004 + 0.5 * 0.002 + 0.2 * 0.010)
    assert found.latency_s.p95 == pytest.approx(0.005 + 0.003 + 0.012)
    assert reached_ratios(found.exits) == pytest.approx((1.0, 0.5, 0.2))
    assert reached_ratios(()) == (1.0,)


def test_where_nearly_all_answer_early_the_percentile_is_theirs():
    exits = (ExitCost(0, 0.97, 0.004, 0.005), ExitCost(2, 0.03, 0.016, 0.020))
    assert mean_latency(exits, MEASURED).p95 == pytest.approx(0.005)


def test_the_front_holds_it_with_its_steps_summed():
    tables = counted_tables(Bundle(), SEGMENTS)
    assert {row_key(s.sha256, EngineOptions()) for s in SEGMENTS.values()} == set(tables.rows)
    front = build_front(Bundle(), tables, EnergyCoefficients(1e-12), segments=SEGMENTS)
    early = next(e for e in front if e.candidate is EARLY)
    rows = [tables.rows[row_key(SEGMENTS[name].sha256, EngineOptions())] for _, name in STEPS]
    assert early.latency_s.mean == pytest.approx(sum(
        r * row.infer_s.mean for r, row in zip((1.0, 0.5, 0.2), rows)))
    assert early.memory_bytes.mean == pytest.approx(sum(r.memory_bytes.mean for r in rows))
    assert early.latency_s.source == ESTIMATED
    assert early.words == round(1.7 * 1_300)
    assert early.macs == 700_000
    assert next(e for e in front if e.candidate is PLAIN).exits == ()


def test_other_shares_are_another_front():
    one = entry()
    other = dataclasses.replace(one, exits=(ExitCost(0, 0.9, 0.004, 0.005), *one.exits[1:]))
    assert front_sha256([one]) != front_sha256([other])


def test_each_step_is_measured_on_the_device(tmp_path):
    class Ran:
        memory_bytes, inputs, outputs = 10, SPEC, SPEC

        def run(self, inputs, outputs):
            pass

    class Engine:
        def __init__(self):
            self.names = []

        def compile(self, segment, options):
            self.names.append(segment.segment_id)
            return Ran()

    engine = Engine()
    tables = calibrate(Bundle(), engine, SEGMENTS, tmp_path, settings=Settings('here'))
    assert sorted(engine.names) == sorted(SEGMENTS)
    assert build_front(Bundle(), tables, EnergyCoefficients(1e-12), segments=SEGMENTS)


def window(exits, factor=1.0, stamp_s=10.0, candidate=EARLY):
    known = {c.exit_index: c.latency_s for c in entry().exits}
    times = tuple(known[e] * factor for e in exits)
    return Feedback(1, candidate.candidate_id, stamp_s, 1.0, infer_s=times,
                    exit_index=tuple(exits))


def test_times_of_any_depth_say_the_same_of_the_machine():
    for exits in ((0,) * 10, (2,) * 10, (0, 1, 2) * 3):
        times = per_frame(entry(), window(exits, 1.5))
        assert times == pytest.approx([1.5 * MEAN_S] * len(exits))


def test_a_frame_of_an_unknown_exit_teaches_nothing():
    feedback = dataclasses.replace(window((0, 0)), exit_index=(0, 7))
    assert len(per_frame(entry(), feedback)) == 1
    assert per_frame(plain_entry(), feedback) == feedback.infer_s


def learnt(exits, factor=1.0, windows=30, known=()):
    for number in range(windows):
        known = absorb(known, [window(exits, factor, 10.0 + number)], [entry(), plain_entry()])
    return {c.candidate_id: c for c in known}


def test_hard_frames_do_not_make_the_machine_look_slow():
    plain = absorb((), [Feedback(1, PLAIN.candidate_id, 5.0, 1.0, infer_s=(0.015,) * 30)],
                   [entry(), plain_entry()])
    found = learnt((2,) * 10, windows=8, known=plain)
    assert found[EARLY.candidate_id].latency_ratio == pytest.approx(1.0)
    assert found[PLAIN.candidate_id].latency_ratio == pytest.approx(1.0)
    assert found[depth_id(EARLY.candidate_id)].latency_ratio > 1.3


def test_what_was_seen_of_depth_moves_the_estimate_of_the_mean_alone():
    before = estimate(entry(), LoopState(), SNAPSHOT)
    deep = estimate(entry(), LoopState(corrections=tuple(learnt((2,) * 10, windows=200).values())),
                    SNAPSHOT)
    assert before.latency_s.mean == pytest.approx(MEAN_S)
    assert deep.latency_s.mean == pytest.approx(0.016, rel=0.02)
    assert deep.latency_s.p95 == pytest.approx(0.016, rel=0.02)
    shallow = estimate(entry(), LoopState(
        corrections=tuple(learnt((0,) * 10, windows=200).values())), SNAPSHOT)
    assert shallow.latency_s.mean == pytest.approx(0.004, rel=0.02)
    assert shallow.latency_s.p95 == pytest.approx(0.016, rel=0.02)


def test_frames_as_promised_leave_the_estimate_as_it_is():
    usual = (0, 0, 0, 0, 0, 1, 1, 1, 2, 2)
    found = learnt(usual, factor=2.0, windows=60)
    assert found[depth_id(EARLY.candidate_id)].latency_ratio == pytest.approx(1.0)
    now = estimate(entry(), LoopState(corrections=tuple(found.values())), SNAPSHOT)
    assert now.latency_s.mean == pytest.approx(2.0 * MEAN_S, rel=0.01)
    assert now.latency_s.p95 == pytest.approx(2.0 * 0.016, rel=0.01)


def test_what_was_learnt_of_depth_fades_without_frames():
    known = tuple(learnt((2,) * 10).values())
    ids = depth_id(EARLY.candidate_id)
    before = next(c for c in known if c.candidate_id == ids).latency_ratio
    for number in range(20):
        known = absorb(known, [Feedback(2, PLAIN.candidate_id, 99.0 + number, 1.0,
                                        infer_s=(0.015,) * 10)], [entry(), plain_entry()])
    after = [c.latency_ratio for c in known if c.candidate_id == ids]
    assert not after or 1.0 <= after[0] < before
