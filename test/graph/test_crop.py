# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

pytest.importorskip('onnx', reason='bundles are written with the extra train')
import onnx

from crowdhmt_ros.graph.crop import cropped
from crowdhmt_ros.graph.family import Family, FamilyGraph, Recipe, realise
from crowdhmt_ros.types import Variant

TENSORS = {'weight': np.arange(60, dtype=np.float16).reshape(6, 10),
           'scale': np.arange(4, dtype=np.float32), 'other': np.ones(9, np.float32),
           'single': np.array(3.0, np.float32)}
RECIPES = ({'a': Recipe('weight', ((1, 5), (2, 4)), 'scale'), 'one': Recipe('single', ())},
           {'b': Recipe('weight', ((2, 3), (3, 8)))})


def family():
    return Family(TENSORS, tuple(
        FamilyGraph('v%d' % i, Variant((), 0), onnx.ModelProto(), recipes)
        for i, recipes in enumerate(RECIPES)))


def test_what_no_graph_reads_goes_and_what_recipes_give_stays():
    small = cropped(family())
    assert {name: t.shape for name, t in small.tensors.items()} == {
        'weight': (4, 6), 'scale': (4,), 'single': ()}
    for before, after in zip(RECIPES, small.graphs):
        for name, recipe in before.items():
            found = realise(after.recipes[name], small.tensors)
            np.testing.assert_array_equal(found, realise(recipe, TENSORS))
            assert found.dtype == np.float32


def test_a_tensor_that_also_scales_stays_whole():
    graph = FamilyGraph('v', Variant((), 0), onnx.ModelProto(), {
        'a': Recipe('weight', ((0, 4), (0, 2)), 'scale'), 'b': Recipe('scale', ((1, 2),))})
    small = cropped(Family(TENSORS, (graph,)))
    assert small.tensors['scale'].shape == (4,)
    np.testing.assert_array_equal(realise(small.graphs[0].recipes['b'], small.tensors), [1.0])
