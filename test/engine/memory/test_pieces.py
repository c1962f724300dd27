# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
import pytest

from crowdhmt_ros.engine.memory.pieces import NCHWC, Piece, plan_pieces, steps_of
from crowdhmt_ros.engine.memory.wire import Place, WireGraph, WireNode
from crowdhmt_ros.types import TensorSpec

KB = 1024


def node(operator, inputs, outputs, domain=''):
    return WireNode(b'', outputs[0], operator, domain, tuple(inputs), tuple(outputs), False)


def graph(*nodes, weights=()):
    return WireGraph(b'', nodes, {n: b'' for n in dict(weights)},
                     {n: Place('w', 0, size) for n, size in weights}, {'x': b''}, {'y': b''})


def specs(**kilobytes):
    return {name: TensorSpec(name, 'float32', (size * KB // 4,))
            for name, size in kilobytes.items()}


CHAIN = graph(node('Conv', 'xw', 'a'), node('MaxPool', 'a', 'b'), node('Conv', 'bv', 'c'),
              node('Conv', 'cu', 'y'), weights=[('w', 4 * KB), ('v', 40 * KB), ('u', 8 * KB)])
TENSORS = specs(a=3200, b=800, c=40, y=4)


def names(plan):
    return [[n.name for n in p.nodes] for p in plan.pieces]


def test_without_known_tensors_there_is_one_piece():
    plan = plan_pieces(CHAIN, {})
    assert names(plan) == [['a', 'b', 'c', 'y']]
    assert plan.memory.arena_bytes == 0


def test_large_tensors_lie_in_the_arena_and_small_ones_hide():
    plan = plan_pieces(CHAIN, TENSORS, hidden_share_ratio=0.02)
    assert names(plan) == [['a'], ['b'], ['c', 'y']]
    assert set(plan.memory.offsets) == {'a', 'b'}
    assert plan.memory.arena_bytes == 4000 * KB


def test_nothing_hides_where_nothing_may():
    plan = plan_pieces(CHAIN, TENSORS, hidden_share_ratio=0.0)
    assert names(plan) == [['a'], ['b'], ['c'], ['y']]


def test_a_piece_holds_no_more_weights_than_allowed():
    plan = plan_pieces(CHAIN, TENSORS, hidden_share_ratio=9.0, most_weight_bytes=44 * KB)
    assert all(p.weight_bytes <= 44 * KB for p in plan.pieces)
    assert sum(p.weight_bytes for p in plan.pieces) == 52 * KB


def test_joining_never_needs_more_than_operators_one_by_one():
    residual = graph(node('Conv', 'x', 'a'), node('MaxPool', 'a', 'b'), node('Conv', 'b', 'c'),
                     node('Add', 'bc', 'y'))
    tensors = specs(a=3200, b=800, c=800, y=800)
    apart = plan_pieces(residual, tensors, hidden_share_ratio=0.0)
    for share in (0.05, 0.3):
        plan = plan_pieces(residual, tensors, hidden_share_ratio=share)
        assert plan.memory.arena_bytes <= apart.memory.bound_bytes == 4000 * KB


def test_pieces_read_what_is_before_and_give_what_is_behind():
    branches = graph(node('Conv', 'x', 'a'), node('Relu', 'a', 'b'), node('Relu', 'a', 'c'),
                     node('Add', 'bc', 'y'))
    plan = plan_pieces(branches, specs(a=8, b=8, c=8, y=8), hidden_share_ratio=0.0)
    for found in plan.pieces:
        given = {o for n in found.nodes for o in n.outputs}
        assert not given & set(found.inputs)
        assert set(found.outputs) <= given
    known = {'x'}
    for found in plan.pieces:
        assert set(found.inputs) <= known
        known |= set(found.outputs)
    assert 'y' in known


@pytest.mark.parametrize(('made', 'pairs'), [
    (node('Relu', 'a', 'b'), (('b', 'a'),)),
    (node('Conv', ['a', 'w', '', 'c'], 'b', NCHWC), (('b', 'c'),)),
    (node('Conv', ['a', 'w'], 'b', NCHWC), ()),
    (node('MaxPool', 'a', 'b'), ()),
    (node('Relu', 'a', 'b', 'some.vendor'), ()),
    (node('Add', 'ad', 'b'), (('b', 'a'),))])
def test_only_what_is_safe_works_in_place(made, pairs):
    tensors = specs(a=8, b=8, c=8, d=4)
    plan = plan_pieces(graph(node('Conv', 'x', 'a'), made, node('Conv', 'b', 'y')), tensors,
                       hidden_share_ratio=0.0)
    steps = {s.name: s for s in steps_of(plan.pieces, tensors)}
    assert steps['b'].in_place == pairs


@pytest.mark.parametrize(('nodes', 'pairs'), [
    ([node('Conv', 'a', 'h'), node('Conv', ['h', 'w', '', 'a'], 'b', NCHWC)], (('b', 'a'),)),
    ([node('Relu', 'a', 'h'), node('Add', 'ha', 'b')], (('b', 'a'),)),
    ([node('Relu', 'a', 'h'), node('Neg', 'a', 'g'), node('Add', 'ga', 'b'),
      node('Mul', 'bh', 'k'), node('Add', 'kb', 'c')], ()),
    ([node('Add', 'aa', 'b'), node('Mul', 'ab', 'c')], (('c', 'a'),)),
    ([node('Reshape', 'a', 'h'), node('ReduceMean', 'h', 'g'), node('Mul', 'ag', 'b'),
      node('MatMul', 'hw', 'k')], ()),
    ([node('Conv', ['a', 'w', '', 'a'], 'b', NCHWC)], ())])
def test_a_result_lies_over_an_operand_that_nothing_reads_any_more(nodes, pairs):
    tensors = specs(a=800, b=800, c=800, h=4, g=4, k=4)
    joined = Piece(tuple(nodes), ('a',), tuple(
        o for n in nodes for o in n.outputs if tensors[o].shape == tensors['a'].shape), 0)
    assert steps_of([joined], tensors)[0].in_place == pairs
