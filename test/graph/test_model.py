# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The working view of a graph: what it reads, how it changes, what it refuses."""
from __future__ import annotations

import numpy as np
import pytest

onnx = pytest.importorskip('onnx', reason='rewriting graphs needs the extra train')

from crowdhmt_ros.errors import ExportError  # noqa: E402
from crowdhmt_ros.graph.model import read_graph  # noqa: E402

BRANCHING = ('<ir_version: 8, opset_import: ["" : 17]> g (float[2,3] x, bool f) => (float[2,3] y) '
             '{ a = Neg(x) y = If(f) <then_branch = t () => (float[2,3] p) { p = Exp(a) }, '
             'else_branch = e () => (float[2,3] q) { q = Add(a, x) }> }')
OPEN = ('<ir_version: 8, opset_import: ["" : 17]> g (float[N,3] x) => (float[N,6] y) '
        '{ y = Concat<axis=1>(x, x) }')


def parsed(text):
    return onnx.parser.parse_model(text)


def test_a_graph_written_back_is_the_same_network():
    model = parsed(BRANCHING)
    again = read_graph(model).to_model()
    onnx.checker.check_model(again, full_check=True)
    assert [n.op_type for n in again.graph.node] == ['Neg', 'If']
    assert list(again.graph.input) == list(model.graph.input)
    assert list(again.graph.output) == list(model.graph.output)


def test_what_subgraphs_read_counts_as_read():
    graph = read_graph(parsed(BRANCHING))
    assert graph.is_captured('a')
    assert graph.uses('a') == 1
    assert graph.sole_reader('a') is None
    assert [o.op_type for o in graph.readers('x')] == ['Neg', 'If']


def test_open_extents_are_not_known():
    graph = read_graph(parsed(OPEN))
    assert graph.type_of('y').shape == (None, 6)
    assert graph.shape('y') is None
    assert graph.rank('y') == 2


def test_operators_without_or_with_the_same_name_get_names_of_their_own():
    model = parsed(BRANCHING)
    for node in model.graph.node:
        node.name = 'same'
    names = [o.name for o in read_graph(model).operators]
    assert len(set(names)) == 2


def test_operators_stand_after_what_they_read():
    graph = read_graph(parsed(OPEN)).copy()
    maker = graph.operators[0]
    graph.add(type(maker)('late', 'Neg', ('x',), ('n',)), 'test', near=maker, rule='test')
    graph.reroute('x', 'x')
    graph.update(type(maker)(maker.name, 'Concat', ('x', 'n'), ('y',), maker.attributes))
    assert [o.op_type for o in graph.operators] == ['Neg', 'Concat']


def test_initialisers_that_are_inputs_as_well_become_constants():
    model = parsed(OPEN.replace('(float[N,3] x)', '(float[N,3] x, float[1] c)').replace(
        '(x, x)', '(x, x, z)').replace('{ y', '{ z = Expand(c, s) y').replace('N,6', 'N,9'))
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.ones(1, np.float32), 'c'))
    model.graph.initializer.append(onnx.numpy_helper.from_array(
        np.asarray([2, 3], np.int64), 's'))
    graph = read_graph(model)
    assert graph.inputs == ('x',)
    assert graph.value('c') is not None


@pytest.mark.parametrize(('change', 'told'), [
    (lambda m: m.graph.node[0].input.append('nowhere'), 'malformed'),
    (lambda m: m.graph.ClearField('output'), 'no output'),
    (lambda m: setattr(m.graph.node[0], 'op_type', 'NoSuchOperator'), 'malformed'),
    (lambda m: m.ClearField('opset_import'), 'malformed'),
    (lambda m: setattr(m.opset_import[0], 'version', 21), 'opset 21'),
    (lambda m: setattr(m.opset_import[0], 'version', 5), 'opset 5')])
def test_a_model_that_cannot_be_used_gives_one_line(change, told):
    model = parsed(OPEN)
    change(model)
    with pytest.raises(ExportError, match=told) as caught:
        read_graph(model)
    assert '\n' not in str(caught.value)
