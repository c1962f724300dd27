# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Pool, executor and lock in which things happen when a test says so."""
from crowdhmt_ros.errors import BackendError
from crowdhmt_ros.types import Candidate, EngineOptions, Placement, SegmentPlacement, Variant


def candidate(name):
    return Candidate(name, Variant((), 0), Placement((SegmentPlacement('whole', name),)),
                     EngineOptions())


A, B = candidate('a'), candidate('b')


class FakePool:
    """A pool whose background work happens when the test says so."""

    def __init__(self, *resident):
        self.resident = {c.candidate_id: c.variant_id for c in resident}
        self.waiting = []
        self.kept = None

    def get(self, wanted):
        return self.resident.get(wanted.candidate_id)

    def prepare_in_background(self, wanted, done):
        self.waiting.append((wanted, done))

    def missing_bytes(self, wanted):
        return 0.0 if wanted.candidate_id in self.resident else 4.0

    def evict_to(self, budget_bytes, keep, exactly=()):
        self.kept, self.budget_bytes = {*keep, *exactly}, budget_bytes
        return ()

    def finish(self, error=None):
        wanted, done = self.waiting.pop(0)
        if error is None:
            self.resident[wanted.candidate_id] = wanted.variant_id
        done(wanted, None if error else wanted.variant_id, error)


class FakeExecutor:

    def __init__(self):
        self.in_force = []
        self.refusing = False

    def switch(self, wanted, executable, plan_seq):
        self.in_force.append((executable, plan_seq))

    def switch_hedged(self, wanted, hedge, fallback, executable, plan_seq):
        if self.refusing:
            raise BackendError('it gives something else')
        assert not hedge.retired
        self.in_force.append((hedge, plan_seq))


class Scripted:
    """In place of a lock: runs one step right before a given acquisition."""

    def __init__(self, inner, at, step):
        self.inner, self.at, self.step = inner, at, step

    def __enter__(self):
        self.at -= 1
        if self.at == 0:
            self.step()
        return self.inner.__enter__()

    def __exit__(self, *reason):
        return self.inner.__exit__(*reason)
