# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The light as the feedback reports it: slow to change, on the safe side, stamped in time."""
from __future__ import annotations

import numpy as np
import pytest

from crowdhmt_ros.bundle.reader import open_bundle
from crowdhmt_ros.campus.scenario import load_scenario
from crowdhmt_ros.campus.world import World
from crowdhmt_ros.nodes.feedback_window import ConditionRule, FeedbackWindow
from crowdhmt_ros.profiling.corrections import absorb
from crowdhmt_ros.types import (
    Candidate,
    EngineOptions,
    Estimate,
    FrontEntry,
    Inference,
    Placement,
    SegmentPlacement,
    Variant,
)
from crowdhmt_ros.vision.preprocess import Preprocessor

BANDS = {'noon': (0.5, 1.0), 'afternoon': (0.3, 0.5), 'dusk': (0.0, 0.3)}
LIGHTS = ('dusk', 'afternoon', 'noon')


def names(luminances, rule=None, start_s=1.0):
    """Return what is reported after windows of one second."""
    rule = rule or ConditionRule(BANDS)
    return [rule.name('scenes', luminance, at_s=start_s + i).partition('/')[2]
            for i, luminance in enumerate(luminances)]


def test_the_first_window_names_a_condition_at_once():
    assert names([0.7]) == ['noon']
    assert names([0.52]) == ['afternoon'], 'on a border the darker one'


def test_darkness_counts_when_it_has_held_for_three_windows():
    assert names([0.7, 0.4, 0.4, 0.4]) == ['noon', 'noon', 'noon', 'afternoon']


def test_light_counts_when_nothing_dark_was_seen_for_ten_seconds():
    told = names([0.4] + [0.7] * 14)
    assert told == ['afternoon'] * 12 + ['noon'] * 3


def test_brightness_that_wavers_about_a_border_changes_nothing():
    assert set(names([0.51, 0.56] * 30)) == {'afternoon'}
    assert set(names([0.28, 0.33, 0.45] * 20)) == {'dusk'}


def test_windows_cut_short_by_switches_count_by_time_not_by_number():
    rule = ConditionRule(BANDS)
    assert names([0.7], rule) == ['noon']
    told = [rule.name('scenes', 0.4, at_s=2.0 + 0.1 * i) for i in range(5)]
    assert set(told) == {'scenes/noon'}
    assert rule.name('scenes', 0.4, at_s=4.0) == 'scenes/afternoon'


def test_photos_between_scenes_begin_anew():
    rule = ConditionRule(BANDS)
    assert names([0.2, 0.2], rule) == ['dusk', 'dusk']
    assert rule.name('photos', 0.2, at_s=3.0) == 'photos'
    assert names([0.7], rule, start_s=4.0) == ['noon']


@pytest.mark.parametrize('seed', [7, 11])
def test_on_the_campus_film_the_light_is_right_or_darker_and_changes_rarely(seed):
    manifest = open_bundle('campus7').manifest
    world = World(load_scenario('campus_minute'), 'vehicle', seed)
    preprocessor = Preprocessor(manifest.input)
    out = np.zeros(manifest.input.shape, np.float32)
    rule = ConditionRule(manifest.luminance_bands)
    told, truth = [], []
    for second in range(60):
        seen = []
        for part in (0.2, 0.5, 0.8):
            image, shown = world.frame_at(second + part)
            preprocessor.into(image, out)
            seen.append(preprocessor.luminance())
        name = rule.name('scenes', sum(seen) / len(seen), at_s=second + 1.0)
        told.append(LIGHTS.index(name.partition('/')[2]))
        truth.append(LIGHTS.index(shown.light_band))
    assert sum(a <= b for a, b in zip(told, truth)) >= 0.85 * 60
    assert sum(a == b for a, b in zip(told, truth)) >= 0.4 * 60, 'darkness alone is no answer'
    assert sum(a != b for a, b in zip(told, told[1:])) <= 3


TABLE_S = 0.010


def entry(name):
    candidate = Candidate(name, Variant(((),), 0),
                          Placement((SegmentPlacement('whole', name),)), EngineOptions())
    return FrontEntry(candidate, {'photos': 0.5}, Estimate(TABLE_S, TABLE_S), Estimate(1, 1),
                      Estimate(1, 1), 1)


class Robot:
    """Answers ten frames a second under plans that a test makes; two clocks as on a robot."""

    def __init__(self):
        self.monotonic_s, self.plan_seq, self.candidate_id = 500.0, 0, ''
        self.current_since_s = 0.0
        self.window = FeedbackWindow(ConditionRule(BANDS), monotonic=lambda: self.monotonic_s)

    @property
    def now_s(self):
        return self.monotonic_s + 1e6

    def plan(self, candidate_id):
        self.plan_seq, self.candidate_id = self.plan_seq + 1, candidate_id
        self.current_since_s = self.now_s

    def answer(self, *times_s):
        for infer_s in times_s:
            self.monotonic_s += 0.1
            self.window.answered(
                Inference(self.candidate_id, self.plan_seq, (1.0,), 0, 0.001, infer_s),
                stamp_ns=0, capture_to_result_s=infer_s, queue_s=0.0)

    def feedbacks(self):
        return [report.feedback for report in self.window.flush(self.now_s)]


def test_windows_of_one_flush_are_stamped_when_they_ended():
    robot = Robot()
    robot.plan('a')
    robot.answer(*[TABLE_S] * 3)
    robot.plan('b')
    robot.answer(*[TABLE_S] * 4)
    robot.monotonic_s += 0.25
    first, second = robot.feedbacks()
    assert (first.candidate_id, second.candidate_id) == ('a', 'b')
    assert second.stamp_s == pytest.approx(robot.now_s)
    assert first.stamp_s == pytest.approx(robot.now_s - 0.55)
    assert second.stamp_s - second.window_s == pytest.approx(first.stamp_s)


def test_the_warm_up_after_a_switch_back_teaches_nothing_wrong():
    """Two cold frames after every switch, in the windows that a robot really makes."""
    robot, front = Robot(), (entry('a'), entry('b'))
    ids = [e.candidate.candidate_id for e in front]
    known = ()
    for number in range(6):
        robot.plan(ids[number % 2])
        robot.answer(TABLE_S * 40, TABLE_S * 30, TABLE_S, TABLE_S)
        known = absorb(known, robot.feedbacks(), front, current_id=robot.candidate_id,
                       current_since_s=robot.current_since_s)
        robot.answer(*[TABLE_S] * 5)
    assert {c.candidate_id: round(c.latency_ratio, 6) for c in known} == dict.fromkeys(ids, 1.0)
    assert {c.spread_ratio for c in known} == {1.0}


def test_slow_frames_in_the_middle_of_a_run_are_believed():
    robot, front = Robot(), (entry('a'),)
    robot.plan(front[0].candidate.candidate_id)
    known = ()
    for number in range(8):
        robot.answer(*[TABLE_S * (1.0 if number < 3 else 3.0)] * 10)
        known = absorb(known, robot.feedbacks(), front, current_id=robot.candidate_id,
                       current_since_s=robot.current_since_s)
    assert known[0].latency_ratio > 2.0
