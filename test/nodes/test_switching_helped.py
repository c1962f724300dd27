# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Plans with a peer; those that stay at home are in test_switching."""
import pytest

from crowdhmt_ros.errors import BackendError, OffloadError
from crowdhmt_ros.nodes.helped import Ready, Terms
from crowdhmt_ros.nodes.switching import PlanSwitcher
from crowdhmt_ros.types import Candidate, EngineOptions, Placement, SegmentPlacement, Variant
from test.nodes.plan_fakes import A, B, FakeExecutor, FakePool, Scripted


def with_peer(name):
    return Candidate(name, Variant((), 0), Placement((
        SegmentPlacement('whole', name, 'drone', 'jpeg'),)), EngineOptions())


H, G = with_peer('h'), with_peer('g')
ON_A, ON_B = Terms(A, 0.2), Terms(B, 0.2)


class FakeHedge:
    """Counts how often it was given back; `remote` is itself."""

    def __init__(self, terms):
        self.budget_s = terms.budget_s
        self.retired = 0
        self.lost = False
        self.remote = self

    def retire(self):
        self.retired += 1


class FakeHelped:
    """Prepares when the test says so."""

    def __init__(self):
        self.waiting, self.hedges = [], []

    def prepare_in_background(self, wanted, terms, done):
        self.waiting.append((wanted, terms, done))

    def missing_bytes(self, wanted, terms):
        return 8.0

    def finish(self, error=None):
        wanted, terms, done = self.waiting.pop(0)
        if error is not None:
            done(wanted, None, error)
            return None
        self.hedges.append(FakeHedge(terms))
        done(wanted, Ready(wanted, terms, self.hedges[-1], terms.fallback.variant_id), None)
        return self.hedges[-1]


@pytest.fixture
def pair():
    pool, executor, helped = FakePool(A), FakeExecutor(), FakeHelped()
    return PlanSwitcher(executor, pool, helped=helped), pool, executor, helped


def test_the_old_plan_answers_until_a_peer_has_granted(pair):
    switcher, _, executor, helped = pair
    told = []
    switcher.switched = lambda: told.append(1)
    switcher.apply(A, 1)
    assert not switcher.apply(H, 2, terms=ON_A)
    assert executor.in_force == [('a', 1)]
    assert switcher.preparing == H.candidate_id
    hedge = helped.finish()
    assert executor.in_force[-1] == (hedge, 2)
    assert (switcher.preparing, switcher.switches, len(told)) == ('', 2, 1)


def test_the_next_plan_for_it_goes_on_with_what_is_there_and_its_own_time(pair):
    switcher, _, executor, helped = pair
    switcher.apply(H, 1, terms=ON_A)
    switcher.apply(H, 2, terms=ON_A)
    assert len(helped.waiting) == 1
    hedge = helped.finish()
    assert switcher.apply(H, 3, terms=Terms(A, 0.35))
    assert executor.in_force[-1] == (hedge, 3)
    assert hedge.budget_s == 0.35
    assert (helped.waiting, hedge.retired) == ([], 0)


def test_a_plan_back_home_gives_the_lease_back(pair):
    switcher, _, executor, helped = pair
    switcher.apply(H, 1, terms=ON_A)
    hedge = helped.finish()
    assert switcher.apply(A, 2)
    assert executor.in_force[-1] == ('a', 2)
    assert hedge.retired == 1
    switcher.apply(A, 3)
    assert hedge.retired == 1


def test_a_plan_back_home_while_the_peer_is_asked_stays_and_the_lease_goes_back(pair):
    switcher, _, executor, helped = pair
    switcher.apply(H, 1, terms=ON_A)
    switcher.apply(A, 2)
    hedge = helped.finish()
    assert executor.in_force == [('a', 2)]
    assert hedge.retired == 1
    assert switcher.preparing == ''
    switcher.apply(H, 3, terms=ON_A)
    assert len(helped.waiting) == 1, 'it can be asked for again'


