# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Flows, blocks and cut sets of graphs, random ones among them."""
from __future__ import annotations

import numpy as np
import pytest

onnx = pytest.importorskip('onnx', reason='cutting graphs needs the extra train')
pytest.importorskip('onnxruntime')

from hypothesis import HealthCheck, given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from onnx import helper  # noqa: E402

from crowdhmt_ros.errors import ExportError  # noqa: E402
from crowdhmt_ros.graph.cuts import (  # noqa: E402
    CutSet,
    cut_sets,
    nested_cuts,
    offer,
    partition,
    spread,
)
from crowdhmt_ros.graph.split import check_pieces, check_split, pieces, split  # noqa: E402

from .cut_graphs import SHAPE, make, models, value  # noqa: E402

RANDOM = settings(max_examples=60, deadline=None, derandomize=True,
                  suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
WEIGHT = np.full((2, 2, 3, 3), 0.1, np.float32)


def conv(source, name, weight='w', **more):
    return helper.make_node('Conv', [source, weight], [name], name, kernel_shape=[3, 3],
                            pads=[1, 1, 1, 1], **more)


def relu(source, name):
    return helper.make_node('Relu', [source], [name], name)


def add(first, second, name):
    return helper.make_node('Add', [first, second], [name], name)


def names(cuts):
    return [cut.tensors for cut in cuts]


@pytest.fixture
def residual():
    """conv, a block with a shortcut, conv."""
    return make([conv('x', 'stem'), relu('stem', 's'), conv('s', 'a'), relu('a', 'b'),
                 conv('b', 'c'), add('c', 's', 'd'), relu('d', 'e'), conv('e', 'y')],
                [value('x')], [value('y')], {'w': WEIGHT})


def reachable_without(model, tensors):
    """Tell whether an output still rests on an input when some tensors are taken away."""
    known = {v.name for v in model.graph.input}
    for node in model.graph.node:
        if known.intersection(node.input):
            known.update(n for n in node.output if n not in tensors)
    return known


@RANDOM
@given(models())
def test_every_cut_parts_the_graph_and_its_halves_equal_the_whole(model):
    for cut in cut_sets(model):
        left = reachable_without(model, cut.tensors) & {v.name for v in model.graph.output}
        assert left == set(cut.carried)
        head, tail = split(model, cut.tensors)
        given = [v.name for v in head.graph.output]
        assert given == [*cut.tensors, *cut.carried]
        assert check_split(model, head, tail, tolerance=1e-5) <= 1e-5


@RANDOM
@given(models())
def test_no_cut_is_larger_than_needed(model):
    outputs = {v.name for v in model.graph.output}
    for cut in cut_sets(model):
        for spared in cut.tensors:
            others = set(cut.tensors) - {spared}
            left = reachable_without(model, others) & outputs
            assert left - set(cut.carried), 'without %s it parts as much' % spared


@RANDOM
@given(models())
def test_operators_flows_and_blocks_are_in_order_and_complete(model):
    found = partition(model)
    place = {n: i for i, n in enumerate(found.operators)}
    assert len(place) == len(found.operators)
    for tensor, maker in found.makers.items():
        assert all(maker < reader for reader in found.readers.get(tensor, ()))
    assert sorted(i for f in found.flows for i in f.operators) == list(range(len(place)))
    assert [i for b in found.blocks for i in b.operators] == list(range(len(place)))
    assert sorted(k for b in found.blocks for k in b.flows) == list(range(len(found.flows)))


@RANDOM
@given(models())
def test_flows_of_one_level_do_not_wait_for_each_other(model):
    found = partition(model)
    flow_of = {i: k for k, f in enumerate(found.flows) for i in f.operators}
    for tensor, maker in found.makers.items():
        for reader in found.readers.get(tensor, ()):
            one, two = flow_of[maker], flow_of[reader]
            assert one == two or found.flows[one].level < found.flows[two].level


@RANDOM
@given(models(), st.data())
def test_pieces_between_cuts_chain_to_the_whole(model, data):
    cuts = cut_sets(model)
    chosen = sorted(data.draw(st.sets(st.sampled_from(range(len(cuts))), max_size=3))
                    if cuts else ())
    nested = nested_cuts(model, [cuts[i].tensors for i in chosen])
    parts = pieces(model, nested)
    assert len(parts) == len(nested) + 1
    assert check_pieces(model, parts, tolerance=1e-5) <= 1e-5


def test_a_shortcut_needs_two_tensors_inside_its_block(residual):
    found = cut_sets(residual)
    assert names(found) == [('s',), ('s', 'b'), ('e',)]
    assert names(cut_sets(residual, max_tensors=1)) == [('s',), ('e',)]
    size = 4 * int(np.prod(SHAPE))
    assert [c.crossing_bytes for c in found] == [size, 2 * size, size]
    layer = int(np.prod(SHAPE)) * 2 * 9
    assert [c.work_before for c in found] == [layer, 2 * layer, 3 * layer]


def test_a_block_is_what_lies_between_the_narrowest_cuts(residual):
    found = partition(residual)
    assert found.blocks[0].inputs == ('x',)
    inside = next(b for b in found.blocks if b.inputs == ('s',))
    assert [found.operators[i] for i in inside.operators] == ['a', 'b', 'c', 'd']
    assert found.blocks[-1].outputs == ('y',)
    assert all(len(b.outputs) == 1 for b in found.blocks)
    assert found.work == 4 * int(np.prod(SHAPE)) * 18


def test_branches_are_flows_of_one_level():
    model = make([conv('x', 's'), conv('s', 'a'), relu('a', 'b'), conv('s', 'c'),
                  add('b', 'c', 'y')], [value('x')], [value('y')], {'w': WEIGHT})
    found = partition(model)
    chains = {tuple(found.operators[i] for i in f.operators): f for f in found.flows}
    assert set(chains) == {('s',), ('a', 'b'), ('c',), ('y',)}
    assert chains['a', 'b'].level == chains['c',].level == 1
    assert (chains['a', 'b'].inputs, chains['a', 'b'].outputs) == (('s',), ('b',))


def test_constants_never_cross():
    constant = helper.make_node('Constant', [], ['k'], 'k', value=onnx.numpy_helper.from_array(
        np.ones(SHAPE, np.float32)))
    scaled = helper.make_node('Mul', ['k', 'k'], ['kk'], 'kk')
    model = make([constant, scaled, conv('x', 'a'), add('a', 'kk', 'b'), conv('b', 'c'),
                  add('c', 'kk', 'y')], [value('x')], [value('y')], {'w': WEIGHT})
    found = cut_sets(model)
    assert names(found) == [('b',), ('c',)]
    for cut in found:
        assert check_split(model, *split(model, cut.tensors)) <= 1e-6


def test_an_early_output_is_carried_by_the_head():
    model = make([conv('x', 's'), relu('s', 'early'), conv('s', 'b'), conv('b', 'y')],
                 [value('x')], [value('y'), value('early')], {'w': WEIGHT})
    cut = next(c for c in cut_sets(model) if c.tensors == ('b',))
    assert cut.carried == ('early',)
    head, tail = split(model, cut.tensors)
    assert [v.name for v in head.graph.output] == ['b', 'early']
    assert [v.name for v in tail.graph.output] == ['y']
    assert check_split(model, head, tail) <= 1e-6
    assert all(not c.carried for c in offer(model, carrying=False))


def test_an_output_that_crosses_is_given_once():
    model = make([conv('x', 's'), conv('s', 'y')], [value('x')], [value('s'), value('y')],
                 {'w': WEIGHT})
    (cut,) = cut_sets(model)
    assert (cut.tensors, cut.carried) == (('s',), ())
    head, tail = split(model, cut.tensors)
    assert [v.name for v in head.graph.output] == ['s']
    assert [v.name for v in tail.graph.output] == ['y']
    assert check_split(model, head, tail) <= 1e-6


def test_no_cut_where_an_input_is_still_awaited():
    model = make([conv('x', 'a'), conv('a', 'b'), add('b', 'late', 'c'), conv('c', 'y')],
                 [value('x'), value('late')], [value('y')], {'w': WEIGHT})
    assert names(cut_sets(model)) == [('c',)]


def test_two_towers_are_cut_through_both():
    model = make([conv('x', 'a'), conv('a', 'b'), conv('z', 'k'), add('b', 'k', 'c'),
                  conv('c', 'y')], [value('x'), value('z')], [value('y')], {'w': WEIGHT})
    assert {frozenset(c.tensors) for c in cut_sets(model)} >= {
        frozenset(('a', 'k')), frozenset(('c',))}


def test_what_subgraphs_read_crosses_too():
    then = helper.make_graph([relu('s', 'then_out')], 'then', [], [value('then_out')])
    other = helper.make_graph([helper.make_node('Neg', ['s'], ['else_out'])], 'else', [],
                              [value('else_out')])
    flag = onnx.numpy_helper.from_array(np.array(True), 'flag')
    model = make([conv('x', 's'), conv('s', 'a'),
                  helper.make_node('If', ['flag'], ['i'], 'i', then_branch=then,
                                   else_branch=other), add('a', 'i', 'b'), conv('b', 'y')],
                 [value('x')], [value('y')], {'w': WEIGHT})
    model.graph.initializer.append(flag)
    found = cut_sets(model)
    assert ('s',) in names(found)
    assert ('b',) in names(found)
    for cut in found:
        assert check_split(model, *split(model, cut.tensors)) <= 1e-6


def test_few_bytes_are_offered_and_spread_over_the_work():
    cuts = [CutSet((n,), size, work, 0, (), place) for place, (n, size, work) in enumerate(
        (('a', 9, 10), ('b', 5, 20), ('c', 4, 60), ('d', 3, 70), ('e', 2, 90)))]
    assert names(spread(cuts, 2, work=100)) == [('b',), ('e',)]
    assert names(spread(cuts, 3, work=100)) == [('b',), ('c',), ('e',)]
    assert len(spread(cuts, 9, work=100)) == 5
    assert spread(cuts, 0, work=100) == ()


def test_nothing_is_offered_that_leaves_a_side_without_work(residual):
    tail = partition(residual)
    for cut in offer(residual, 5):
        assert 0 < cut.work_before < tail.work


def test_operators_out_of_order_are_refused():
    model = make([relu('a', 'y'), conv('x', 'a')], [value('x')], [value('y')], {'w': WEIGHT})
    with pytest.raises(ExportError, match='sort the graph'):
        cut_sets(model)


def test_nothing_is_offered_behind_which_little_is_left():
    small = np.full((2, 2, 1, 1), 0.1, np.float32)
    point = helper.make_node('Conv', ['c', 'k'], ['y'], 'y', kernel_shape=[1, 1])
    model = make([conv('x', 'a'), conv('a', 'b'), *(conv('b' if i == 0 else 'c%d' % (i - 1),
                  'c' if i == 5 else 'c%d' % i) for i in range(6)), point],
                 [value('x')], [value('y')], {'w': WEIGHT, 'k': small})
    assert ('c',) in names(cut_sets(model))
    assert ('c',) not in names(offer(model, 20))
