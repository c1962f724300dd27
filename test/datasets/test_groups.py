# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crowdhmt_ros.datasets import InputKind, LabelledSet, hold_out, leave_out
from crowdhmt_ros.datasets.dataset import ArrayItems
from crowdhmt_ros.datasets.groups import default_groups
from crowdhmt_ros.errors import DataError


def labelled(labels, groups=None):
    count = len(labels)
    names = () if groups is None else tuple('s%d' % g for g in range(max(groups) + 1))
    return LabelledSet(
        'made', 'all', InputKind.WINDOW, (2, 1), tuple('abcdefgh'),
        ArrayItems(np.arange(2.0 * count, dtype=np.float32).reshape(count, 2, 1)),
        np.arange(count), np.asarray(labels, np.int64),
        None if groups is None else np.asarray(groups, np.int64), names, 'subject')


GROUPED = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 6)), min_size=4, max_size=60,
    ).filter(lambda rows: len({g for _, g in rows}) > 1)


@settings(deadline=None, max_examples=50)
@given(GROUPED, st.floats(0.05, 0.95), st.integers(0, 9))
def test_no_group_is_ever_divided(rows, ratio, seed):
    labels, groups = zip(*rows)
    rest, out = hold_out(labelled(labels, groups), ratio, seed=seed)
    assert not set(rest.groups) & set(out.groups)
    assert sorted([*rest.rows, *out.rows]) == list(range(len(rows)))


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(0, 3), min_size=12, max_size=80), st.integers(0, 9))
def test_without_groups_each_class_gives_its_share(labels, seed):
    if not any(labels.count(c) >= 2 for c in set(labels)):
        return
    rest, out = hold_out(labelled(labels), 0.5, seed=seed)
    for c in set(labels):
        assert int((out.labels == c).sum()) == round(0.5 * labels.count(c))
    assert not set(rest.rows) & set(out.rows)


def test_the_draw_is_a_function_of_the_seed():
    whole = labelled([k % 4 for k in range(80)])
    draws = [hold_out(whole, 0.25, seed=s)[1].rows.tolist() for s in (1, 1, 2)]
    assert draws[0] == draws[1] != draws[2]


def test_about_the_share_is_held_out_when_groups_are_alike():
    whole = labelled([k % 4 for k in range(200)], [k // 10 for k in range(200)])
    assert len(hold_out(whole, 0.2)[1]) == 40


def test_named_groups_are_left_out():
    rest, out = leave_out(labelled([0, 1, 0, 1], [0, 1, 2, 1]), ['s1'])
    assert (rest.rows.tolist(), out.rows.tolist()) == ([0, 2], [1, 3])
    assert (rest.split, out.split) == ('train', 'test')


@pytest.mark.parametrize(('count', 'names'), [(3, ('s2',)), (10, ('s8', 's9'))])
def test_the_default_is_the_last_fifth(count, names):
    assert default_groups(labelled([0] * count, list(range(count)))) == names


@pytest.mark.parametrize(('make', 'told'), [
    (lambda: leave_out(labelled([0, 1]), ['s1']), 'neither folds nor subjects'),
    (lambda: leave_out(labelled([0, 1], [0, 1]), ['s7']), 'no subject s7; there are s0, s1'),
    (lambda: leave_out(labelled([0, 1], [0, 1]), ['s0', 's1']), 'leaves one part empty'),
    (lambda: leave_out(labelled([0, 1], [0, 1]), []), 'leaves one part empty'),
    (lambda: hold_out(labelled([0, 1]), 1.5), 'lies between 0 and 1'),
    (lambda: hold_out(labelled([0, 1]), 0.1), 'leaves one part empty'),
    (lambda: hold_out(labelled([0, 1], [0, 0]), 0.5), 'leaves one part empty'),
])
def test_parts_that_cannot_be_made_are_named(make, told):
    with pytest.raises(DataError, match=told):
        make()
