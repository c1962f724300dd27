# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
import statistics

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crowdhmt_ros.engine.memory_plan import ALGORITHMS, Step, plan_memory

KB = 1024


def chain(*sizes):
    names = ['t%d' % i for i in range(len(sizes))]
    steps = [Step('step%d' % i, (names[i],), (names[i + 1],)) for i in range(len(sizes) - 1)]
    return steps, dict(zip(names, sizes))


@st.composite
def orders(draw):
    """Draw any order of operators, some of which may work in place."""
    count = draw(st.integers(1, 25))
    steps, sizes = [], {'t0': draw(st.integers(0, 5000))}
    for i in range(1, count + 1):
        reads = tuple('t%d' % r for r in sorted(draw(st.sets(
            st.integers(0, i - 1), min_size=1, max_size=3))))
        allowed = draw(st.booleans())
        steps.append(Step('step%d' % i, reads, ('t%d' % i,),
                          tuple(('t%d' % i, r) for r in reads) if allowed else ()))
        sizes['t%d' % i] = sizes[reads[0]] if allowed else draw(st.integers(0, 5000))
    kept = draw(st.sets(st.sampled_from(sorted(sizes))))
    return steps, sizes, kept


@settings(max_examples=150, deadline=None)
@given(orders())
def test_any_order_gets_a_plan_that_computes_right(order):
    """Run the steps on one arena of numbers and compare with tensors that lie apart."""
    steps, sizes, kept = order
    plan = plan_memory(steps, sizes, kept=kept)
    arena = np.zeros(plan.arena_bytes, np.uint8)
    apart = {}

    def view(name):
        return arena[plan.offsets[name]:plan.offsets[name] + sizes[name]]

    for number, name in enumerate(sizes):
        if not any(name in step.gives for step in steps):
            apart[name] = np.full(sizes[name], number + 1, np.uint8)
            view(name)[:] = apart[name]
    for number, step in enumerate(steps):
        for name in step.reads:
            np.testing.assert_array_equal(view(name), apart[name])
        for name in step.gives:
            apart[name] = np.full(sizes[name], 100 + number, np.uint8)
            view(name)[:] = apart[name]
    for name in kept:
        np.testing.assert_array_equal(view(name), apart[name])
    assert plan.bound_bytes <= plan.arena_bytes


@settings(max_examples=50, deadline=None)
@given(orders(), st.sampled_from(sorted(ALGORITHMS)))
def test_every_algorithm_alone_passes_the_verifier(order, name):
    steps, sizes, kept = order
    plan = plan_memory(steps, sizes, kept=kept, algorithms={name: ALGORITHMS[name]})
    assert plan.algorithm == name


def test_a_chain_needs_no_more_than_its_two_largest_neighbours():
    steps, sizes = chain(600 * KB, 3200 * KB, 800 * KB, 800 * KB, 400 * KB, 4 * KB)
    plan = plan_memory(steps, sizes)
    assert plan.arena_bytes == plan.bound_bytes == 4000 * KB
    assert plan.arena_vs_bound_ratio == 1.0


def test_a_residual_network_reaches_the_bound():
    steps, sizes = [], {'x0': 800 * KB}
    for i in range(8):
        small = (800 >> i // 2) * KB
        steps += [Step('a%d' % i, ('x%d' % i,), ('h%d' % i,)),
                  Step('b%d' % i, ('h%d' % i, 'x%d' % i), ('x%d' % (i + 1),))]
        sizes.update({'h%d' % i: small, 'x%d' % (i + 1): small})
    plan = plan_memory(steps, sizes, kept=['x8'])
    assert plan.arena_bytes == plan.bound_bytes


def test_random_graphs_stay_close_to_the_bound(random_dag):
    ratios = []
    for seed in range(25):
        steps, sizes = random_dag(seed)
        plan = plan_memory(steps, sizes, kept=[steps[-1].gives[0]])
        ratios.append(plan.arena_vs_bound_ratio)
    assert statistics.mean(ratios) <= 1.04
    assert max(ratios) <= 1.15


def test_the_best_algorithm_wins(random_dag):
    steps, sizes = random_dag(1)
    best = plan_memory(steps, sizes)
    alone = [plan_memory(steps, sizes, algorithms={n: a}).arena_bytes
             for n, a in ALGORITHMS.items()]
    assert best.arena_bytes == min(alone)


def test_an_order_without_tensors_needs_nothing():
    plan = plan_memory([Step('a', ('x',), ('y',))], {})
    assert plan.arena_bytes == 0
    assert plan.arena_vs_bound_ratio == 1.0


def test_what_lies_outside_takes_no_place():
    steps, sizes = chain(64, 64 * KB, 64)
    plan = plan_memory(steps, sizes, outside=['t1'])
    assert 't1' not in plan.offsets
    assert plan.arena_bytes < KB


@pytest.mark.parametrize(('steps', 'says'), [
    ([Step('a', ('y',), ('x',)), Step('b', ('x',), ('y',))], 'before it is given'),
    ([Step('a', (), ('x',)), Step('b', (), ('x',))], 'a second time')])
def test_steps_that_make_no_order_are_refused(steps, says):
    from crowdhmt_ros.errors import BackendError
    with pytest.raises(BackendError, match=says):
        plan_memory(steps, {'x': 1, 'y': 1})
