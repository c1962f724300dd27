# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A graph and its two parts."""
from __future__ import annotations

import numpy as np
import pytest

onnx = pytest.importorskip('onnx', reason='splitting graphs needs the extra train')
ort = pytest.importorskip('onnxruntime')

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from crowdhmt_ros.errors import ExportError  # noqa: E402
from crowdhmt_ros.graph.compare import largest_difference  # noqa: E402
from crowdhmt_ros.graph.split import (  # noqa: E402
    check_pieces,
    check_split,
    last_output,
    pieces,
    split,
)

CHANNELS, EDGE = 4, 8


@pytest.fixture(scope='module')
def residual():
    """stem -> a residual block -> pool -> scores."""
    rng = np.random.default_rng(3)
    shapes = {'stem.w': (CHANNELS, 3, 3, 3), 'first.w': (CHANNELS, CHANNELS, 3, 3),
              'second.w': (CHANNELS, CHANNELS, 3, 3), 'fc.w': (2, CHANNELS)}
    conv = {'kernel_shape': [3, 3], 'pads': [1, 1, 1, 1]}
    nodes = [helper.make_node('Conv', ['image', 'stem.w'], ['s'], '/stem/conv', **conv),
             helper.make_node('Conv', ['s', 'first.w'], ['a'], '/stages.0.0/first', **conv),
             helper.make_node('Relu', ['a'], ['b'], '/stages.0.0/relu'),
             helper.make_node('Conv', ['b', 'second.w'], ['c'], '/stages.0.0/second', **conv),
             helper.make_node('Add', ['c', 's'], ['d'], '/stages.0.0/add'),
             helper.make_node('Relu', ['d'], ['e'], '/stages.0.0/out'),
             helper.make_node('GlobalAveragePool', ['e'], ['g'], '/head/pool'),
             helper.make_node('Flatten', ['g'], ['f'], '/head/flatten'),
             helper.make_node('Gemm', ['f', 'fc.w'], ['scores'], '/head/fc', transB=1)]
    graph = helper.make_graph(
        nodes, 'residual',
        [helper.make_tensor_value_info('image', TensorProto.FLOAT, [1, 3, EDGE, EDGE])],
        [helper.make_tensor_value_info('scores', TensorProto.FLOAT, [1, 2])],
        [numpy_helper.from_array(rng.standard_normal(s).astype(np.float32), n)
         for n, s in shapes.items()])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid('', 17)], ir_version=8)


def names(values):
    return [v.name for v in values]


@pytest.mark.parametrize('tensors', [('s',), ('e',), ('b', 's'), ('s', 'c'), ('g',)])
def test_head_and_tail_equal_the_whole(residual, tensors):
    head, tail = split(residual, tensors)
    assert names(head.graph.output) == names(tail.graph.input) == list(tensors)
    assert names(head.graph.input) == ['image']
    assert names(tail.graph.output) == ['scores']
    assert check_split(residual, head, tail) <= 1e-6


def test_initialisers_keep_names_and_values_and_each_part_has_its_own(residual):
    head, tail = split(residual, ('s',))
    assert names(head.graph.initializer) == ['stem.w']
    assert sorted(names(tail.graph.initializer)) == ['fc.w', 'first.w', 'second.w']
    values = {t.name: numpy_helper.to_array(t) for t in residual.graph.initializer}
    for tensor in tail.graph.initializer:
        assert np.array_equal(numpy_helper.to_array(tensor), values[tensor.name])


def test_parts_are_as_old_as_the_whole(residual):
    for part in split(residual, ('e',)):
        assert part.ir_version == residual.ir_version
        assert [o.version for o in part.opset_import] == [17]


def test_one_tensor_inside_a_residual_block_does_not_part_it(residual):
    with pytest.raises(ExportError, match='still needs image; add the tensors that go around'):
        split(residual, ('b',))


@pytest.mark.parametrize('tensors', [(), ('nowhere',), ('s', 's'), ('image',)])
def test_what_the_graph_does_not_compute_is_no_cut(residual, tensors):
    with pytest.raises(ExportError, match='name distinct tensors that the graph computes'):
        split(residual, tensors)


def test_parts_of_another_model_are_found_out(residual):
    other = onnx.ModelProto()
    other.CopyFrom(residual)
    weight = next(t for t in other.graph.initializer if t.name == 'fc.w')
    weight.CopyFrom(numpy_helper.from_array(2 * numpy_helper.to_array(weight), 'fc.w'))
    head, tail = split(other, ('e',))
    with pytest.raises(ExportError, match='differ from the whole graph'):
        check_split(residual, head, tail)


def test_a_border_is_found_by_the_name_of_its_nodes(residual):
    assert last_output(residual, '/stages.0.') == 'e'
    with pytest.raises(ExportError, match='no node named /stages.7'):
        last_output(residual, '/stages.7.')


def test_pieces_between_cuts_pass_by_what_crosses_both(residual):
    parts = pieces(residual, (('b', 's'), ('s', 'c'), ('e',)))
    assert [names(p.graph.input) for p in parts] == [['image'], ['b'], ['s', 'c'], ['e']]
    assert [names(p.graph.output) for p in parts] == [['b', 's'], ['c'], ['e'], ['scores']]
    assert check_pieces(residual, parts) <= 1e-6


def test_cuts_out_of_order_are_refused(residual):
    with pytest.raises(ExportError, match='lies before one that was named earlier'):
        pieces(residual, (('e',), ('s',)))


def test_a_piece_that_is_missing_is_found_out(residual):
    first, _, last = pieces(residual, (('s',), ('e',)))
    with pytest.raises(ExportError, match='do not'):
        check_pieces(residual, (first,))
    assert last.graph.input[0].name == 'e'


def test_differences_count_on_the_scale_of_an_output():
    wanted = {'y': np.array([1000.0, np.inf, np.nan], np.float32)}
    found = {'y': np.array([1001.0, np.inf, np.nan], np.float32), 'more': np.zeros(1)}
    assert largest_difference(wanted, found) == pytest.approx(1e-3)
    assert largest_difference(wanted, {'y': np.array([1000, 1, 1], np.float32)}) == np.inf
    assert largest_difference(wanted, {'y': wanted['y'].astype(np.float64)}) == np.inf