def test_a_peer_is_asked_once_however_plans_go_to_and_fro(pair):
    switcher, pool, executor, helped = pair
    for seq, (wanted, terms) in enumerate([(H, ON_A), (A, None), (B, None), (H, ON_A)], 1):
        switcher.apply(wanted, seq, terms=terms)
    assert len(helped.waiting) == 1
    hedge = helped.finish()
    assert executor.in_force[-1] == (hedge, 4)
    pool.finish()
    assert executor.in_force[-1] == (hedge, 4)


def test_a_peer_that_refuses_leaves_the_old_plan_says_so_and_may_be_asked_again(pair):
    switcher, _, executor, helped = pair
    switcher.apply(A, 1)
    switcher.apply(H, 2, terms=ON_A)
    helped.finish(OffloadError('all leases are taken'))
    assert executor.in_force == [('a', 1)]
    assert 'all leases are taken' in switcher.failure
    assert 'the plan before it stays' in switcher.failure
    assert switcher.preparing == ''
    switcher.apply(H, 3, terms=ON_A)
    helped.finish()
    assert switcher.failure == ''
    assert executor.in_force[-1][1] == 3


def test_a_refusal_of_what_nobody_wants_any_more_is_no_failure(pair):
    switcher, _, _, helped = pair
    switcher.apply(H, 1, terms=ON_A)
    switcher.apply(A, 2)
    helped.finish(OffloadError('all leases are taken'))
    assert switcher.failure == ''


def test_what_cannot_answer_frames_is_given_back_and_the_old_plan_stays(pair):
    switcher, _, executor, helped = pair
    switcher.apply(A, 1)
    switcher.apply(H, 2, terms=ON_A)
    executor.refusing = True
    hedge = helped.finish()
    assert executor.in_force == [('a', 1)]
    assert hedge.retired == 1
    assert 'it gives something else' in switcher.failure
    assert switcher.preparing == ''


def test_another_fallback_is_prepared_while_the_first_serves(pair):
    switcher, _, executor, helped = pair
    switcher.apply(H, 1, terms=ON_A)
    first = helped.finish()
    assert not switcher.apply(H, 2, terms=ON_B)
    assert (executor.in_force[-1], first.retired) == ((first, 1), 0)
    second = helped.finish()
    assert executor.in_force[-1] == (second, 2)
    assert (first.retired, second.retired) == (1, 0)
    assert switcher.switches == 1, 'the candidate is the same'


def test_a_fallback_that_is_wanted_no_more_does_not_replace_the_one_that_is(pair):
    switcher, _, executor, helped = pair
    switcher.apply(H, 1, terms=ON_A)
    first = helped.finish()
    switcher.apply(H, 2, terms=ON_B)
    assert switcher.apply(H, 3, terms=ON_A)
    second = helped.finish()
    assert executor.in_force[-1] == (first, 3)
    assert (first.retired, second.retired) == (0, 1)


def test_from_one_peer_candidate_to_another_there_is_no_gap(pair):
    switcher, _, executor, helped = pair
    switcher.apply(H, 1, terms=ON_A)
    first = helped.finish()
    switcher.apply(G, 2, terms=ON_A)
    assert first.retired == 0
    second = helped.finish()
    assert executor.in_force[-1] == (second, 2)
    assert (first.retired, second.retired) == (1, 0)


def test_a_peer_whose_channel_was_taken_down_is_asked_anew(pair):
    switcher, _, executor, helped = pair
    switcher.apply(H, 1, terms=ON_A)
    first = helped.finish()
    first.lost = True
    assert not switcher.apply(H, 2, terms=ON_A)
    second = helped.finish()
    assert executor.in_force[-1] == (second, 2)
    assert first.retired == 1


def test_a_plan_home_between_granting_and_switching_stays(pair):
    switcher, _, executor, helped = pair
    switcher.apply(H, 1, terms=ON_A)
    switcher._lock = Scripted(switcher._lock, 2, lambda: switcher.apply(A, 2))
    hedge = helped.finish()
    assert executor.in_force == [('a', 2)]
    assert hedge.retired == 1


