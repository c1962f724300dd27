# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
import pytest

from crowdhmt_ros.engine.memory.lifetimes import Step
from crowdhmt_ros.engine.memory.verifier import verify
from crowdhmt_ros.errors import BackendError

STEPS = [Step('a', ('x',), ('y',)), Step('b', ('y',), ('z',)), Step('c', ('x', 'z'), ('w',))]
SIZES = {'x': 64, 'y': 64, 'z': 100, 'w': 64}
RIGHT = {'x': 0, 'y': 64, 'z': 128, 'w': 64}  # z ends at 228


def test_a_right_plan_passes():
    verify(STEPS, SIZES, RIGHT, 256, kept=['w'])


@pytest.mark.parametrize(('wrong', 'says'), [
    ({'y': 0}, 'writes y over x while it reads it'),
    ({'z': 64}, 'writes z over y while it reads it'),
    ({'w': 192}, 'writes w over z'),
    ({'w': 256}, 'does not fit'), ({'w': -64}, 'does not fit'), ({'w': 32}, 'does not fit')])
def test_a_wrong_plan_is_refused(wrong, says):
    with pytest.raises(BackendError, match=says):
        verify(STEPS, SIZES, {**RIGHT, **wrong}, 256)


def test_what_is_kept_must_be_whole_at_the_end():
    with pytest.raises(BackendError, match='the end reads y'):
        verify(STEPS, SIZES, RIGHT, 256, kept=['y'])


def test_working_in_place_must_be_declared():
    steps = [Step('a', ('x',), ('y',), (('y', 'x'),))]
    verify(steps, SIZES, {'x': 0, 'y': 0}, 64)
    with pytest.raises(BackendError, match='while it reads it'):
        verify([Step('a', ('x',), ('y',))], SIZES, {'x': 0, 'y': 0}, 64)


def test_two_results_of_one_step_lie_apart():
    with pytest.raises(BackendError, match='overwritten'):
        verify([Step('a', (), ('x', 'y'))], SIZES, {'x': 0, 'y': 0}, 64)


def test_what_is_overwritten_before_it_is_read_is_found():
    with pytest.raises(BackendError, match='c reads x, which was overwritten'):
        verify(STEPS, {**SIZES, 'z': 64}, {**RIGHT, 'z': 0}, 256)


def test_either_operand_may_be_written_over_where_both_are_declared():
    steps = [Step('a', ('x', 'y'), ('z',), (('z', 'x'), ('z', 'y')))]
    sizes = {'x': 128, 'y': 128, 'z': 128}
    for at in (0, 128):
        verify(steps, sizes, {'x': 0, 'y': 128, 'z': at}, 256)
    with pytest.raises(BackendError, match='writes z over x while it reads it'):
        verify(steps, sizes, {'x': 0, 'y': 128, 'z': 64}, 256)
