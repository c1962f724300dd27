# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
import itertools

import numpy as np
import pytest
import torch

from crowdhmt_ros.elastic.backbones.resnet import residual
from crowdhmt_ros.elastic.evolve.combine import combinations
from crowdhmt_ros.elastic.evolve.generate import distinct, generate, signature, weight_words
from crowdhmt_ros.elastic.evolve.space import Option, Space
from crowdhmt_ros.elastic.make_elastic import make_elastic
from crowdhmt_ros.errors import ExportError
from crowdhmt_ros.types import OperatorChoice, Variant


def option(name, stride=1, macs=10):
    return Option((OperatorChoice(name),) if name else (), stride, macs, macs)


STAGE = (option(''), option('a', macs=9), option('b', 2, 8), option('c', 2, 7))
SPACE = Space((STAGE, STAGE, STAGE), (1, 3), (8, 4, 2))


@pytest.fixture(scope='module')
def net():
    module = residual(4, widths=(16, 24), blocks=2, edge=64)
    return make_elastic(module, torch.zeros(2, 3, 32, 32)).net


@pytest.fixture(scope='module')
def space(net):
    return generate(net)


def every_genome():
    return itertools.product(*map(range, SPACE.extents))


def test_the_size_is_the_number_of_variants_that_can_be_described():
    valid = {SPACE.repaired(g) for g in every_genome()}
    assert SPACE.size == len(valid) == len({SPACE.variant(g) for g in valid})


def test_a_valid_genome_stays_and_a_repaired_one_is_valid():
    for genome in every_genome():
        repaired = SPACE.repaired(genome)
        assert SPACE.repaired(repaired) == repaired
        assert SPACE.genome(SPACE.variant(repaired)) == repaired


def test_strides_multiply_up_to_the_finest_resolution_that_is_run():
    assert SPACE.repaired((1, 2, 2, 2)) == (1, 2, 1, 1)
    assert SPACE.repaired((0, 2, 0, 0)) == (0, 2, 0, 0)
    assert Variant(tuple(o.choices for o in (STAGE[2], STAGE[2], STAGE[0])), 1) not in SPACE


def test_what_the_space_does_not_hold_is_refused():
    with pytest.raises(ExportError, match='no variant of 2 stages that ends at exit 1'):
        SPACE.genome(Variant(((), ()), 1))
    with pytest.raises(ExportError, match="no option \\['z'\\] of stage 0"):
        SPACE.genome(Variant(((OperatorChoice('z'),),), 0))
    with pytest.raises(ExportError, match='does not fit'):
        SPACE.variant((0, 4, 0, 0))
    assert 'text' not in SPACE
    assert Variant(((),), 0) in SPACE


def test_random_genomes_are_valid_and_repeatable():
    drawn = [[SPACE.random(np.random.default_rng(s)) for s in range(50)] for _ in range(2)]
    assert drawn[0] == drawn[1]
    assert all(SPACE.repaired(g) == g for g in drawn[0])


def test_a_generated_space_holds_the_whole_network_and_all_its_exits(net, space):
    assert space.variant(space.whole) == net.whole()
    assert space.ends[0] == space.whole
    assert [space.variant(g).exit_index for g in space.ends] == [1, 0]
    assert space.exits == net.structure.exits
    assert space.stages[0][0].macs == net.plan(net.whole()).macs
    assert space.stages[0][0].words == weight_words(net.plan(net.whole()))


def test_every_drawn_variant_resolves_and_computes_something_of_its_own(net, space):
    rng = np.random.default_rng(0)
    variants = sorted({space.variant(space.random(rng)) for _ in range(150)})
    assert distinct(net, variants) == len(variants)
    assert space.size > 10_000


def test_options_are_sorted_from_dear_to_cheap_behind_the_whole_stage(space):
    for options in space.stages:
        costs = [o.macs for o in options[1:]]
        assert options[0].choices == ()
        assert costs == sorted(costs, reverse=True)


def test_descriptions_that_compute_the_same_have_one_signature(net):
    ratio = OperatorChoice('channel', (('ratio', 0.5),))
    scaled = OperatorChoice('scale', (('ratio', 0.5),))
    plain = Variant(((ratio,), ()), 1)
    assert signature(net.plan(plain)) == signature(net.plan(Variant(((scaled,), ()), 1)))
    assert signature(net.plan(plain)) != signature(net.plan(Variant(((ratio,),), 0)))
    assert signature(net.plan(plain)) != signature(net.plan(net.whole()))


def test_a_stage_has_one_form_or_one_and_another_for_what_it_leaves(net):
    structure = net.structure
    found = list(combinations(structure.stages[1], structure.units_of(1)))
    names = {tuple(c.operator for c in choices) for choices in found}
    assert () in names
    assert ('asymmetric', 'svd') in names  # the shortcut has no kernel to part
    assert ('svd', 'asymmetric') not in names
    assert max(map(len, found)) == 3
    assert max(map(len, combinations(structure.stages[1], structure.units_of(1), 1))) == 1
