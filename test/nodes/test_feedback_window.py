# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crowdhmt_ros.nodes.feedback_window import ConditionRule, FeedbackWindow
from crowdhmt_ros.types import ESTIMATED, MEASURED, Inference, Reading

BANDS = {'noon': (0.5, 1.0), 'afternoon': (0.3, 0.5), 'dusk': (0.0, 0.3)}


def inference(plan_seq=1, candidate_id='a', degraded=False, **changes):
    return Inference(candidate_id, plan_seq, (0.25, 0.75), 1, 0.001, 0.004, degraded, **changes)


class Ticking:
    now_s = 0.0

    def __call__(self):
        return self.now_s


def window(**options):
    clock = Ticking()
    return FeedbackWindow(ConditionRule(BANDS), monotonic=clock, **options), clock


def answer(of, stamp_ns, plan_seq=1, candidate_id='a', **more):
    of.answered(inference(plan_seq, candidate_id), **{
        'stamp_ns': stamp_ns, 'capture_to_result_s': 0.006, 'queue_s': 0.001,
        'domain': 'scenes', 'luminance': 0.6, **more})


def test_a_window_holds_what_was_measured_in_order():
    of, clock = window(energy_j_of=lambda name: 0.5,
                       memory_bytes=lambda: Reading(1000.0, ESTIMATED))
    answer(of, 11)
    answer(of, 12, late=True)
    of.superseded(13)
    clock.now_s = 1.5
    (report,) = of.flush(99.0)
    feedback = report.feedback
    assert report.answered_stamps_ns == (11, 12)
    assert (feedback.plan_seq, feedback.candidate_id) == (1, 'a')
    assert (feedback.stamp_s, feedback.window_s) == (99.0, 1.5)
    assert feedback.capture_to_result_s == (0.006, 0.006)
    assert feedback.infer_s == (0.004, 0.004)
    assert feedback.exit_index == (1, 1)
    assert feedback.confidence == (0.75, 0.75)
    assert feedback.superseded_stamps_ns == (13,)
    assert feedback.late == 1
    assert (feedback.energy_j.value, feedback.energy_j.source) == (1.0, 'estimated')
    assert feedback.memory_bytes == Reading(1000.0, ESTIMATED)
    assert feedback.condition == 'scenes/noon'
    assert feedback.luminance_ratio.value == 0.6


def test_a_window_ends_when_another_plan_answers():
    of, _ = window()
    answer(of, 1, plan_seq=1)
    answer(of, 2, plan_seq=2, candidate_id='b')
    first, second = of.flush(0.0)
    assert (first.feedback.plan_seq, first.answered_stamps_ns) == (1, (1,))
    assert (second.feedback.plan_seq, second.answered_stamps_ns) == (2, (2,))


def test_an_empty_window_is_not_reported_but_superseded_frames_alone_are():
    of, _ = window()
    assert of.flush(0.0) == ()
    of.superseded(5)
    (report,) = of.flush(1.0)
    assert report.feedback.superseded_stamps_ns == (5,)
    assert report.feedback.condition == ''
    assert of.flush(2.0) == ()


def test_unknown_energy_and_memory_stay_unknown():
    of, _ = window()
    answer(of, 1, luminance=None)
    feedback = of.flush(0.0)[0].feedback
    assert feedback.energy_j.value is None
    assert feedback.memory_bytes.value is None
    assert feedback.luminance_ratio.value is None


@pytest.mark.parametrize(('known', 'joules'), [({'a': 0.5, 'b': 0.2}, 1.2), ({'a': 0.5}, None)])
def test_a_fallback_takes_its_energy_beside_that_of_the_head(known, joules):
    of, _ = window(energy_j_of=known.get)
    of.answered(inference(), stamp_ns=1, capture_to_result_s=0.1, queue_s=0.0)
    of.answered(inference(degraded=True, fallback_id='b'), stamp_ns=2, capture_to_result_s=0.1,
                queue_s=0.0)
    assert of.flush(0.0)[0].feedback.energy_j.value == joules


def test_answers_of_a_fallback_are_counted():
    of, _ = window()
    of.answered(inference(degraded=True), stamp_ns=1, capture_to_result_s=0.1, queue_s=0.0)
    assert of.flush(0.0)[0].feedback.degraded == 1


@given(st.lists(st.tuples(st.sampled_from('asf'), st.integers(1, 3)), max_size=60))
def test_every_frame_is_in_exactly_one_window(events):
    of, _ = window()
    told, sent = [], []
    for number, (kind, plan_seq) in enumerate(events):
        if kind == 'f':
            told += of.flush(0.0)
            continue
        sent.append(number)
        if kind == 'a':
            answer(of, number, plan_seq=plan_seq)
        else:
            of.superseded(number)
    told += of.flush(0.0)
    assert sorted(stamp for report in told for stamp in (
        *report.answered_stamps_ns, *report.feedback.superseded_stamps_ns)) == sent
    for report in told:
        assert len(report.answered_stamps_ns) == len(report.feedback.infer_s)


def test_the_condition_is_named_by_brightness_for_scenes_only():
    rule = ConditionRule(BANDS)
    assert rule.name('scenes', 0.4, at_s=1.0) == 'scenes/afternoon'
    assert rule.name('scenes', None, at_s=2.0) == ''
    assert rule.name('photos', 0.4, at_s=3.0) == 'photos'
    assert ConditionRule({'noon': (0.5, 0.9)}).name('scenes', 1.0, at_s=1.0) == 'scenes/noon'
    assert ConditionRule(BANDS, 'lab').name('scenes', 0.4, at_s=1.0) == 'lab'
    assert ConditionRule({}).name('scenes', 0.4, at_s=1.0) == ''


def test_memory_is_the_more_of_what_was_taken_at_the_first_frame_and_at_the_end():
    taken = iter([Reading(5.0, ESTIMATED), Reading(9.0, MEASURED), Reading(2.0, ESTIMATED),
                  Reading(1.0, ESTIMATED)])
    of, _ = window(memory_bytes=lambda: next(taken))
    for stamp in (1, 2, 3):
        answer(of, stamp)
    assert of.flush(0.0)[0].feedback.memory_bytes == Reading(9.0, MEASURED)
    answer(of, 4)
    assert of.flush(0.0)[0].feedback.memory_bytes == Reading(2.0, ESTIMATED)
    of.superseded(5)
    assert of.flush(0.0)[0].feedback.memory_bytes.value is None


def test_the_age_is_that_of_the_oldest_window_that_is_not_reported():
    of, clock = window()
    clock.now_s = 3.0
    assert of.age_s == 0.0
    of.flush(0.0)
    answer(of, 1, plan_seq=1)
    clock.now_s = 4.0
    answer(of, 2, plan_seq=2)
    clock.now_s = 6.0
    assert of.age_s == 3.0
    of.flush(0.0)
    assert of.age_s == 0.0


def test_a_candidate_that_cannot_be_made_ready_is_told_once_by_an_empty_feedback():
    of, clock = window()
    answer(of, 11)
    of.failed('b', 2)
    clock.now_s = 0.25
    of.failed('b', 3)
    clock.now_s = 1.0
    ran, failed = (report.feedback for report in of.flush(99.0))
    assert not ran.failed
    assert failed.failed
    assert (failed.candidate_id, failed.plan_seq, failed.stamp_s) == ('b', 3, 98.25)
    assert of.flush(100.0) == ()
