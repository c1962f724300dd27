# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Lists of variants."""
from pathlib import Path

import pytest
import torch
import yaml

from crowdhmt_ros.elastic.backbones.resnet import residual, resnet18
from crowdhmt_ros.elastic.make_elastic import make_elastic
from crowdhmt_ros.elastic.store import Reference
from crowdhmt_ros.errors import ConfigError
from crowdhmt_ros.tasks import members
from crowdhmt_ros.tasks.members import Member, Members
from crowdhmt_ros.types import OperatorChoice, Variant

LIST = Path(__file__).resolve().parents[2] / 'benchmarks' / 'variants.yaml'
HALF = (OperatorChoice('channel', (('ratio', 0.5),)),)
GHOST = (OperatorChoice('ghost'),)


@pytest.fixture(scope='module')
def net():
    torch.manual_seed(0)
    return make_elastic(residual(4, widths=(16, 32), edge=32), torch.zeros(2, 3, 16, 16)).net


@pytest.fixture
def written(tmp_path):
    def write(text):
        path = tmp_path / 'list.yaml'
        path.write_text(text, encoding='utf-8')
        return path
    return write


def a_list():
    return Members(Reference('resnet18', 100, {'width': 32, 'edge': 32}), (
        Member('full', Variant(((), ()), 1), 1.0, 1.0),
        Member('half', Variant((HALF, GHOST), 1), 3.9, 4.0)), 'somehow')


def test_a_list_is_read_as_it_was_written(written):
    assert members.read_members(written(members.members_text(a_list()))) == a_list()


def test_sixteen_variants_are_listed_log_spaced_over_ten_times_with_all_operators():
    listed = members.read_members(LIST)
    speedups = [m.speedup for m in listed.members]
    assert len(listed.variants) == len(set(listed.variants.values())) == 16
    assert speedups == sorted(speedups)
    assert speedups[0] == 1.0
    assert speedups[-1] >= 10.0
    ideal = speedups[-1] ** (1 / 15)
    assert all(b / a <= ideal ** 2 for a, b in zip(speedups, speedups[1:]))
    assert all(ideal ** (k - 1) <= s <= ideal ** (k + 1) for k, s in enumerate(speedups))
    assert set().union(*(members.etas_of(v) for v in listed.variants.values())) == members.ETAS


def test_the_listed_variants_fit_other_widths_and_other_exits():
    net = make_elastic(resnet18(10, width=8, edge=32), torch.zeros(2, 3, 32, 32), exits=(2,)).net
    found = members.fitted(members.read_members(LIST).variants, net)
    assert len(found) == 16
    assert {v.exit_index for v in found.values()} == {1}


def test_a_variant_of_another_structure_is_refused_by_name(net):
    with pytest.raises(ConfigError, match='long has 3 stages'):
        members.fitted({'long': Variant(((), (), ()), 1)}, net)
    wrong = Variant(((OperatorChoice('depth', (('blocks', 9),)),), ()), 1)
    with pytest.raises(ConfigError, match='deep does not fit: depth keeps 9'):
        members.fitted({'deep': wrong}, net)


def test_places_are_taken_by_wanted_names_unless_a_stand_in_is_much_nearer():
    speedups = {'full': 1.0, 'wanted': 2.1, 'ten': 10.0, 'other': 3.16}
    assert members.spaced(speedups, count=3, span=10.0) == ('full', 'wanted', 'ten')
    speedups['wanted'] = 1.2
    assert members.spaced(speedups, count=3, span=10.0) == ('full', 'other', 'ten')


def test_places_that_nothing_can_take_are_named():
    with pytest.raises(ConfigError, match='no proposal is about'):
        members.spaced({'full': 1.0, 'a': 1.1, 'b': 1.2, 'c': 1.3}, count=4, span=1000.0)
    with pytest.raises(ConfigError, match='as many proposals'):
        members.spaced({'full': 1.0}, count=4)


def test_a_missing_category_takes_the_place_of_the_nearest_member_that_can_be_spared():
    speedups = {'full': 1.0, 'a': 2.0, 'b': 4.0, 'c': 8.0, 'new': 4.4}
    etas = {'full': set(), 'a': {1}, 'b': {1}, 'c': {6}, 'new': {2}}
    chosen = members.complete(('full', 'a', 'b', 'c'), speedups, etas, {1, 2, 6})
    assert chosen == ('full', 'a', 'new', 'c')
    with pytest.raises(ConfigError, match='eta3'):
        members.complete(chosen, speedups, etas, {1, 2, 3})


def test_members_are_chosen_by_what_was_measured(net, monkeypatch):
    proposals = {'half': Variant((HALF, HALF), 1), 'ghost': Variant((GHOST, GHOST), 1)}
    seconds = {'full': 0.1, 'half': 0.01, 'ghost': 0.03}
    monkeypatch.setattr(members, 'latencies', lambda *given, **options: seconds)
    found = members.choose(net, proposals, torch.zeros(1, 3, 16, 16), count=3, span=10.0,
                           needed={4, 6})
    assert [(m.name, m.speedup) for m in found] == [
        ('full', 1.0), ('ghost', pytest.approx(3.333)), ('half', pytest.approx(10.0))]
    assert found[2].macs_ratio > found[1].macs_ratio > 1.0


def test_drawn_proposals_are_distinct_and_the_same_again(net):
    first = members.drawn(net, 12, seed=3)
    assert first == members.drawn(net, 12, seed=3)
    assert len(set(first.values())) == len(first) > 6
    assert len(members.fitted(first, net)) == len(first)


@pytest.mark.parametrize(('text', 'said'), [
    ('a: [', 'no YAML file'), ('members: []', 'it needs backbone'), ('- 1', 'it needs backbone'),
    ('backbone: {name: x, classes: 2, options: {}}\nmembers: []', 'it lists no variant'),
    ('backbone: {name: x, classes: 2, options: {}}\nmembers: [{name: a}]', 'members.0. needs'),
])
def test_a_damaged_list_is_told_in_one_line(written, text, said):
    with pytest.raises(ConfigError, match=said) as told:
        members.read_members(written(text))
    assert '\n' not in str(told.value)


def test_two_members_of_one_name_are_refused(written):
    content = yaml.safe_load(members.members_text(a_list()))
    content['members'][1]['name'] = 'full'
    with pytest.raises(ConfigError, match='is called full, as another one is'):
        members.read_members(written(yaml.safe_dump(content)))


def test_a_list_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ConfigError, match='cannot be read'):
        members.read_members(tmp_path / 'none.yaml')
