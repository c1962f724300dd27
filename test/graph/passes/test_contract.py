# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What the contract of the passes notices."""
from __future__ import annotations

from dataclasses import replace

import pytest

onnx = pytest.importorskip('onnx', reason='rewriting graphs needs the extra train')

from crowdhmt_ros.errors import ExportError  # noqa: E402
from crowdhmt_ros.graph.model import read_graph  # noqa: E402
from crowdhmt_ros.graph.passes import identity  # noqa: E402
from crowdhmt_ros.graph.passes.contract import Pass, PassResult  # noqa: E402

TEXT = ('<ir_version: 8, opset_import: ["" : 17]> g (float[2] x) => (float[2] y) '
        '{ a = Neg(x) b = Identity(a) y = Exp(b) }')


class Careless(Pass):
    """Does to a copy what a function says and records what it says."""

    def __init__(self, change, modified=True, removed=True) -> None:
        super().__init__('careless')
        self.change, self.modified, self.removed = change, modified, removed

    def call(self, graph):
        work = graph.copy()
        self.change(work)
        return PassResult(work, self.modified, tuple(work.removals) if self.removed else ())


@pytest.fixture
def graph():
    return read_graph(onnx.parser.parse_model(TEXT))


def operator(work, kind):
    return next(o for o in work.operators if o.op_type == kind)


def drop_identity(work):
    work.bypass(operator(work, 'Identity'), 'a', 'copies', rule='careless')


def drop_negation(work):
    work.remove(operator(work, 'Neg'), 'no reason', rule='careless')


def rename_output(work):
    work.outputs = ('z',)


def test_a_pass_leaves_its_graph_as_it_is(graph):
    before = graph.to_model()
    result = identity.PASS(graph)
    assert result.modified
    assert graph.to_model() == before
    assert len(result.model) == 2


def test_a_removal_without_a_record_is_noticed(graph):
    with pytest.raises(ExportError, match='vanished without a record'):
        Careless(drop_identity, removed=False)(graph)


def test_a_tensor_without_a_maker_is_noticed(graph):
    with pytest.raises(ExportError, match='nothing makes a'):
        Careless(drop_negation)(graph)


def test_other_outputs_are_noticed(graph):
    with pytest.raises(ExportError, match='outputs changed'):
        Careless(rename_output)(graph)


def test_a_change_that_is_called_none_is_noticed(graph):
    with pytest.raises(ExportError, match='called unmodified'):
        Careless(drop_identity, modified=False)(graph)


def test_an_operator_of_another_type_is_on_record(graph):
    def write_relu(work):
        work.update(replace(operator(work, 'Neg'), op_type='Abs'))
    result = Careless(write_relu)(graph)
    assert [(r.before, r.after) for r in result.rewritten] == [('Neg', 'Abs')]
