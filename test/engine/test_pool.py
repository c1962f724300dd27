# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
import dataclasses
import threading
import weakref

import pytest

from crowdhmt_ros.engine.pool import Pool
from crowdhmt_ros.errors import BackendError
from crowdhmt_ros.types import (
    ESTIMATED,
    MEASURED,
    NO_READING,
    Placement,
    Reading,
    SegmentPlacement,
)


def test_nothing_is_resident_before_it_was_prepared(pool, candidates):
    assert pool.get(candidates[0]) is None
    executable = pool.prepare(candidates[0])
    assert pool.get(candidates[0]) is executable
    assert executable.runs >= 1, 'not warmed up'
    assert pool.prepare(candidates[0]) is executable
    assert pool.get(candidates[1]) is None


def test_a_failed_preparation_changes_nothing_and_may_be_tried_again(pool, backend, candidates):
    good = pool.prepare(candidates[0])
    backend.failing.add('narrow/whole')
    narrow = candidates[-1]
    with pytest.raises(BackendError, match='narrow/whole'):
        pool.prepare(narrow)
    assert pool.get(candidates[0]) is good
    assert pool.get(narrow) is None
    backend.failing.clear()
    assert pool.prepare(narrow) is pool.get(narrow)


def test_a_candidate_of_a_segment_that_was_not_prepared_is_refused(backend, segments, candidates):
    pool = Pool(backend, {'narrow/whole': segments['narrow/whole']})
    with pytest.raises(BackendError, match='wide/whole'):
        pool.prepare(candidates[0])


def test_many_threads_at_once_compile_each_candidate_once(pool, backend, candidates):
    found = []

    def ask():
        found.extend((c.candidate_id, pool.prepare(c)) for c in candidates)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8 * len(candidates)
    assert len(set(found)) == len(candidates)
    assert len(backend.compiled) == len(candidates)
    assert backend.most_at_once == 1


def test_eviction_lets_the_least_recently_used_go_and_keeps_what_it_must(pool, candidates):
    first, second, third, fourth = candidates[:4]
    for candidate in (first, second, third, fourth):
        pool.prepare(candidate)
    pool.get(first)
    assert pool.memory_bytes == 400
    gone = pool.evict_to(200, keep=[third.candidate_id])
    assert gone == (second.candidate_id, fourth.candidate_id)
    assert pool.get(first) is not None
    assert pool.memory_bytes == 200
    assert pool.evict_to(0, keep=[third.candidate_id]) == (first.candidate_id,)
    assert pool.evict_to(0, keep=[third.candidate_id]) == ()
    assert [pool.get(c) is not None for c in candidates[:4]] == [False, False, True, False]


def test_eviction_within_the_budget_lets_nothing_go(pool, candidates):
    pool.prepare(candidates[0])
    assert pool.evict_to(100) == ()
    assert pool.evict_to(float('inf')) == ()


def test_an_engine_that_ends_keeps_nobody_waiting_for_the_pool(pool, candidates):
    asked = []

    def end():
        asked.append(pool.memory_bytes)  # would wait for ever if the pool were locked

    weakref.finalize(pool.prepare(candidates[0]), end)
    pool.prepare(candidates[1])
    pool.evict_to(0, keep=[candidates[1].candidate_id])
    assert asked == [100]


def test_the_table_counts_before_plans_and_both_before_the_own_figure(
        backend, segments, candidates):
    table = {}
    pool = Pool(backend, segments, measured=lambda segment, options: table.get(
        (segment.segment_id, options), NO_READING))
    first, second = candidates[:2]
    pool.prepare(first)
    pool.prepare(second)
    assert pool.memory == Reading(200.0, ESTIMATED)
    pool.predict(first, Reading(7.0, MEASURED))
    assert pool.memory == Reading(107.0, ESTIMATED)
    table[('wide/whole', first.engine)] = Reading(30.0, MEASURED)
    table[('wide/whole', second.engine)] = Reading(20.0, MEASURED)
    assert pool.memory == Reading(50.0, MEASURED)
    assert pool.evict_to(30) == (first.candidate_id,)
    assert pool.memory_bytes == 20


