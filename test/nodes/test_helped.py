# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
import threading
import time
from dataclasses import replace

import pytest

from crowdhmt_ros.engine.pool import Pool
from crowdhmt_ros.engine.scheduled import ScheduledPool, Scheduler
from crowdhmt_ros.errors import BackendError, OffloadError
from crowdhmt_ros.nodes.helped import HelpedPlans, Terms
from crowdhmt_ros.nodes.switching import PlanSwitcher
from crowdhmt_ros.types import (
    MEASURED,
    Candidate,
    CoreLoad,
    EngineOptions,
    Placement,
    Reading,
    Segment,
    SegmentPlacement,
    TensorSpec,
    Variant,
)

IMAGE = TensorSpec('image', 'float32', (1, 3, 4, 4))
MIDDLE = TensorSpec('features', 'float32', (1, 5))
LOGITS = TensorSpec('logits', 'float32', (1, 2))
SIZES = {'lean/whole': 10.0, 'rich/whole': 100.0, 'rich/head': 30.0, 'rich/tail': 70.0}


def segment(name, takes, gives):
    return Segment(name, name[0] * 64, '', (takes,), (gives,), 8)


SEGMENTS = {s.segment_id: s for s in (
    segment('lean/whole', IMAGE, LOGITS), segment('rich/whole', IMAGE, LOGITS),
    segment('rich/head', IMAGE, MIDDLE), segment('rich/tail', MIDDLE, LOGITS))}


def home(variant_id):
    return Candidate(variant_id, Variant((), 0), Placement((
        SegmentPlacement('whole', f'{variant_id}/whole'),)), EngineOptions())


def helped(*parts):
    return Candidate('rich', Variant((), 0), Placement(tuple(
        SegmentPlacement(*part) for part in parts)), EngineOptions())


LEAN, RICH = home('lean'), home('rich')
CUT = helped(('head', 'rich/head'), ('tail', 'rich/tail', 'drone', 'int8'))
SENT = helped(('whole', 'rich/whole', 'drone', 'jpeg'))
TERMS = Terms(LEAN, 0.2)


class Compiled:
    memory_bytes = 8

    def __init__(self, segment, backend):
        self.name, self.backend = segment.segment_id, backend
        self.inputs, self.outputs = segment.inputs, segment.outputs

    def run(self, inputs, outputs):
        if self.name in self.backend.breaks:
            raise BackendError(f'{self.name} failed')
        outputs[0].fill(1.0)


class Backend:
    name, version, warnings = 'fake', '1', ()

    def __init__(self):
        self.breaks = set()

    def compile(self, segment, options):
        return Compiled(segment, self)


class Part:
    takes_image = False

    def __init__(self, peers, robot_id, codec):
        self.peers, self.robot_id, self.codec = peers, robot_id, codec
        self.lost, self.released = False, 0

    def release(self):
        self.released += 1


class Peers:
    """Grants, refuses, or lets wait."""

    def __init__(self):
        self.parts, self.refusal = [], None
        self.may_go = threading.Event()
        self.may_go.set()
        self.asked = threading.Event()

    def remote_part(self, robot_id, wanted, codec):
        self.asked.set()
        assert self.may_go.wait(10)
        if self.refusal is not None:
            raise self.refusal
        self.parts.append(Part(self, robot_id, codec))
        return self.parts[-1]


class Told:
    """Waits for what a preparation tells."""

    def __init__(self):
        self.all, self.come = [], threading.Event()

    def __call__(self, candidate, ready, error):
        self.all.append((candidate, ready, error))
        self.come.set()

    def wait(self):
        assert self.come.wait(10)
        (candidate, ready, error), = self.all
        return candidate, ready, error


@pytest.fixture
def backend():
    return Backend()


@pytest.fixture
def pool(backend):
    made = Pool(backend, SEGMENTS, measured=lambda segment, options: Reading(
        SIZES[segment.segment_id], MEASURED))
    yield made
    made.close()


@pytest.fixture
def peers():
    return Peers()


@pytest.fixture
def plans(pool, peers):
    made = HelpedPlans(pool, SEGMENTS)
    made.peers = peers
    return made


def test_head_and_fallback_are_compiled_here_and_the_rest_is_leased(plans, pool, peers):
    ready = plans.prepare(CUT, TERMS)
    assert [p.robot_id for p in peers.parts] == ['drone']
    assert pool.memory_bytes == SIZES['rich/head'] + SIZES['lean/whole']
    assert ready.executable is pool.get(LEAN)
    assert ready.hedge.budget_s == 0.2
    assert ready.serves(CUT, Terms(LEAN, 0.5))
    assert not ready.serves(CUT, Terms(RICH, 0.2))
    assert not ready.serves(SENT, TERMS)


