# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
ACT: one frame through the plan in force.

What runs is one reference. A switch replaces it; a frame takes it once and finishes on what
it took, so no frame is lost or mixed however often plans change.
"""
from __future__ import annotations

import math
import threading
import time
import weakref
from typing import Dict, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from crowdhmt_ros.engine.backend import Executable, make_buffers
from crowdhmt_ros.engine.cascade import Cascade
from crowdhmt_ros.errors import BackendError
from crowdhmt_ros.hedge import Hedge
from crowdhmt_ros.types import Candidate, Inference
from crowdhmt_ros.vision.frame import Frame
from crowdhmt_ros.vision.preprocess import Preprocessor


class Active(NamedTuple):
    """
    What answers frames now; a tuple, which is the quickest made.

    :param candidate: as the plan chose it
    :param executable: ready to run; with a hedge, what falls back
    :param plan_seq: the plan that chose it
    :param outputs: buffers that the executable writes to, (1, classes) float32 first
    :param hedge: asks a peer first, None for a candidate that stays here
    :param fallback: what answers when the peer does not
    """

    candidate: Candidate
    executable: Executable
    plan_seq: int
    outputs: Tuple[np.ndarray, ...] = ()
    hedge: Optional[Hedge] = None
    fallback: Optional[Candidate] = None


class Executor:
    """
    Answers frames. `infer` belongs to one worker thread, `switch` may come from any.

    :param classes: class names, in the order of the model's scores
    :param preprocessor: frame to tensor
    """

    def __init__(self, classes: Sequence[str], preprocessor: Preprocessor) -> None:
        self.classes = tuple(classes)
        self._preprocessor = preprocessor
        self._input = np.zeros(preprocessor.spec.shape, np.float32)
        self._active: Optional[Active] = None
        self._luminance: Optional[float] = None
        # Buffers stay with their executable: an engine binds them by address once. A plain
        # dictionary of weak references: looking one up runs no Python code.
        self._outputs: Dict[weakref.ref[Executable], Tuple[np.ndarray, ...]] = {}
        self._lock = threading.Lock()

    @property
    def active(self) -> Optional[Active]:
        """What answers the next frame; None before the first switch."""
        return self._active

    def answering(self) -> Optional[Executable]:
        """Return what answers the next frame here; with a peer, what falls back."""
        active = self._active
        return None if active is None else active.executable

    def switch(self, candidate: Candidate, executable: Executable, plan_seq: int) -> None:
        """
        Let another executable answer from the next frame on.

        :raises BackendError: when it takes or gives something else; nothing changes then
        """
        outputs = self._outputs.get(weakref.ref(executable))
        if outputs is None:
            with self._lock:
                self._check(candidate, executable)
                outputs = make_buffers(executable.outputs)
                self._outputs[weakref.ref(executable, self._gone)] = outputs
        self._active = Active(candidate, executable, plan_seq, outputs)

    def switch_hedged(self, candidate: Candidate, hedge: Hedge, fallback: Candidate,
                      executable: Executable, plan_seq: int) -> None:
        """
        Let a candidate with a peer answer from the next frame on.

        :param hedge: asks the peer, and falls back in time
        :param fallback: what answers when the peer does not
        :param executable: of the fallback
        :raises BackendError: when the fallback takes or gives something else; nothing changes
        """
        with self._lock:
            self._check(fallback, executable)
            self._active = Active(candidate, executable, plan_seq, (), hedge, fallback)

    def infer(self, frame: Frame) -> Inference:
        """
        Answer one frame.

        :param frame: any size, colour or grey
        :returns: scores and times of what was in force when the frame was taken
        :raises FrameError: the image cannot be used
        :raises BackendError: no plan yet, or the engine failed
        """
        active = self._active
        if active is None:
            raise BackendError('no plan is in force yet, so nothing can answer a frame')
        start_s = time.perf_counter()
        self._preprocessor.into(frame.image, self._input)
        # Now and not when it is asked for: the engine empties the caches that hold the image.
        self._luminance = self._preprocessor.luminance()
        ready_s = time.perf_counter()
        if active.hedge is not None:
            if active.hedge.retired:  # another plan came in while the frame was prepared
                active = self._active or active
            if active.hedge is not None:
                return self._hedged(active, active.hedge, frame, ready_s - start_s)
        exit_index = active.candidate.variant.exit_index
        if isinstance(active.executable, Cascade):
            exit_index = active.executable.answer((self._input,), active.outputs)
        else:
            active.executable.run((self._input,), active.outputs)
        end_s = time.perf_counter()
        return Inference(
            candidate_id=active.candidate.candidate_id, plan_seq=active.plan_seq,
            scores=softmax(active.outputs[0]), exit_index=exit_index,
            preprocess_s=ready_s - start_s, infer_s=end_s - ready_s)

    def _hedged(self, active: Active, hedge: Hedge, frame: Frame, preprocess_s: float
                ) -> Inference:
        image = self._preprocessor.resized if hedge.remote.takes_image else None
        done = hedge.answer(self._input, image, frame.received_s)
        fallback = active.fallback if done.degraded else None
        return Inference(
            candidate_id=active.candidate.candidate_id, plan_seq=active.plan_seq,
            scores=softmax(done.logits), preprocess_s=preprocess_s, infer_s=done.infer_s,
            exit_index=(fallback or active.candidate).variant.exit_index, degraded=done.degraded,
            fallback_id=fallback.candidate_id if fallback else '', crossing=done.crossing,
            offload_s=done.offload_s)

    def luminance(self) -> Optional[float]:
        """Return the mean grey of the last frame, 0..1; None before the first."""
        return self._luminance

    def _gone(self, executable: weakref.ref[Executable]) -> None:
        self._outputs.pop(executable, None)

    def _check(self, candidate: Candidate, executable: Executable) -> None:
        takes = [(s.shape, s.dtype) for s in executable.inputs]
        gives = [(s.shape, s.dtype) for s in executable.outputs]
        if (takes != [(self._input.shape, 'float32')]
                or gives[:1] != [((1, len(self.classes)), 'float32')]):
            raise BackendError('%s takes %r and gives %r, the camera gives float32 %r and there '
                               'are %d classes' % (candidate.candidate_id, takes, gives,
                                                   self._input.shape, len(self.classes)))


def softmax(logits: np.ndarray) -> Tuple[float, ...]:
    """
    Return class probabilities.

    :param logits: (1, classes) float32
    :returns: probabilities that sum to 1
    :raises BackendError: when the model gave no finite numbers
    """
    values = logits.tolist()[0]  # a handful of classes: plain numbers beat arrays
    highest, exp = max(values), math.exp
    powers = [exp(value - highest) for value in values]
    total = sum(powers)
    if not math.isfinite(total) or total <= 0.0:
        raise BackendError('the model gave no finite scores')
    return tuple([power / total for power in powers])
