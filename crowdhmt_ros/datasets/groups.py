# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Parts that share no fold and no subject.

A person drives, walks or talks alike in all of their recordings; with one person on both sides of
a split, a network is tested on whom it has learnt. Groups are therefore never divided.
"""
from __future__ import annotations

from typing import List, Sequence, Tuple

import numpy as np
from numpy.typing import NDArray

from crowdhmt_ros.datasets.dataset import LabelledSet
from crowdhmt_ros.errors import DataError

Parts = Tuple[LabelledSet, LabelledSet]
DEFAULT_RATIO = 0.2


def _parts(whole: LabelledSet, held: NDArray[np.bool_]) -> Parts:
    rest, out = np.flatnonzero(~held), np.flatnonzero(held)
    if not len(rest) or not len(out):
        raise DataError('holding out %d of %d items leaves one part empty; hold out fewer or more'
                        % (len(out), len(held)))
    return whole.subset(rest.tolist(), 'train'), whole.subset(out.tolist(), 'test')


def leave_out(whole: LabelledSet, names: Sequence[str]) -> Parts:
    """
    Return (the rest, the items of some groups).

    :param names: folds or subjects, as in `group_names`
    :raises DataError: there are no groups or not these, or a part would be empty
    """
    if whole.groups is None:
        raise DataError('the %s layout names neither folds nor subjects: nothing can be held out '
                        'by name' % whole.layout)
    unknown = [name for name in names if name not in whole.group_names]
    if unknown:
        raise DataError('no %s %s; there are %s' % (
            whole.group_word, ', '.join(unknown), ', '.join(whole.group_names)))
    codes = [whole.group_names.index(name) for name in names]
    return _parts(whole, np.isin(whole.groups, codes))


def default_groups(whole: LabelledSet) -> Tuple[str, ...]:
    """Return the last fifth of the folds or subjects present, at least one."""
    if whole.groups is None:
        return ()
    present = np.unique(whole.groups)
    return tuple(whole.group_names[c] for c in present[-max(1, int(len(present)
                                                                   * DEFAULT_RATIO)):])


def hold_out(whole: LabelledSet, ratio: float = DEFAULT_RATIO, *, seed: int = 0) -> Parts:
    """
    Return (the rest, about `ratio` of the items), drawn by seed.

    Whole groups are drawn where there are any, otherwise items, of each class alike.

    :param ratio: 0..1, share of the second part
    :raises DataError: a part would be empty
    """
    if not 0.0 < ratio < 1.0:
        raise DataError('a share of %g to hold out; it lies between 0 and 1' % ratio)
    rng = np.random.default_rng(seed)
    if whole.groups is not None:
        return _parts(whole, np.isin(whole.groups, _drawn_groups(whole.groups, ratio, rng)))
    held = np.zeros(len(whole), np.bool_)
    for label in np.unique(whole.labels):
        members = rng.permutation(np.flatnonzero(whole.labels == label))
        held[members[:round(ratio * len(members))]] = True
    return _parts(whole, held)


def _drawn_groups(groups: NDArray[np.int64], ratio: float, rng: np.random.Generator) -> List[int]:
    """Return groups until they hold the wanted share; never all of them."""
    codes, counts = np.unique(groups, return_counts=True)
    drawn: List[int] = []
    held = 0
    for k in rng.permutation(len(codes))[:-1]:
        if drawn and held + counts[k] / 2.0 > ratio * len(groups):
            break
        drawn.append(int(codes[k]))
        held += int(counts[k])
    return drawn
