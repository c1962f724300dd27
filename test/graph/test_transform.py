# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The whole transformation: fewer operators than the yardstick, equal numbers, a full report."""
from __future__ import annotations

import json

import numpy as np
import pytest

onnx = pytest.importorskip('onnx', reason='rewriting graphs needs the extra train')
pytest.importorskip('onnxruntime')

from benchmarks._elastic_transform_converters import WRITERS  # noqa: E402
from crowdhmt_ros.errors import ExportError  # noqa: E402
from crowdhmt_ros.graph import transform as module  # noqa: E402
from crowdhmt_ros.graph.model import read_graph  # noqa: E402
from crowdhmt_ros.graph.passes import identity  # noqa: E402
from crowdhmt_ros.graph.passes.contract import Rule, RulePass  # noqa: E402
from crowdhmt_ros.graph.rules import FIRST  # noqa: E402
from crowdhmt_ros.graph.transform import transform  # noqa: E402


def parsed(signature, body, opset=17, **constants):
    model = onnx.parser.parse_model('<ir_version: 8, opset_import: ["" : %d]> g %s { %s }'
                                    % (opset, signature, body))
    for name, value in constants.items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(value, name))
    return model


@pytest.mark.parametrize('name', WRITERS)
def test_converters_networks_come_out_smaller_than_the_yardstick_makes_them(name):
    onnxslim = pytest.importorskip('onnxslim')
    model = WRITERS[name]()
    done = transform(model)
    assert len(done.model.graph.node) <= len(onnxslim.slim(WRITERS[name]()).graph.node)
    assert done.report.max_abs_diff <= 1e-5


@pytest.mark.parametrize('name', WRITERS)
def test_every_operator_that_is_gone_is_in_the_report_with_its_reason(name):
    model = WRITERS[name]()
    done = transform(model, verify=False)
    left = {(n.op_type, n.name) for n in done.model.graph.node}
    told = {r.node for r in done.report.removed if r.reason}
    told |= {r.node for r in done.report.rewritten}
    for operator in read_graph(model).operators:
        assert (operator.op_type, operator.name) in left or operator.name in told


@pytest.mark.parametrize('name', ['tensorflow/residual', 'paddle/mobile'])
def test_inputs_outputs_and_opset_stay(name):
    model = WRITERS[name]()
    before = model.SerializeToString(deterministic=True)
    after = transform(model).model
    assert model.SerializeToString(deterministic=True) == before
    assert list(after.graph.input) == list(model.graph.input)
    assert list(after.graph.output) == list(model.graph.output)
    assert list(after.opset_import) == list(model.opset_import)
    assert after.ir_version <= 8


def test_a_second_transformation_changes_nothing():
    once = transform(WRITERS['tensorflow/residual']()).model
    again = transform(once)
    assert len(again.model.graph.node) == len(once.graph.node)
    assert not again.report.removed


def test_constants_to_keep_keep_their_name_and_value():
    model = WRITERS['paddle/mobile']()
    weights = next(n.output[0] for n in model.graph.node if n.op_type == 'Constant'
                   and len(n.attribute[0].t.dims) == 4)
    value = onnx.numpy_helper.to_array(next(
        n.attribute[0].t for n in model.graph.node if weights in n.output))
    free, kept = transform(model), transform(model, keep={weights})
    assert weights not in {t.name for t in free.model.graph.initializer}
    left = {t.name: t for t in kept.model.graph.initializer}
    assert np.array_equal(onnx.numpy_helper.to_array(left[weights]), value)
    assert any('must stay' in r.reason for r in kept.report.refused)


