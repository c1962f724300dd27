# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""From what a layout's reader found to a `LabelledSet`: items checked, parts made."""
from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Optional, Sequence, Tuple

import numpy as np
from numpy.typing import NDArray

from crowdhmt_ros.datasets import groups
from crowdhmt_ros.datasets.dataset import InputKind, Items, LabelledSet
from crowdhmt_ros.datasets.findings import Findings
from crowdhmt_ros.datasets.images import quiet_opencv
from crowdhmt_ros.datasets.options import OpenOptions
from crowdhmt_ros.errors import DataError

THOROUGH_LIMIT = 20000
"""Items up to which 'auto' decodes each."""
WORKERS = 4
CHUNK = 256
"""Items that a worker checks at a time."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Found:
    """
    What a layout's reader found.

    :param layout: its name
    :param part: the split that was read
    :param kind: what an input is
    :param shape: of one input
    :param classes: names, in the order of the labels
    :param items: inputs
    :param labels: of each item
    :param group_of: group name of each item; None where the layout has none
    :param group_word: 'fold', 'subject' or ''
    """

    layout: str
    part: str
    kind: InputKind
    shape: Tuple[int, ...]
    classes: Tuple[str, ...]
    items: Items
    labels: Sequence[int]
    group_of: Optional[Sequence[str]] = None
    group_word: str = ''


def part_to_read(options: OpenOptions, own: Sequence[str], grouped: bool, findings: Findings
                 ) -> str:
    """
    Return which part a reader has to read; a part by groups is made afterwards, by `finish`.

    :param own: the splits that the data set itself has, without 'all'
    :param grouped: the layout names folds or subjects
    :raises DataError: there is no such split
    """
    if options.held_out and not grouped:
        findings.problem('it names neither folds nor subjects: nothing can be held out by name')
    elif options.held_out or options.split == 'all':
        return 'all'
    elif options.split in own:
        return options.split
    elif grouped and not own and options.split != 'val':
        return 'all'
    else:
        there = own or (('train', 'test') if grouped else ())
        findings.problem('no split %s; there %s %s%s' % (
            options.split, 'are' if there else 'is', ', '.join(('all', *there)),
            '' if there else ' (hold_out cuts it in two)'))
    findings.stop_if_any()
    raise AssertionError('unreachable')


def _unreadable(items: Items, thorough: bool) -> Sequence[Tuple[int, str]]:
    def problems(start: int) -> Sequence[Tuple[int, str]]:
        stop = min(start + CHUNK, len(items))
        told = ((index, items.problem(index, thorough)) for index in range(start, stop))
        return [(index, problem) for index, problem in told if problem]

    with quiet_opencv(), ThreadPoolExecutor(WORKERS) as pool:
        return [one for found in pool.map(problems, range(0, len(items), CHUNK))
                for one in found]


def _sift(found: Found, options: OpenOptions, findings: Findings) -> NDArray[np.int64]:
    """Return the rows that can be read; note the others."""
    readable = np.ones(len(found.items), np.bool_)
    if options.check != 'none' or found.kind is InputKind.WINDOW:  # windows are in memory
        thorough = options.check == 'items' or (
            options.check == 'auto' and len(found.items) <= THOROUGH_LIMIT)
        for index, reason in _unreadable(found.items, thorough):
            readable[index] = False
            findings.skip(found.items.name(index), reason)
    return np.flatnonzero(readable).astype(np.int64)


def _check_labels(found: Found, labels: NDArray[np.int64], rows: NDArray[np.int64],
                  findings: Findings) -> None:
    """Note labels beyond the classes, and classes that no readable item has."""
    beyond = np.flatnonzero((labels < 0) | (labels >= len(found.classes)))
    for index in beyond[:4]:
        findings.problem('label %d of %s is out of range, there are %d classes' % (
            labels[index], found.items.name(int(index)), len(found.classes)))
    if len(beyond) > 4:
        findings.problem('%d labels are out of range' % len(beyond))
    present = set(labels[rows].tolist())
    absent = [name for c, name in enumerate(found.classes) if c not in present]
    if absent and len(rows):
        findings.problem('no item of class%s %s' % (
            'es' if len(absent) > 1 else '', ', '.join(absent[:10])))


def _by_groups(whole: LabelledSet, options: OpenOptions) -> LabelledSet:
    """Return the asked part of a set that was read whole."""
    names = options.held_out or groups.default_groups(whole)
    if not options.held_out:
        logger.info('held out as the test part: %s %s', whole.group_word, ', '.join(names))
    rest, out = groups.leave_out(whole, names)
    return out if options.split == 'test' else rest


def finish(found: Found, options: OpenOptions, findings: Findings) -> LabelledSet:
    """
    Check the items and return the asked part.

    :raises DataError: all problems, in one message
    """
    labels = np.asarray(found.labels, np.int64)
    if len(labels) != len(found.items):
        findings.problem('%d labels for %d items' % (len(labels), len(found.items)))
    elif not len(labels):
        findings.problem('there is nothing in it')
    findings.stop_if_any()
    rows = _sift(found, options, findings)
    _check_labels(found, labels, rows, findings)
    skipped = findings.settle(len(found.items), options.strict)
    names: Tuple[str, ...] = ()
    codes: Optional[NDArray[np.int64]] = None
    if found.group_of is not None:
        names, codes = _coded(found.group_of)
        codes = codes[rows]
    whole = LabelledSet(
        layout=found.layout, split=found.part, kind=found.kind, shape=found.shape,
        classes=found.classes, items=found.items, rows=rows, labels=labels[rows], groups=codes,
        group_names=names, group_word=found.group_word, skipped=skipped)
    if options.split == found.part:
        return whole
    try:
        return _by_groups(whole, options)
    except DataError as e:
        raise DataError('%s: %s' % (findings.place, e)) from e


def _coded(names: Sequence[str]) -> Tuple[Tuple[str, ...], NDArray[np.int64]]:
    """Return the distinct names, numbers by value, and the index of each name given."""
    distinct = sorted(set(names), key=lambda n: (0, int(n), n) if n.isdigit() else (1, 0, n))
    index = {name: k for k, name in enumerate(distinct)}
    return tuple(distinct), np.array([index[name] for name in names], np.int64)
