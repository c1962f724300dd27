# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The bench of the ladder: its claims can fail, and its rows are what they say."""
from __future__ import annotations

from collections import Counter

import pytest

onnx = pytest.importorskip('onnx', reason='rewriting graphs needs the extra train')
pytest.importorskip('torch', reason='exporting needs the extra train')
pytest.importorskip('onnxruntime')
pytest.importorskip('zmq')
pytest.importorskip('rclpy')

from benchmarks import _engine_ladder as bench  # noqa: E402
from benchmarks._ladder_networks import graphs  # noqa: E402

WIDTH = 8


@pytest.fixture(scope='module')
def said(tmp_path_factory):
    return graphs(tmp_path_factory.mktemp('ladder'), WIDTH)


def found(rows, **other):
    """Rows of one second each but for some, and a MB each."""
    taken = {'rss_mb': 1.0, 'anon_mb': 1.0}
    return [({name: [other.get(name, 1.0)] * 20 for name in rows},
             {name: {**taken, **other.get(name + '_mb', {})} for name in rows})]


def by_key(figures):
    return {f.key: f for f in figures}


def test_the_graphs_start_unfused_and_end_fused(said):
    def kinds(name):
        return Counter(n.op_type for n in onnx.load(said[name]['plain_path']).graph.node)
    for name in ('original', 'low_rank', 'pruned', 'small'):
        assert kinds(name)['BatchNormalization'] == 20
        assert kinds(name + '+')['BatchNormalization'] == 0
        assert not kinds(name)['Slice']
    assert kinds('low_rank')['Conv'] > kinds('original')['Conv'] == kinds('small')['Conv']
    weights = {name: one['weight_bytes'] for name, one in said.items()}
    assert weights['small'] < weights['low_rank'] < weights['pruned'] < weights['original']
    assert said['small+/head']['outputs'] == said['small+/tail']['inputs']


def test_the_gain_of_all_holds_only_with_its_interval(said):
    rows = bench.engine_rows(said)
    assert by_key(bench.engine_figures(found(rows, all=0.4), said, WIDTH))[
        'ladder_all_gain'].holds
    assert by_key(bench.engine_figures(found(rows, all=0.5), said, WIDTH))[
        'ladder_all_gain'].holds is False
    assert set(bench.PAPER) < set(rows)


def test_a_wide_control_of_the_original_decides_nothing(said):
    rows = bench.engine_rows(said)
    times, taken = found(rows, all=0.2)[0]
    times['original again'] = [0.9, 1.1] * 10
    figure = by_key(bench.engine_figures([(times, taken)], said, WIDTH))['ladder_all_gain']
    assert figure.holds is False
    assert 'inconclusive' in figure.how


def test_all_levels_must_be_best_or_tied_in_latency_and_in_memory(said):
    rows = bench.shared_rows(said)
    tied = by_key(bench.shared_figures(found(rows, all=1.02), WIDTH))
    assert tied['ladder_all_latency_vs_best'].holds
    assert tied['ladder_all_memory_vs_best'].holds
    slow = by_key(bench.shared_figures(found(rows, **{'partition+engine': 0.9}), WIDTH))
    assert slow['ladder_all_latency_vs_best'].holds is False
    large = by_key(bench.shared_figures(found(rows, all_mb={'rss_mb': 1.1}), WIDTH))
    assert large['ladder_all_memory_vs_best'].holds is False


def test_rows_answer_alike_whole_and_shared_with_a_peer(said):
    rows = bench.shared_rows(said)
    times, taken = bench.measured(
        {name: rows[name] for name in ('compression+partition', 'compression+engine', 'all')}, 1,
        control='all', deciding=(), most=1)
    assert all(seconds > 0.0 for row in times.values() for seconds in row)
    answers = [one['answer'] for one in taken.values()]
    for other in answers[1:]:
        assert other == pytest.approx(answers[0], abs=1e-4)
