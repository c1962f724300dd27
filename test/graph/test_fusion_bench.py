# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The bench of fusion: its exports are unfused indeed, and its claims can fail."""
from __future__ import annotations

from collections import Counter

import pytest

pytest.importorskip('onnx', reason='rewriting graphs needs the extra train')
torch = pytest.importorskip('torch', reason='exporting needs the extra train')
pytest.importorskip('onnxruntime')

from benchmarks import _engine_fusion as bench  # noqa: E402
from benchmarks._elastic_transform_torch import export, settle  # noqa: E402
from benchmarks._fusion_networks import FAMILY_CASES, networks  # noqa: E402
from crowdhmt_ros.elastic.backbones import BACKBONES  # noqa: E402
from crowdhmt_ros.graph.rules import FAMILY_NAMES  # noqa: E402


def kinds(model):
    return Counter(node.op_type for node in model.graph.node)


def test_an_unfused_export_has_each_normalisation_and_a_folded_one_has_none():
    example = torch.zeros(1, 3, 32, 32)
    net = settle(BACKBONES['resnet18'](10, width=8, edge=32), example)
    norms = sum(isinstance(m, torch.nn.BatchNorm2d) for m in net.modules())
    unfused = export(net, example, 'preserve')
    assert kinds(unfused)['BatchNormalization'] == norms == 20
    assert not any(a.i for n in unfused.graph.node if n.op_type == 'BatchNormalization'
                   for a in n.attribute if a.name == 'training_mode')
    assert kinds(export(net, example, 'inference'))['BatchNormalization'] == 0


def test_the_suite_names_each_network_once_and_cases_are_not_in_it():
    found = networks()
    assert len({bench.place(n) for n in found}) == len(found)
    assert {n.group for n in found if not n.family} == {
        'cnn', 'transformer', 'detector', 'variant', 'converted'}
    assert {n.family for n in found if n.family} == set(FAMILY_NAMES)
    assert {n.name for n in found if n.family} == set(FAMILY_CASES)


def measured(network, *, gain, harm, alone=()):
    return bench.Measured(network, (9, 5), [[1.0, gain, 1.0]] * 50, [[1.0, harm, 1.0]] * 50,
                          list(alone),
                          {'torch': [(1.0, 1.1)]}, {'onnxruntime off': 2e-6, 'torch': 1e-3})


def figures(**changes):
    values = {'gain': 1.3, 'harm': 1.0, 'alone': 1.1, **changes}
    found = [measured(n, gain=values['gain'], harm=values['harm'],
                      alone=[[1.0, values['alone'], 1.0]] * 50 if n.family else ())
             for n in networks()]
    made = [bench._gain(found), bench._harm(found), *bench._differences(found),
            *bench._families(found), *bench._groups(found), *bench._engines(found)]
    return {f.key: f for f in made}


def test_claims_hold_above_their_targets_and_fall_short_below():
    good = figures()
    assert set(bench.CLAIMS) <= set(good)
    assert all(good[key].holds for key in bench.CLAIMS)
    assert good['fusion_gain'].value == pytest.approx(1.3)
    for key, change in (('fusion_gain', {'gain': 1.15}), ('fusion_harm', {'harm': 1.05}),
                        ('fusion_family_gain/conv_bn', {'alone': 0.99})):
        assert figures(**change)[key].holds is False


def test_a_network_whose_control_is_wide_is_not_said_to_be_unharmed():
    found = [measured(n, gain=1.3, harm=1.0) for n in networks()[:2]]
    assert bench._harm(found).holds
    found[1].harm[::2] = [[1.0, 1.0, 1.1]] * 25
    assert bench._harm(found).holds is False


def test_what_another_engine_rounds_otherwise_informs_only():
    found = figures()
    assert found['fusion_max_abs_diff'].value == pytest.approx(2e-6)
    assert found['fusion_max_abs_diff_elsewhere'].holds is None


def test_a_process_measures_one_case(tmp_path):
    case = next(n for n in networks() if n.family == 'elementwise')
    found = bench.measured([case], tmp_path, rounds=1, more=0, span_s=0.01)
    assert found[0].operators[0] > found[0].operators[1]
    assert found[0].alone
    assert found[0].differences['onnxruntime off'] <= 1e-5