def test_the_report_says_what_went_and_why_as_text_and_as_json():
    done = transform(parsed(
        '(float[1,4,6,6] x) => (float[1,4,6,6] y)',
        'a = Identity(x) b = Shape(a) c = Reshape(a, b) d = Neg(k) y = Add(c, d)',
        k=np.ones((4, 1, 1), np.float32)))
    text, data = done.report.to_text(), json.loads(done.report.to_json())
    assert 'stage 1, fused or removed: 3 operators' in text
    assert 'stage 2, constant: 1 operators' in text
    assert 'removed Identity Identity_0 (identity): it copies its input' in text
    assert data['nodes_before'] == 5
    assert data['nodes_after'] == 1
    assert {r['node'] for r in data['removed']} == {'Identity_0', 'Shape_1', 'Reshape_2', 'Neg_3'}
    assert all(r['reason'] and r['rule'] for r in data['removed'])


def test_operators_are_classified_as_constant_or_dynamic():
    report = transform(parsed('(float[4] x) => (float[4] y)',
                              'a = Neg(k) b = Exp(a) y = Add(x, b)',
                              k=np.ones(4, np.float32))).report
    assert (report.constant, report.dynamic) == (2, 1)


def test_a_constant_that_no_robot_could_hold_is_refused_in_one_line():
    model = parsed('(float[1] x) => (float[A,B,C] y)', 'c = ConstantOfShape(s) y = Add(c, x)',
                   s=np.asarray([100000, 100000, 1000], np.int64))
    with pytest.raises(ExportError, match=r'ConstantOfShape .* MiB.*smaller shape') as caught:
        transform(model)
    assert '\n' not in str(caught.value)


def test_random_numbers_stay_random():
    done = transform(parsed('(float[2,3] x) => (float[2,3] y)',
                            'a = RandomNormalLike(k) b = RandomNormalLike(k) c = Add(a, b) '
                            'y = Add(x, c)', k=np.ones((2, 3), np.float32)), verify=False)
    assert [n.op_type for n in done.model.graph.node].count('RandomNormalLike') == 2


def test_a_rule_that_changes_numbers_is_caught(monkeypatch):
    class Wrong(Rule):
        name = 'wrong'
        op_types = ('Neg',)

        def pattern(self, graph, operator):
            return (operator,)

        def rewrite(self, graph, match):
            graph.bypass(match[0], match[0].input(0), 'wrong', rule=self.name)

    monkeypatch.setattr(module, 'STAGES', {
        **module.STAGES, FIRST: (RulePass('wrong', [Wrong()]), identity.PASS)})
    with pytest.raises(ExportError, match='differs from the original'):
        transform(parsed('(float[4] x) => (float[4] y)', 'a = Neg(x) y = Exp(a)'))


def test_operators_of_other_domains_are_left_alone():
    model = parsed('(float[2,8] x) => (float[2,8] y)',
                   'a = Identity(x) b = com.microsoft.Gelu(a) c = com.microsoft.Gelu(a) '
                   'y = Add(b, c)')
    model.opset_import.append(onnx.helper.make_opsetid('com.microsoft', 1))
    done = transform(model)
    assert [n.op_type for n in done.model.graph.node] == ['Gelu', 'Gelu', 'Add']


@pytest.mark.parametrize('opset', [9, 11, 13])
def test_older_opsets_are_transformed_as_well(opset):
    body = 'a = Transpose<perm=[0,2,3,1]>(x) %s c = Transpose<perm=[0,3,1,2]>(b) y = Relu(c)'
    clip = 'b = Clip<min=-1.0, max=2.0>(a)' if opset < 11 else 'b = Clip(a, l, h)'
    constants = {} if opset < 11 else {'l': np.float32(-1).reshape(()),
                                       'h': np.float32(2).reshape(())}
    done = transform(parsed('(float[1,3,4,4] x) => (float[1,3,4,4] y)', body % clip, opset,
                            **constants))
    assert [n.op_type for n in done.model.graph.node] == ['Clip']
    assert done.model.opset_import[0].version == opset


def test_shapes_that_do_not_fit_give_one_line():
    with pytest.raises(ExportError, match='fit together|cannot run') as caught:
        transform(parsed('(float[2,3] x) => (float[2,2] y)', 'y = MatMul(x, x)'))
    assert '\n' not in str(caught.value)
