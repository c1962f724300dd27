# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Fusion as a whole: equal numbers, a full report, sets that each do more than the one before."""
from __future__ import annotations

import json

import numpy as np
import pytest

onnx = pytest.importorskip('onnx', reason='rewriting graphs needs the extra train')
pytest.importorskip('onnxruntime')

from crowdhmt_ros.errors import ExportError  # noqa: E402
from crowdhmt_ros.graph import fusion as module  # noqa: E402
from crowdhmt_ros.graph.fusion import fuse, useful_sets  # noqa: E402
from crowdhmt_ros.graph.model import read_graph  # noqa: E402
from crowdhmt_ros.graph.passes import fuse_gates  # noqa: E402
from crowdhmt_ros.graph.passes.contract import Rule, RulePass  # noqa: E402
from crowdhmt_ros.graph.rules import FAMILIES  # noqa: E402
from crowdhmt_ros.graph.transform import difference_of  # noqa: E402

from .random_graphs import random_graph  # noqa: E402

RNG = np.random.default_rng(11)


def parsed(signature, body, **constants):
    model = onnx.parser.parse_model('<ir_version: 8, opset_import: ["" : 17]> g %s { %s }'
                                    % (signature, body))
    for name, value in constants.items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(
            np.asarray(value, np.float32), name))
    return model


def every_family():
    """A network in which each family finds something once the ones before it did."""
    def draw(*shape):
        return RNG.standard_normal(shape)
    return parsed(
        '(float[1,3,16,16] x) => (float[1,5] y)',
        'a = Conv<pads=[1,1,1,1]>(x, w0) b = BatchNormalization(a, g, o, m, v) '
        's = Add(b, three) c = Clip(s, low, six) p = Mul(b, c) h = Div(p, six) '
        'k = Conv<pads=[1,0,1,0]>(h, w1) l = Conv<pads=[0,1,0,1]>(k, w2) r = Relu(l) '
        't = Conv<pads=[1,1,1,1]>(r, w3) u = BatchNormalization(r, g, o, m, v) z = Add(t, u) '
        'q = ReduceMean<axes=[3]>(z) d = ReduceMean<axes=[2]>(q) f = Flatten(d) y = MatMul(f, w4)',
        w0=draw(8, 3, 3, 3), w1=draw(16, 8, 3, 1), w2=draw(8, 16, 1, 3), w3=draw(8, 8, 3, 3),
        w4=draw(8, 5), g=np.abs(draw(8)) + 0.5, o=draw(8), m=draw(8), v=np.abs(draw(8)) + 0.5,
        three=3.0, low=0.0, six=6.0)


def test_all_families_together_leave_the_least_operators_that_compute_the_same():
    model = every_family()
    done = fuse(model)
    assert sorted(n.op_type for n in done.model.graph.node) == [
        'Conv', 'Conv', 'Conv', 'Flatten', 'GlobalAveragePool', 'HardSwish', 'MatMul', 'Relu']
    assert done.fusion_set == '+'.join(FAMILIES)
    assert done.report.max_abs_diff <= 1e-5
    assert difference_of(model, done.model) <= 1e-5
    assert [o.domain for o in done.model.opset_import] == ['']
    assert done.model.opset_import[0].version <= 17
    assert done.model.ir_version <= 8


def test_sets_are_tried_progressively_and_each_leaves_fewer_operators():
    found = useful_sets(every_family())
    names = [one.fusion_set.split('+') for one in found]
    assert names == [list(FAMILIES)[:i + 1] for i in range(len(FAMILIES))]
    counts = [one.report.nodes_after for one in found]
    assert counts == sorted(counts, reverse=True)
    assert len(set(counts)) == len(counts)
    assert all(one.report.max_abs_diff <= 1e-5 for one in found)


def test_a_family_that_does_nothing_is_left_out():
    model = parsed('(float[1,4,8,8] x) => (float[1,4,1,1] y)',
                   't = Relu(x) m = ReduceMean<axes=[3]>(t) y = ReduceMean<axes=[2]>(m)')
    assert [one.fusion_set for one in useful_sets(model)] == ['reduction']
    assert not useful_sets(parsed('(float[4] x) => (float[4] y)', 'y = Relu(x)'))


def test_no_family_means_clean_up_alone():
    done = fuse(every_family(), ())
    assert done.fusion_set == 'none'
    assert not done.report.changed
    assert done.report.nodes_after == done.report.nodes_before


def test_the_report_tells_each_operator_that_is_gone_and_why():
    model = every_family()
    done = fuse(model)
    left = {n.name for n in done.model.graph.node}
    told = {r.node for f in done.report.families for r in f.removed if r.reason}
    assert {o.name for o in read_graph(model).operators} <= left | told
    assert {f['family'] for f in json.loads(done.report.to_json())['families']} == set(FAMILIES)
    text = done.report.to_text()
    assert text.startswith('fusion set elementwise+conv_bn')
    assert 'rewritten ReduceMean' in text


@pytest.mark.parametrize('seed', range(300, 312))
def test_a_random_graph_computes_the_same(seed):
    model = random_graph(seed)
    done = fuse(model)
    assert done.report.max_abs_diff <= 1e-5
    assert done.report.nodes_after <= done.report.nodes_before
    assert list(done.model.graph.output) == list(model.graph.output)


def test_constants_to_keep_stay_and_the_given_model_is_not_changed():
    model = every_family()
    before = model.SerializeToString(deterministic=True)
    done = fuse(model, keep={'w0', 'w3'})
    values = {t.name: onnx.numpy_helper.to_array(t) for t in done.model.graph.initializer}
    for tensor in model.graph.initializer:
        if tensor.name in ('w0', 'w3'):
            assert np.array_equal(values[tensor.name], onnx.numpy_helper.to_array(tensor))
    assert model.SerializeToString(deterministic=True) == before


def test_a_family_that_does_not_exist_is_named():
    with pytest.raises(ExportError, match='family is called magic: there are elementwise'):
        fuse(every_family(), ('magic',))


def test_a_rule_that_changes_results_is_found_out(monkeypatch):
    class Wrong(Rule):
        name, op_types = 'wrong', ('Relu',)

        def pattern(self, graph, operator):
            return (operator,)

        def rewrite(self, graph, match):
            graph.bypass(match[0], match[0].input(0), 'wrongly', rule=self.name)

    monkeypatch.setattr(module, 'FAMILIES', {'wrong': (RulePass('wrong', [Wrong()]),)})
    with pytest.raises(ExportError, match='fusion set wrong changes the results'):
        fuse(every_family(), ('wrong',))


def test_a_network_of_gates_of_an_older_opset_fuses_with_what_is_there():
    model = every_family()
    model.opset_import[0].version = 13
    kinds = [n.op_type for n in fuse(model).model.graph.node]
    assert 'HardSigmoid' in kinds
    assert 'HardSwish' not in kinds
    assert fuse_gates.SWISH_SINCE == 14
