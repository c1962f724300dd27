# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The frame of the elastic bench, and its smallest part for real."""
import argparse
from types import SimpleNamespace

import pytest

pytest.importorskip('torch', reason='the elastic bench needs the extra train')

from benchmarks import _elastic_bundle, elastic
from crowdhmt_ros.cli.figures import inform
from crowdhmt_ros.errors import ConfigError, DataError


def options(*only):
    return argparse.Namespace(only=list(only), quick=True, keep=None)


def test_an_unknown_part_is_one_clear_line():
    with pytest.raises(ConfigError, match='no part noise: choose from structure, operators'):
        elastic.run(options('noise'))


@pytest.mark.parametrize('part', sorted(elastic.PARTS))
def test_a_part_that_fails_keeps_its_claims_and_they_do_not_hold(part, monkeypatch):
    def broken(quick):
        raise DataError('no data: set CROWDHMT_DATA')

    monkeypatch.setitem(elastic.PARTS, part, broken)
    figures = elastic.run(options(part))
    assert figures
    assert [f.key for f in figures] == list(elastic.claims_of(part))
    assert all(f.holds is False and f.how == 'not measured: no data: set CROWDHMT_DATA'
               for f in figures)


def test_a_part_whose_module_is_missing_leaves_the_others(monkeypatch):
    def missing(quick):
        raise ImportError('no module', name='timm')

    monkeypatch.setitem(elastic.PARTS, 'structure', missing)
    monkeypatch.setitem(elastic.PARTS, 'transform', lambda quick: [inform('a', 1.0, how='b')])
    figures = elastic.run(options('structure', 'transform'))
    assert figures[-1].key == 'a'
    assert all(f.how == 'not measured: timm is not there' for f in figures[:-1])


def test_parts_that_need_data_say_so(monkeypatch):
    monkeypatch.delenv('CROWDHMT_DATA', raising=False)
    for figure in elastic.run(options('operators')):
        assert figure.holds is False
        assert 'set CROWDHMT_DATA' in figure.how


def worked(eta, before=2.0, after=1.0, reason=''):
    return SimpleNamespace(eta=eta, before=before, after=after, reason=reason,
                           works=before is not None and after < before)


def test_operators_hold_when_the_loss_of_every_member_that_applies_fell():
    every = {'op%d' % eta: worked(eta) for eta in range(1, 7)}
    assert elastic._working('resnet18', every).holds is True
    assert elastic._working('resnet18', {**every, 'worse': worked(1, after=3.0)}).holds is False
    left = {**every, 'op3': worked(3, None, None, 'no places')}
    assert elastic._working('resnet18', left).holds is False
    figure = elastic._working('motion_cnn', left)
    assert (figure.holds, figure.target) == (True, 5)
    assert 'op3: no places' in figure.how


def test_the_front_has_every_eta_and_falls_to_a_sixteenth():
    operators = {c.operator for v in _elastic_bundle.FRONT for s in v.stages for c in s}
    assert operators >= {'svd', 'sparse', 'asymmetric', 'fire', 'scale', 'ghost', 'depth',
                         'channel'}
    assert len(set(_elastic_bundle.FRONT)) == 16


def test_the_bundle_part_runs():
    figures = {f.key: f for f in elastic.run(options('bundle'))}
    assert set(elastic.claims_of('bundle')) <= set(figures)
    assert figures['export_max_abs_diff'].holds is True
    assert 0.0 < figures['weight_sharing_ratio'].value < 1.0
    assert figures['build_s'].value > 0.0
