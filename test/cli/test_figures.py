# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
import argparse
import json
import types

import pytest

from benchmarks import timing
from crowdhmt_ros.cli import bench
from crowdhmt_ros.cli.figures import HIGHER, LOWER, claim, falls_short, inform, table_text
from crowdhmt_ros.errors import ConfigError


def test_a_claim_holds_on_its_better_side_only():
    assert claim('a', 1.0, 1.0, better=LOWER, how='').holds
    assert not claim('a', 1.1, 1.0, better=LOWER, how='').holds
    assert claim('a', 1.1, 1.0, better=HIGHER, how='').holds
    assert not claim('a', 0.9, 1.0, better=HIGHER, how='').holds


@pytest.mark.parametrize('value', [None, float('nan')])
def test_what_was_not_measured_does_not_hold(value):
    figure = claim('a', value, 1.0, better=LOWER, how='')
    assert figure.holds is False
    assert figure.as_dict()['value'] is None


def test_a_figure_that_only_informs_cannot_fall_short():
    figures = [inform('a', 5.0, how='x'), claim('b', 2.0, 1.0, better=LOWER, how='y')]
    assert falls_short(figures) == ['b']
    assert 'FALLS SHORT' in table_text(figures)


def run_fake(monkeypatch, tmp_path, figures):
    monkeypatch.setattr(bench, 'load_bench',
                        lambda name: types.SimpleNamespace(run=lambda options: figures))
    monkeypatch.setenv('TMPDIR', str(tmp_path))
    arguments = argparse.Namespace(name='fake', json=tmp_path / 'b.json', quick=True)
    return bench.run(arguments), json.loads((tmp_path / 'b.json').read_text())


def test_a_bench_exits_with_1_when_a_figure_falls_short(monkeypatch, tmp_path):
    code, content = run_fake(monkeypatch, tmp_path, [claim('b', 2.0, 1.0, better=LOWER, how='y')])
    assert code == 1
    assert content['bench'] == 'fake'
    assert content['machine']['cores'] >= 1
    assert content['figures'] == [{'key': 'b', 'value': 2.0, 'target': 1.0, 'better': 'lower',
                                   'holds': False, 'how': 'y'}]


def test_a_bench_exits_with_0_when_all_hold(monkeypatch, tmp_path):
    assert run_fake(monkeypatch, tmp_path, [claim('b', 1.0, 1.0, better=LOWER, how='')])[0] == 0


def test_a_bench_says_that_it_waits_for_another(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(bench, 'is_held', lambda: True)
    run_fake(monkeypatch, tmp_path, [])
    assert capsys.readouterr().err.startswith('another measurement holds this machine')


def test_an_unknown_bench_is_named():
    with pytest.raises(ConfigError, match=r'no bench nonsense.*robot'):
        bench.load_bench('nonsense')


def test_an_installed_package_says_where_the_benches_are(monkeypatch, tmp_path):
    monkeypatch.setattr(bench, 'FOLDER', tmp_path / 'none')
    with pytest.raises(ConfigError, match='clone the repository'):
        bench.load_bench('robot')


def test_the_interval_of_a_ratio_holds_its_median():
    ratio = timing.median_ratio([(1.0, 1.1 + 0.001 * (i % 7)) for i in range(200)])
    assert ratio.low <= ratio.value <= ratio.high
    assert ratio.value == pytest.approx(1.103, abs=0.002)
    assert ratio.pairs == 200


def test_a_wide_control_is_inconclusive():
    good = timing.Ratio(1.0, 0.99, 1.01, 200)
    assert timing.holds_at_most(good, 1.15, timing.Ratio(1.0, 0.99, 1.01, 200))
    assert not timing.holds_at_most(good, 1.15, timing.Ratio(1.0, 0.98, 1.02, 200))


def test_the_worse_end_decides_with_the_controls_half_width_as_allowance():
    control = timing.Ratio(1.0, 0.99, 1.01, 200)
    assert timing.holds_at_most(timing.Ratio(1.1, 1.05, 1.155, 200), 1.15, control)
    assert not timing.holds_at_most(timing.Ratio(1.1, 1.05, 1.17, 200), 1.15, control)


def test_pairs_alternate_their_order():
    order = []
    timing.interleave(lambda: order.append('a') or 1.0, lambda: order.append('b') or 2.0, 2)
    assert order == ['a', 'b', 'b', 'a']


def ratio_of(value, half=0.004):
    return timing.Ratio(value, value - half, value + half, 200)


def test_a_claim_of_ratios_holds_when_each_does_and_its_value_is_the_worst():
    calm = ratio_of(1.0)
    found = {'a': timing.Compared(ratio_of(1.0), calm), 'b': timing.Compared(ratio_of(1.02), calm)}
    figure = timing.claim_ratio('x', found, 1.03, better=LOWER, how='how')
    assert (figure.value, figure.holds) == (1.02, True)
    assert not timing.claim_ratio('x', found, 1.01, better=LOWER, how='').holds
    assert not timing.claim_ratio('x', found, 1.03, better=LOWER, how='', also=False).holds
    gain = timing.claim_ratio('x', found, 1.0, better=HIGHER, how='how')
    assert (gain.value, gain.holds) == (1.0, True)
    found['a'] = timing.Compared(ratio_of(1.0, 0.02), calm)
    assert not timing.claim_ratio('x', found, 1.0, better=HIGHER, how='').holds


def test_a_claim_with_a_wide_control_says_that_it_is_inconclusive():
    figure = timing.claim_ratio('x', {'': timing.Compared(ratio_of(0.5), ratio_of(1.0, 0.02))},
                                1.03, better=LOWER, how='how')
    assert figure.holds is False
    assert 'inconclusive' in figure.how


def test_of_many_ratios_the_worst_and_what_falls_short_are_told():
    calm = ratio_of(1.0)
    found = {'n%d' % i: timing.Compared(ratio_of(1.0 + 0.01 * i), calm) for i in range(9)}
    how = timing.claim_ratio('x', found, 1.065, better=LOWER, how='how').how
    assert [n for n in found if n + ' ' in how] == ['n7', 'n8']


def test_a_median_is_claimed_by_the_upper_end_of_its_interval():
    values = [40.0] * 31 + [60.0] * 29
    assert timing.claim_median('x', [40.0] * 60, 50.0, how='').holds
    assert timing.claim_median('x', values, 50.0, how='').holds is False


@pytest.mark.parametrize(('spread', 'processes'), [(0.0, 2), (0.2, 5)])
def test_measuring_goes_on_until_the_control_is_narrow_and_no_longer(spread, processes):
    count = []

    def measure():
        count.append(1)
        return [{'a': 1.0, 'again': 1.0 + spread * (i % 2), 'b': 7.0} for i in range(10)]
    rounds = timing.gathered(measure, lambda r: timing.compared(r, 'a', 'again', 'b').control,
                             least=2, most=5)
    assert len(count) == processes
    assert len(rounds) == 10 * processes


def test_each_comes_behind_each_other_equally_often():
    orders = [timing.order('abc', number) for number in range(6)]
    assert sorted(''.join(o) for o in orders) == ['abc', 'acb', 'bac', 'bca', 'cab', 'cba']
