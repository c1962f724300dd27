# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What guests hold in a pool beside the robot's own candidates."""
import pytest

from crowdhmt_ros.engine.backends import make_backend
from crowdhmt_ros.engine.pool import Pool
from crowdhmt_ros.errors import BackendError
from crowdhmt_ros.types import MEASURED, EngineOptions, Reading

HELD = EngineOptions()
SIZE = 1000


@pytest.fixture
def pool(segments):
    found = Pool(make_backend('onnxruntime'), segments,
                 measured=lambda segment, options: Reading(SIZE, MEASURED))
    yield found
    found.close()


@pytest.fixture
def candidates(bundle):
    return bundle.candidates()


def test_what_a_guest_holds_is_counted_apart_and_never_evicted(pool, candidates):
    executable = pool.hold('wide/whole', HELD)
    assert pool.hold('wide/whole', HELD) is executable
    assert pool.memory_bytes == 0
    assert pool.held_bytes == pool.segment_bytes('wide/whole', HELD) == SIZE
    assert pool.evict_to(0.0) == ()
    pool.unhold('wide/whole', HELD)
    assert pool.held_bytes == SIZE
    pool.unhold('wide/whole', HELD)
    pool.unhold('wide/whole', HELD)
    assert pool.held_bytes == 0


def test_candidate_and_guest_share_one_executable_that_outlives_either(pool, candidates):
    wide = candidates[0]
    executable = pool.hold('wide/whole', HELD)
    assert pool.prepare(wide) is executable
    assert pool.memory_bytes == SIZE
    assert pool.evict_to(0.0) == (wide.candidate_id,)
    assert pool.memory_bytes == 0
    assert pool.hold('wide/whole', HELD) is executable
    assert pool.get(wide) is executable
    pool.unhold('wide/whole', HELD)
    pool.unhold('wide/whole', HELD)
    assert pool.get(wide) is executable
    assert pool.memory_bytes == SIZE


def test_an_unknown_segment_cannot_be_held(pool):
    with pytest.raises(BackendError, match='a peer needs segment huge, this robot has prepared'):
        pool.hold('huge', HELD)


def test_letting_go_of_candidates_keeps_what_guests_hold(pool, candidates):
    for candidate in candidates:
        pool.prepare(candidate)
    guest = pool.hold('wide/whole', HELD)
    pool.let_go()
    assert pool.memory_bytes == 0
    assert pool.get(candidates[-1]) is None
    assert pool.held_bytes == SIZE
    assert pool.hold('wide/whole', HELD) is guest
