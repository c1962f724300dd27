# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
All rewrites of a graph in one list, and who uses which. Offline.

The transformation (P III-B2) runs the passes that are never a trade, by stages. Fusion (P III-C1)
runs all that belong to a family, with the clean-up between. A new pass gets one line here.
"""
from __future__ import annotations

from typing import Dict, Mapping, NamedTuple, Tuple

from crowdhmt_ros.graph.passes import (
    affine,
    branches,
    casts,
    chains,
    clamps,
    concats,
    constant_nodes,
    dead_code,
    duplicates,
    fold,
    fuse_convolutions,
    fuse_gates,
    fuse_means,
    fuse_norms,
    fuse_parallel,
    fuse_pool_first,
    fuse_products,
    fuse_scale_shift,
    fuse_softmax,
    fuse_sums,
    gemm,
    identity,
    inference,
    layer_norm,
    pads,
    products,
    push_transposes,
    reductions,
    shapes,
    slices,
    transposes,
    views,
)
from crowdhmt_ros.graph.passes.contract import Pass

INFERENCE, FIRST, SECOND = 0, 1, 2
"""Stages of the transformation: set to inference; fused or removed; constant."""
CLEAN = ''
"""In place of a family: takes away what nobody needs, right for every engine."""
FAMILY_NAMES = ('elementwise', 'conv_bn', 'linear', 'channelwise', 'reduction')
"""
The paper's families, in the order in which they are tried. Gates come first, since weights would
take their factors in; convolutions find each other once what was between is in their weights.
"""


class Listed(NamedTuple):
    """
    A pass and its users.

    :param rules: the pass
    :param family: the family of fusion it belongs to, or `CLEAN`
    :param stages: of the transformation in which it runs; none for one that weighs cost against
        cost
    """

    rules: Pass
    family: str
    stages: Tuple[int, ...]


LISTED: Tuple[Listed, ...] = (
    Listed(constant_nodes.PASS, CLEAN, (INFERENCE, FIRST)),
    Listed(inference.PASS, CLEAN, (INFERENCE,)),
    Listed(dead_code.PASS, CLEAN, (FIRST, SECOND)),
    Listed(identity.PASS, CLEAN, (FIRST,)),
    Listed(duplicates.CONSTANTS, CLEAN, (FIRST,)),
    Listed(duplicates.PASS, CLEAN, (FIRST,)),
    Listed(transposes.PASS, CLEAN, (FIRST,)),
    Listed(views.PASS, CLEAN, (FIRST,)),
    Listed(fuse_gates.PASS, 'elementwise', (FIRST,)),
    Listed(clamps.PASS, 'elementwise', (FIRST,)),
    Listed(affine.PASS, 'conv_bn', (FIRST,)),
    Listed(chains.PASS, 'elementwise', (FIRST,)),
    Listed(fuse_scale_shift.PASS, 'elementwise', ()),
    Listed(fuse_norms.PASS, 'conv_bn', ()),
    Listed(pads.PASS, 'conv_bn', (FIRST,)),
    Listed(casts.PASS, CLEAN, (FIRST,)),
    Listed(slices.PASS, CLEAN, (FIRST,)),
    Listed(concats.PASS, CLEAN, (FIRST,)),
    Listed(reductions.PASS, 'reduction', (FIRST,)),
    Listed(push_transposes.PASS, CLEAN, (FIRST,)),
    Listed(gemm.PASS, 'linear', (FIRST,)),
    Listed(products.PASS, 'linear', (FIRST,)),
    Listed(fuse_convolutions.PASS, 'linear', ()),
    Listed(fuse_products.PASS, 'linear', ()),
    Listed(fuse_sums.PASS, 'channelwise', ()),
    Listed(fuse_parallel.PASS, 'channelwise', ()),
    Listed(layer_norm.PASS, 'reduction', (FIRST,)),
    Listed(fuse_softmax.PASS, 'reduction', ()),
    Listed(fuse_means.PASS, 'reduction', ()),
    Listed(fuse_pool_first.PASS, 'reduction', ()),
    Listed(shapes.PASS, CLEAN, (SECOND,)),
    Listed(fold.PASS, CLEAN, (SECOND,)),
    Listed(branches.PASS, CLEAN, (SECOND,)),
)
"""In the order in which they run."""


def _stages() -> Dict[int, Tuple[Pass, ...]]:
    return {stage: tuple(one.rules for one in LISTED if stage in one.stages)
            for stage in (INFERENCE, FIRST, SECOND)}


def _families() -> Dict[str, Tuple[Pass, ...]]:
    return {name: tuple(one.rules for one in LISTED if one.family == name)
            for name in FAMILY_NAMES}


STAGES: Mapping[int, Tuple[Pass, ...]] = _stages()
"""What the transformation runs in each stage."""
FAMILIES: Mapping[str, Tuple[Pass, ...]] = _families()
"""What each family of fusion runs, families in the order in which they are tried."""
CLEAN_UP: Tuple[Pass, ...] = tuple(one.rules for one in LISTED if one.family == CLEAN)
"""What every set of families begins with: patterns show between neighbours only."""
