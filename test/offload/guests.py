# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A segment server on a fake engine, and requests to it."""
import itertools
import threading
import time
from dataclasses import replace

import numpy as np

from crowdhmt_ros.errors import BackendError
from crowdhmt_ros.offload.codec import encode
from crowdhmt_ros.offload.leases import LeaseLimits
from crowdhmt_ros.offload.messages import LeaseRequest, RunRequest
from crowdhmt_ros.offload.served import WHOLE_CODECS, Served, ServerSettings
from crowdhmt_ros.offload.server import SegmentServer
from crowdhmt_ros.types import Segment, TensorSpec

BUNDLE = 'b' * 64
FEATURES = TensorSpec('features', 'float32', (1, 4, 8, 8))
IMAGE = TensorSpec('image', 'float32', (1, 3, 16, 24))
LOGITS = TensorSpec('logits', 'float32', (1, 4))
TAIL = Segment('wide/tail', '1' * 64, '', (FEATURES,), (LOGITS,), 1000)
OTHER = Segment('narrow/tail', '2' * 64, '', (FEATURES,), (LOGITS,), 1000)
WHOLE = Segment('wide/whole', '3' * 64, '', (IMAGE,), (LOGITS,), 1000)
SERVED = {TAIL.segment_id: Served(TAIL), OTHER.segment_id: Served(OTHER),
          WHOLE.segment_id: Served(WHOLE, WHOLE_CODECS)}
MAP = np.arange(256, dtype=np.float32).reshape(FEATURES.shape)
_seqs = itertools.count(1)
_nonces = itertools.count(1)


class Sum:
    """An executable that answers the sums of its input's first four rows."""

    def __init__(self, may_go):
        self.may_go = may_go
        self.started = threading.Event()
        self.failing = False

    def run(self, inputs, outputs):
        self.started.set()
        assert self.may_go.wait(10)
        if self.failing:
            raise BackendError('the engine failed: on purpose')
        outputs[0][0] = inputs[0][0].reshape(-1)[:64].reshape(4, 16).sum(axis=1)


class FakePool:
    """Counts holds; each segment takes 1000 bytes once it is there."""

    def __init__(self):
        self.holds = {}
        self.executables = {}
        self.may_go = threading.Event()
        self.may_go.set()
        self.failing = set()
        self.bytes_each = 1000.0

    def hold(self, segment_id, options):
        if segment_id in self.failing:
            raise BackendError('cannot compile %s' % segment_id)
        self.holds[segment_id] = self.holds.get(segment_id, 0) + 1
        return self.executables.setdefault(segment_id, Sum(self.may_go))

    def unhold(self, segment_id, options):
        self.holds[segment_id] -= 1
        if not self.holds[segment_id]:
            del self.holds[segment_id]

    def segment_bytes(self, segment_id, options):
        return self.bytes_each if segment_id in self.holds else 0.0

    @property
    def held_bytes(self):
        return self.bytes_each * len(self.holds)


class FakeTurns:
    """Gaps between own frames, as the test says."""

    def __init__(self):
        self.free = True

    def guest(self, timeout_s):
        return self.free


class Clock:
    """Monotonic time that the test may push forward."""

    def __init__(self):
        self.ahead_s = 0.0

    def __call__(self):
        return time.monotonic() + self.ahead_s


def plain(image, out):
    """Stand in for preprocessing."""
    out[0] = image.transpose(2, 0, 1)


def make_server(**limits):
    """Return a started server with everything fake behind it."""
    clock = Clock()
    server = SegmentServer(
        SERVED, FakePool(), FakeTurns(), prepare=plain, monotonic=clock,
        settings=ServerSettings('drone', BUNDLE, leases=LeaseLimits(**limits)))
    server.pool, server.turns, server.clock = server._held._pool, server._turns, clock
    server.start()
    return server


def lease_request(segment_ids=(TAIL.segment_id,), robot_id='vehicle', boot_id='v1', **other):
    """Return a wish of the vehicle."""
    wish = LeaseRequest(robot_id, boot_id, next(_seqs), nonce(), BUNDLE, tuple(segment_ids),
                        memory_bytes=1000.0, rate_hz=20.0, duration_s=30.0)
    return replace(wish, **other)


def run_request(lease_id, segment=TAIL, codec='raw', payload=None, **other):
    """Return a request of the vehicle for one frame."""
    request = RunRequest('vehicle', 'v1', lease_id, next(_seqs), nonce(), segment.segment_id,
                         segment.sha256, codec, budget_s=5.0,
                         payload=encode('raw', (MAP,)) if payload is None else payload)
    return replace(request, **other)


def nonce():
    """Return 16 bytes that were not there before."""
    return next(_nonces).to_bytes(16, 'big')


def next_seq():
    """Return a request number above all before."""
    return next(_seqs)


class Replies(list):
    """Collects what a server answers."""

    def __init__(self):
        super().__init__()
        self.changed = threading.Condition()

    def __call__(self, reply):
        with self.changed:
            self.append(reply)
            self.changed.notify_all()

    def wait(self, count=1):
        with self.changed:
            assert self.changed.wait_for(lambda: len(self) >= count, 10), list(self)
        return self[count - 1]


def until(predicate, timeout_s=5.0):
    """Wait for something that another thread does."""
    deadline_s = time.monotonic() + timeout_s
    while not predicate():
        assert time.monotonic() < deadline_s, 'did not happen in time'
        time.sleep(0.002)