def test_a_plan_home_right_after_the_switch_gives_the_lease_back(pair):
    switcher, _, executor, helped = pair
    switcher.apply(H, 1, terms=ON_A)
    switcher.switched = lambda: switcher.apply(A, 2)
    hedge = helped.finish()
    assert executor.in_force[-1] == ('a', 2)
    assert hedge.retired == 1


def test_nothing_is_brought_in_after_the_end(pair):
    switcher, _, executor, helped = pair
    switcher.apply(H, 1, terms=ON_A)
    first = helped.finish()
    switcher.apply(G, 2, terms=ON_A)
    switcher.drop_help()
    assert first.retired == 1
    second = helped.finish()
    assert executor.in_force == [(first, 1)]
    assert second.retired == 1


def test_fallback_and_head_are_kept_from_the_first_wish_on(pair):
    switcher, pool, _, helped = pair
    switcher.apply(A, 1)
    switcher.apply(H, 2, terms=ON_B)
    switcher.keep_within(10.0)
    assert pool.kept == {A.candidate_id, B.candidate_id, H.candidate_id}
    assert pool.budget_bytes == 2.0, 'no room for the head and the fallback'
    helped.finish()
    switcher.keep_within(10.0)
    assert pool.kept - {''} == {B.candidate_id, H.candidate_id}
    switcher.apply(A, 3)
    switcher.keep_within(10.0)
    assert pool.kept - {''} == {A.candidate_id}


def test_without_peers_such_a_plan_is_refused():
    switcher = PlanSwitcher(FakeExecutor(), FakePool(A))
    with pytest.raises(OffloadError, match='offloading is off'):
        switcher.apply(H, 1, terms=ON_A)


def test_a_plan_that_comes_while_a_peers_readiness_is_judged_lends_nothing_its_number(pair):
    switcher, _, executor, helped = pair
    switcher.apply(H, 6, terms=ON_A)
    helped.finish()
    switcher.apply(H, 7, terms=ON_B)
    wanted, terms, done = helped.waiting.pop()

    class Judged(Ready):
        def serves(self, *asked):
            switcher._wish = (B, 8, None)  # as `apply` does, before it waits for the lock
            return super().serves(*asked)

    done(wanted, Judged(wanted, terms, FakeHedge(terms), 'b'), None)
    assert [seq for _, seq in executor.in_force] == [6, 7]


def test_a_failure_names_the_plan_that_named_the_candidate(pair):
    switcher, _, _, helped = pair

    class Replaced(Candidate):
        """A wish in whose place another one comes when it is compared."""

        armed = False

        @property
        def candidate_id(self):
            if self.armed:
                switcher._wish = (B, 3, None)
            return H.candidate_id

    switcher.apply(Replaced(H.variant_id, H.variant, H.placement, H.engine), 2, terms=ON_A)
    _, terms, done = helped.waiting.pop()
    Replaced.armed = True
    done(H, None, OffloadError('all leases are taken'))
    assert 'plan 2' in switcher.failure


def test_what_a_call_brings_back_into_force_is_told_by_nobody_but_its_caller(pair):
    switcher, _, _, helped = pair
    told = []
    switcher.apply(H, 1, terms=ON_A)
    helped.finish()
    switcher.apply(G, 2, terms=ON_A)
    switcher.switched = lambda: told.append(1)
    switcher._in_force_id = G.candidate_id  # as if G had come in beside it
    assert switcher.apply(H, 3, terms=ON_A)
    assert told == []


def test_a_part_here_that_cannot_be_compiled_waits_and_is_told_a_refusal_of_a_peer_is_not(pair):
    switcher, _, _, helped = pair
    told = []
    switcher.failed = lambda *words: told.append(words)
    switcher.apply(H, 1, terms=ON_A)
    helped.finish(OffloadError('all leases are taken'))
    assert told == []
    switcher.apply(H, 2, terms=ON_A)
    helped.finish(BackendError('disk full'))
    switcher.apply(H, 3, terms=ON_A)
    assert helped.waiting == []
    assert told == [(H.candidate_id, 2), (H.candidate_id, 3)]
    assert 'plan 3' in switcher.failure
