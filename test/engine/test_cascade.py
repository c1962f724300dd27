# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import contextlib
import math

import numpy as np
import pytest

from crowdhmt_ros.engine.cascade import Cascade, confidence
from crowdhmt_ros.errors import BackendError
from crowdhmt_ros.types import EarlyExit, TensorSpec

FEATURES = TensorSpec('features', 'float32', (1, 4))
SCORES = TensorSpec('scores', 'float32', (1, 3))
IMAGE = TensorSpec('image', 'float32', (1, 2))


class Step:
    """Gives fixed scores, and its own input plus one as features."""

    def __init__(self, scores, inputs=(FEATURES,), outputs=(SCORES, FEATURES)):
        self.inputs, self.outputs, self.memory_bytes = inputs, outputs, 100
        self.scores, self.runs, self.seen = scores, 0, None

    def run(self, inputs, outputs):
        self.runs += 1
        self.seen = inputs[0].copy()
        outputs[0][:] = self.scores
        if len(outputs) > 1:
            outputs[1][:] = inputs[0].sum() + 1.0


def rule(number, threshold=0.7, temperature=1.0):
    return EarlyExit(number, 'cut%d' % number, threshold, temperature, 0.5)


def chain(first, second=(0.0, 0.0, 0.0)):
    steps = [Step(first, (IMAGE,)), Step(second), Step((9.0, 0.0, 0.0), outputs=(SCORES,))]
    return steps, Cascade(
        [(steps[0], rule(1)), (steps[1], rule(2)), (steps[2], None)], last_exit=4)


SURE, UNSURE = (5.0, 0.0, 0.0), (0.5, 0.4, 0.3)


@pytest.mark.parametrize(('first', 'second', 'exit_index', 'runs', 'best'), [
    (SURE, UNSURE, 1, [1, 0, 0], 5.0), (UNSURE, SURE, 2, [1, 1, 0], 5.0),
    (UNSURE, UNSURE, 4, [1, 1, 1], 9.0)])
def test_nothing_runs_behind_the_exit_that_is_sure(first, second, exit_index, runs, best):
    steps, cascade = chain(first, second)
    out = np.zeros((1, 3), np.float32)
    assert cascade.answer((np.ones((1, 2), np.float32),), (out,)) == exit_index
    assert [s.runs for s in steps] == runs
    assert out[0, 0] == best


def test_each_step_goes_on_from_what_the_one_before_left():
    steps, cascade = chain(UNSURE, UNSURE)
    cascade.run((np.ones((1, 2), np.float32),), (np.zeros((1, 3), np.float32),))
    assert steps[1].seen.tolist() == [[3.0] * 4]
    assert steps[2].seen.tolist() == [[13.0] * 4]


def test_it_takes_what_the_first_takes_and_gives_what_the_last_gives():
    _, cascade = chain(SURE)
    assert (cascade.inputs, cascade.outputs) == ((IMAGE,), (SCORES,))
    assert cascade.memory_bytes == 300


def test_scores_are_divided_by_the_temperature_of_their_exit():
    first, last = Step((4.0, 0.0, 0.0), (IMAGE,)), Step(SURE, outputs=(SCORES,))
    out = np.zeros((1, 3), np.float32)
    warm = Cascade([(first, rule(0, 0.6, 2.0)), (last, None)], last_exit=1)
    assert warm.answer((np.ones((1, 2), np.float32),), (out,)) == 0
    assert out.tolist() == [[2.0, 0.0, 0.0]]
    hot = Cascade([(first, rule(0, 0.6, 8.0)), (last, None)], last_exit=1)
    assert hot.answer((np.ones((1, 2), np.float32),), (out,)) == 1


@pytest.mark.parametrize('scores', [
    (math.nan, 0.0, 0.0), (math.inf, 0.0, 0.0), (-math.inf,) * 3])
def test_scores_that_are_not_finite_are_never_sure(scores):
    steps, cascade = chain(scores, UNSURE)
    assert cascade.answer((np.ones((1, 2), np.float32),),
                          (np.zeros((1, 3), np.float32),)) == 4
    assert [s.runs for s in steps] == [1, 1, 1]


def test_confidence_is_the_highest_probability():
    scores = np.float32([[1.0, 2.0, 0.5]])
    wanted = np.exp(2.0) / np.exp(scores).sum()
    assert confidence(scores) == pytest.approx(wanted, rel=1e-6)
    assert confidence(np.float32([[3000.0, 0.0]])) == 1.0


def test_guests_wait_from_the_first_step_to_the_answer():
    told = []

    class Last(Step):
        def run(self, inputs, outputs):
            told.append('ran')
            super().run(inputs, outputs)

    @contextlib.contextmanager
    def turn():
        told.append('in')
        yield
        told.append('out')

    cascade = Cascade([(Step(UNSURE, (IMAGE,)), rule(0)), (Last(SURE, outputs=(SCORES,)), None)],
                      last_exit=1, turn=turn())
    cascade.run((np.ones((1, 2), np.float32),), (np.zeros((1, 3), np.float32),))
    assert told == ['in', 'ran', 'out']


@pytest.mark.parametrize('steps', [
    [(Step(SURE, (IMAGE,)), None), (Step(SURE, outputs=(SCORES,)), None)],
    [(Step(SURE, (IMAGE,)), rule(0))],
    [(Step(SURE, (IMAGE,)), rule(0)), (Step(SURE, (IMAGE,), (SCORES,)), None)],
    [(Step(SURE, (IMAGE,), (FEATURES, SCORES)), rule(0)), (Step(SURE, outputs=(SCORES,)), None)]])
def test_steps_that_do_not_fit_are_refused(steps):
    with pytest.raises(BackendError):
        Cascade(steps, last_exit=1)