def test_a_frame_that_is_sent_needs_no_head(plans, pool, peers):
    plans.prepare(SENT, TERMS)
    assert peers.parts[0].codec == 'jpeg'
    assert pool.memory_bytes == SIZES['lean/whole']


def test_a_part_whose_channel_was_taken_down_serves_nothing(plans, peers):
    ready = plans.prepare(CUT, TERMS)
    peers.parts[0].lost = True
    assert not ready.serves(CUT, TERMS)


@pytest.mark.parametrize(('candidate', 'said'), [
    (LEAN, 'needs one peer'),
    (helped(('head', 'rich/head', 'drone', 'jpeg'), ('tail', 'rich/tail', 'boat', 'int8')),
     'needs one peer'),
    (helped(('whole', 'huge/whole', 'drone', 'jpeg')), 'does not have')])
def test_what_cannot_be_prepared_is_said_in_words(plans, candidate, said):
    with pytest.raises(OffloadError, match=said):
        plans.prepare(candidate, TERMS)


def test_a_head_that_gives_an_answer_of_its_own_is_not_shared(pool, peers):
    carrying = Segment('rich/head', 'h' * 64, '', (IMAGE,), (LOGITS, MIDDLE), 8)
    segments = {**SEGMENTS, 'rich/head': carrying}
    plans = HelpedPlans(Pool(Backend(), segments), segments)
    plans.peers = peers
    with pytest.raises(OffloadError, match='not for sharing'):
        plans.prepare(CUT, TERMS)
    assert peers.parts == []


def test_without_a_way_to_peers_nothing_is_prepared(plans, pool):
    plans.peers = None
    with pytest.raises(OffloadError, match='offloading must be on'):
        plans.prepare(CUT, TERMS)
    assert pool.memory_bytes == 0


def test_a_fallback_that_fails_gives_the_lease_back(plans, pool, peers, backend):
    pool.prepare(LEAN)
    backend.breaks.add('lean/whole')
    with pytest.raises(BackendError, match='lean/whole failed'):
        plans.prepare(CUT, TERMS)
    assert peers.parts[0].released == 1


def test_a_preparation_in_the_background_tells_of_success_and_of_refusal(plans, peers):
    told = Told()
    plans.prepare_in_background(CUT, TERMS, told)
    _, ready, error = told.wait()
    assert ready.candidate is CUT
    assert error is None
    peers.refusal, told = OffloadError('all are taken'), Told()
    plans.prepare_in_background(SENT, TERMS, told)
    assert told.wait()[1] is None
    assert 'all are taken' in str(told.wait()[2])


def test_a_defect_in_the_background_is_seen_and_told(plans, peers, monkeypatch):
    seen, told = [], Told()
    monkeypatch.setattr(threading, 'excepthook', lambda found: seen.append(found.exc_type))
    peers.refusal = ZeroDivisionError()
    plans.prepare_in_background(CUT, TERMS, told)
    _, ready, error = told.wait()
    assert ready is None
    assert 'ended unexpectedly' in str(error)
    plans.close()
    assert seen == [ZeroDivisionError]


def test_closing_waits_for_what_is_being_prepared_and_then_leases_nothing(plans, peers):
    peers.may_go.clear()
    told = Told()
    plans.prepare_in_background(CUT, TERMS, told)
    assert peers.asked.wait(10)
    threading.Timer(0.1, peers.may_go.set).start()
    plans.close()
    assert told.all, 'its end was not waited for'
    with pytest.raises(OffloadError):
        plans.prepare(CUT, TERMS)


class Frames:
    """Takes the place of the executor."""

    def __init__(self):
        self.in_force = None

    def switch(self, candidate, executable, plan_seq):
        self.in_force = candidate

    def switch_hedged(self, candidate, hedge, fallback, executable, plan_seq):
        self.in_force = candidate


def wait_until(true):
    deadline_s = time.monotonic() + 10
    while not true():
        assert time.monotonic() < deadline_s
        time.sleep(0.002)