@pytest.mark.parametrize('ask', [
    lambda pool, candidate: pool.memory,
    lambda pool, candidate: pool.held_bytes,
    lambda pool, candidate: pool.segment_bytes('wide/whole', candidate.engine),
    lambda pool, candidate: pool.missing_bytes(candidate),
    lambda pool, candidate: pool.evict_to(1e9)],
    ids=['memory', 'held_bytes', 'segment_bytes', 'missing_bytes', 'evict_to'])
def test_nobody_waits_for_a_table_that_is_read_for_another(backend, segments, candidates, ask):
    reading, may_go = threading.Event(), threading.Event()

    def measured(segment, options):
        reading.set()
        assert may_go.wait(10)
        return NO_READING
    pool = Pool(backend, segments, measured=measured)
    first, missing = candidates[0], candidates[1]
    pool.prepare(first)
    pool.hold('wide/whole', first.engine)
    thread = threading.Thread(target=ask, args=(pool, missing))
    thread.start()
    assert reading.wait(10)
    found = []

    def use():
        found.append(pool.get(first))  # the first look-up notes what it found
        pool.prepare(missing)
        pool.predict(first, Reading(7.0, ESTIMATED))
    user = threading.Thread(target=use, daemon=True)
    user.start()
    user.join(5)
    waited = user.is_alive()
    may_go.set()
    thread.join()
    user.join()
    assert not waited
    assert found[0] is not None


def test_a_look_up_never_waits_and_what_it_could_not_note_the_next_one_does(pool, candidates):
    executable = pool.prepare(candidates[0])
    with pool._lock:
        assert pool.get(candidates[0]) is executable
        assert not pool._wholes
    assert pool.get(candidates[0]) is executable
    assert list(pool._wholes) == [candidates[0].candidate_id]


def test_what_is_to_be_prepared_is_known_beforehand(pool, candidates):
    assert pool.missing_bytes(candidates[0]) == 0
    pool.predict(candidates[0], Reading(70.0, ESTIMATED))
    pool.predict(candidates[1], NO_READING)
    assert pool.missing_bytes(candidates[0]) == 70
    pool.prepare(candidates[0])
    assert pool.missing_bytes(candidates[0]) == 0


def placed(candidate, *segments):
    return dataclasses.replace(candidate, placement=Placement(tuple(
        SegmentPlacement('piece', name, device, codec) for name, device, codec in segments)))


def test_one_segment_under_several_placements_is_compiled_and_counted_once(
        pool, backend, candidates):
    whole = candidates[0]
    split = placed(whole, ('wide/whole', 'local', 'none'), ('narrow/whole', 'peer', 'raw'))
    packed = placed(whole, ('wide/whole', 'local', 'none'), ('narrow/whole', 'peer', 'int8'))
    assert len({c.candidate_id for c in (whole, split, packed)}) == 3
    executable = pool.prepare(whole)
    assert pool.get(split) is executable
    assert pool.prepare(packed) is executable
    assert len(backend.compiled) == 1
    assert pool.memory_bytes == 100
    assert pool.evict_to(0, keep=[packed.candidate_id]) == ()
    assert set(pool.evict_to(0)) == {c.candidate_id for c in (whole, split, packed)}
    assert pool.get(split) is None


def test_several_local_segments_are_prepared_together(pool, backend, candidates):
    both = placed(candidates[0], ('wide/whole', 'local', 'none'), ('x', 'peer', 'raw'),
                  ('narrow/whole', 'local', 'raw'))
    assert pool.get_all(both) is None
    wide, narrow = pool.prepare_all(both)
    assert pool.get_all(both) == (wide, narrow)
    assert [name for name, _, _ in backend.compiled] == ['wide/whole', 'narrow/whole']
    assert pool.get(both) is None
    with pytest.raises(BackendError, match='2 segments on this robot'):
        pool.prepare(both)


def test_a_candidate_that_runs_elsewhere_needs_nothing_here(pool, backend, candidates):
    away = placed(candidates[0], ('wide/whole', 'peer', 'jpeg'))
    assert pool.prepare_all(away) == ()
    assert pool.get(away) is None
    with pytest.raises(BackendError, match='0 segments on this robot'):
        pool.prepare(away)
    assert backend.compiled == []
