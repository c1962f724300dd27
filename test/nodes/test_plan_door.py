# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
from dataclasses import replace
from math import nan
from pathlib import Path
from types import SimpleNamespace

import pytest

from crowdhmt_ros.bundle.reader import open_bundle
from crowdhmt_ros.errors import BackendError, OffloadError
from crowdhmt_ros.nodes.helped import DEFAULT_BUDGET_S, LONGEST_BUDGET_S
from crowdhmt_ros.nodes.plan_door import PlanDoor
from crowdhmt_ros.types import Candidate, EngineOptions, Placement, SegmentPlacement

TINY = Path(__file__).resolve().parents[1] / 'bundle' / 'data' / 'tiny'


class Switcher:
    """Notes what is to come into force."""

    def __init__(self):
        self.applied, self.told, self.error = [], [], None

    def apply(self, candidate, plan_seq, entered_s=None, *, terms=None):
        if self.error is not None:
            raise self.error
        self.applied.append((candidate, terms))
        return True

    def refused(self, candidate, plan_seq, error):
        self.told.append((candidate, plan_seq, error))


@pytest.fixture(scope='module')
def bundle():
    return open_bundle(TINY)


@pytest.fixture
def home(bundle):
    return bundle.candidates()[0]


@pytest.fixture
def helped(home):
    return Candidate(home.variant_id, home.variant, Placement((SegmentPlacement(
        'whole', home.placement.segments[0].segment_id, 'drone', 'jpeg'),)), home.engine)


@pytest.fixture
def made(bundle, helped):
    switcher = Switcher()
    return PlanDoor(bundle, switcher, lambda choice: helped), switcher


def plan(bundle, candidate, fallback_id='', budget_s=nan):
    return SimpleNamespace(
        plan_seq=3, bundle_sha256=bundle.sha256,
        choice=SimpleNamespace(candidate_id=candidate.candidate_id, fallback_id=fallback_id),
        requirements=SimpleNamespace(latency_budget_s=budget_s))


def test_a_candidate_that_stays_here_has_no_terms(made, bundle, home):
    door, switcher = made
    assert door.enter(plan(bundle, home))
    assert switcher.applied == [(home, None)]


@pytest.mark.parametrize(('stated', 'given'), [
    (nan, DEFAULT_BUDGET_S), (0.15, 0.15), (3600.0, LONGEST_BUDGET_S)])
def test_one_with_a_peer_brings_its_fallback_and_its_time(
        made, bundle, home, helped, stated, given):
    door, switcher = made
    assert door.enter(plan(bundle, helped, home.candidate_id, stated))
    (candidate, terms), = switcher.applied
    assert candidate is helped
    assert (terms.fallback, terms.budget_s) == (home, given)


def test_a_fallback_in_any_number_of_threads_is_found(made, bundle, helped):
    door, switcher = made
    wanted = bundle.candidates((16,))[0]
    assert wanted.candidate_id not in door.known
    assert door.enter(plan(bundle, helped, wanted.candidate_id))
    assert switcher.applied[0][1].fallback == wanted
    assert wanted.candidate_id in door.known, 'its answers bear its name'


@pytest.mark.parametrize('options', [
    EngineOptions('ncnn', 2), EngineOptions('openvino', precision='bf16'),
    EngineOptions(memory_mode='streamed'), EngineOptions(threads=3, spinning=True)], ids=str)
def test_a_fallback_on_any_engine_is_found_by_its_name(made, bundle, home, helped, options):
    door, switcher = made
    wanted = replace(home, engine=options)
    assert door.enter(plan(bundle, helped, wanted.candidate_id))
    assert switcher.applied[0][1].fallback == wanted


@pytest.mark.parametrize('fallback_id', [
    '', 'huge/local/onnxruntime/1/fast', 'huge/local/onnxruntime/1t/fast', 'wide/local/ncnn',
    'wide/local/ncnn/manyt/fast', 'wide/local/ncnn/1t/fast/unheard',
    'wide/local/openvino/1t/fast/int8'])
def test_without_a_fallback_of_this_bundle_the_plan_is_refused_in_words(
        made, bundle, helped, fallback_id):
    door, switcher = made
    assert not door.enter(plan(bundle, helped, fallback_id))
    assert 'plan 3 cannot be brought into force, the one before stays' in door.problem
    assert 'names no fallback' in door.problem
    assert switcher.applied == []


def test_a_refusal_is_noted_until_the_next_plan_that_is_taken(made, bundle, home):
    door, switcher = made
    switcher.error = OffloadError('offloading is off here')
    assert not door.enter(plan(bundle, home))
    assert 'offloading is off here' in door.problem
    switcher.error = None
    assert door.enter(plan(bundle, home))
    assert door.problem == ''


def test_a_plan_for_another_bundle_is_refused(made, bundle, home):
    door, switcher = made
    other = plan(bundle, home)
    other.bundle_sha256 = 'f' * 64
    assert not door.enter(other)
    assert 'for another bundle' in door.problem
    assert switcher.applied == []


def test_what_the_executor_refuses_is_handed_on(made, bundle, home):
    door, switcher = made
    switcher.error = BackendError('it gives something else')
    assert not door.enter(plan(bundle, home))
    assert 'it gives something else' in door.problem
    assert switcher.told == [(home, 3, switcher.error)]