def test_head_and_fallback_stay_and_nothing_else_when_memory_is_tight(plans, pool, peers):
    """Whatever was there before; before, during and after the switch, and after leaving."""
    frames = Frames()
    pool.prepare(RICH)
    switcher = PlanSwitcher(frames, pool, in_force_id=RICH.candidate_id, helped=plans)
    peers.may_go.clear()
    switcher.apply(CUT, 1, terms=TERMS)
    assert peers.asked.wait(10)
    switcher.keep_within(50.0)
    assert pool.get(LEAN) is not None, 'the fallback was let go while the peer was asked'
    assert pool.get_all(CUT) is not None
    assert pool.get(RICH) is not None, 'it answers still'
    peers.may_go.set()
    wait_until(lambda: frames.in_force is CUT)
    switcher.keep_within(50.0)
    assert pool.memory_bytes == SIZES['rich/head'] + SIZES['lean/whole']
    assert switcher.apply(LEAN, 2)
    switcher.keep_within(15.0)
    assert pool.memory_bytes == SIZES['lean/whole']
    assert peers.parts[0].released == 1


QUIET = (CoreLoad(0, 0.0, 1.0), CoreLoad(1, 0.0, 1.0))
TWO = replace(LEAN, engine=EngineOptions(threads=2))
ON_TWO = Terms(TWO, 0.2)


class NoCrew:
    allowed = frozenset((0, 1))

    def place(self, cores, *, pinned):
        """Leave threads where they are."""


@pytest.fixture
def scheduled(pool):
    """The same pool as the schedule of a quiet machine has it: its threads spin."""
    scheduler = Scheduler(lambda: QUIET, crew=NoCrew())
    scheduler.look(TWO)
    assert scheduler.arranged(TWO).engine.spinning
    return ScheduledPool(pool, scheduler)


def test_room_is_made_for_a_fallback_as_it_runs_not_as_the_schedule_would_run_it(
        scheduled, pool, plans, peers):
    """It ran at home a moment ago; with a peer it is another executable, not made yet."""
    switcher = PlanSwitcher(Frames(), scheduled, in_force_id=TWO.candidate_id, helped=plans)
    switcher.apply(TWO, 1)
    wait_until(lambda: scheduled.get(TWO) is not None)
    pool.prepare(RICH)
    plans.prepare_in_background = lambda candidate, terms, done: None  # it has not begun yet
    switcher.apply(CUT, 2, terms=ON_TWO)
    taken = pool.memory_bytes
    assert taken == SIZES['lean/whole'] + SIZES['rich/whole']
    switcher.keep_within(taken + SIZES['rich/head'] + SIZES['lean/whole'] - 1.0)
    assert pool.get(RICH) is None, 'there is no room for the fallback and all the rest'
    assert scheduled.get(TWO) is not None, 'it answers still'


def test_a_resident_fallback_takes_no_room_and_its_scheduled_likeness_goes(
        scheduled, pool, plans, peers):
    frames = Frames()
    switcher = PlanSwitcher(frames, scheduled, helped=plans)
    switcher.apply(TWO, 1)
    wait_until(lambda: frames.in_force is TWO)
    switcher.apply(CUT, 2, terms=ON_TWO)
    wait_until(lambda: frames.in_force is CUT)
    pool.prepare(RICH)
    switcher.keep_within(2 * SIZES['lean/whole'] + SIZES['rich/head'] + SIZES['rich/whole'])
    assert pool.get(RICH) is not None, 'nothing is missing, so there is room for all'
    switcher.keep_within(1.0)
    assert pool.get(TWO) is not None, 'it answers when the peer fails'
    assert scheduled.get(TWO) is None, 'nobody asks for this one'
    assert pool.memory_bytes == SIZES['lean/whole'] + SIZES['rich/head']


def test_another_fallback_is_told_so_that_the_old_one_can_go_at_once(plans, pool):
    frames, told = Frames(), []
    switcher = PlanSwitcher(frames, pool, helped=plans)
    switcher.switched = lambda: told.append(switcher.keep_within(100.0))
    switcher.apply(SENT, 1, terms=TERMS)
    wait_until(lambda: told)
    assert pool.get(LEAN) is not None
    switcher.apply(SENT, 2, terms=Terms(RICH, 0.2))
    wait_until(lambda: len(told) == 2)
    assert pool.get(LEAN) is None, 'both fallbacks stay in memory'
    assert pool.get(RICH) is not None


def test_a_figure_of_head_and_fallback_together_is_not_taken_for_the_head(backend):
    pool = Pool(backend, SEGMENTS)
    pool.prepare_all(CUT)
    pool.predict(CUT, Reading(140.0, MEASURED))
    assert pool.memory_bytes == Compiled.memory_bytes
    pool.close()
