# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A backend that does as it is told, and collectors of what a pool tells."""
import threading
import time

from crowdhmt_ros.errors import BackendError
from crowdhmt_ros.types import TensorSpec


class FakeExecutable:
    inputs = (TensorSpec('image', 'float32', (1, 3, 64, 64)),)
    outputs = (TensorSpec('logits', 'float32', (1, 4)),)

    def __init__(self, memory_bytes=100):
        self.memory_bytes = memory_bytes
        self.runs = 0

    def run(self, inputs, outputs):
        self.runs += 1


class FakeBackend:
    """Compiles when let, notes what, fails where told."""

    name, warnings = 'onnxruntime', ()

    def __init__(self):
        self.compiled = []
        self.may_go = threading.Event()
        self.may_go.set()
        self.started = threading.Event()
        self.failing = set()
        self.at_once = 0
        self.most_at_once = 0

    def providers(self):
        return ()

    def compile(self, segment, options):
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        self.started.set()
        assert self.may_go.wait(10)
        self.at_once -= 1
        self.compiled.append((segment.segment_id, options.threads, options.memory_mode))
        if segment.segment_id in self.failing:
            raise BackendError('cannot compile %s' % segment.segment_id)
        return FakeExecutable()


class Answers:
    """Collects what the background thread reports."""

    def __init__(self):
        self.items = []
        self.changed = threading.Condition()

    def __call__(self, candidate, executable, error):
        with self.changed:
            self.items.append((candidate.candidate_id, executable, error))
            self.changed.notify_all()

    def wait(self, count):
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.items) >= count, 10), self.items
        return self.items


class Seen(list):
    """Collects the types of the errors that end threads."""

    def __call__(self, told):
        self.append(told.exc_type)

    def wait(self, count):
        deadline_s = time.monotonic() + 10
        while len(self) < count and time.monotonic() < deadline_s:
            time.sleep(0.001)
        return self
