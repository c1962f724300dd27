# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Human activity from inertial windows: the UCI HAR layout, and one npz file.

- UCI HAR: `train/Inertial Signals/SIGNAL_train.txt` (a window of 128 values in each line), for
  nine signals, `train/y_train.txt` (classes from 1), `train/subject_train.txt`, the same under
  `test`, and `activity_labels.txt`. `X_train.txt` holds features computed from the windows; it
  is not read.
- npz: `X` (int16, (n, samples, channels)), `scale`, `y` (classes from 0), `subject`, `labels`.

Unit: g and rad/s, as recorded.
"""
from __future__ import annotations

from pathlib import Path
from typing import Dict, List, Sequence, Tuple

import numpy as np
from numpy.typing import NDArray

from crowdhmt_ros.datasets.assembling import Found, finish, part_to_read
from crowdhmt_ros.datasets.dataset import ArrayItems, InputKind, LabelledSet
from crowdhmt_ros.datasets.findings import Findings
from crowdhmt_ros.datasets.options import OpenOptions
from crowdhmt_ros.datasets.tables import array_names, read_archive, read_lines
from crowdhmt_ros.errors import DataError

NAME, NPZ_NAME = 'uci_har', 'har_npz'
SIGNALS = tuple('%s_%s' % (kind, axis) for kind in ('body_acc', 'body_gyro', 'total_acc')
                for axis in 'xyz')
"""Channels of a window, in order."""
FOLDER = 'Inertial Signals'
NPZ_ARRAYS = ('X', 'scale', 'y', 'subject', 'labels')
BAD = np.float32(np.nan)


def _root(path: Path) -> Path:
    """Return where train/ and test/ lie: here, or in the folder that the download makes."""
    inner = path / 'UCI HAR Dataset'
    return inner if inner.is_dir() else path


def recognises(path: Path) -> bool:
    """Whether a folder has inertial signals or the list of activities."""
    root = _root(path)
    return (root / 'activity_labels.txt').is_file() or any(
        (root / part / FOLDER).is_dir() for part in ('train', 'test'))


def recognises_npz(path: Path) -> bool:
    """Whether a file has windows, their scale, and subjects."""
    return path.is_file() and {'X', 'scale', 'subject'} <= set(array_names(path))


def _window(line: str, samples: int) -> Tuple[NDArray[np.float32], str]:
    """Return the values of a line and '', or NaN and what is wrong with it."""
    words = line.split()
    if len(words) != samples:
        return np.full(samples, BAD), 'has %d samples, a window has %d' % (len(words), samples)
    try:
        values = np.array(words, np.float32)
    except ValueError:
        return np.full(samples, BAD), 'has what is no number'
    return values, '' if np.isfinite(values).all() else 'has values that are not finite'


def _integers(path: Path, findings: Findings) -> List[int]:
    """Return the integer of each line; note lines that have none."""
    numbers = []
    try:
        for k, line in enumerate(read_lines(path), 1):
            try:
                numbers.append(int(line))
            except ValueError:
                findings.problem('%s, line %d: %r is no whole number' % (path.name, k, line[:20]))
    except DataError as e:
        findings.problem(str(e))
    return numbers


class _Part:
    """The windows of train or test as they were read."""

    def __init__(self, root: Path, part: str, samples: int, findings: Findings) -> None:
        folder = root / part
        self.labels = _integers(folder / ('y_%s.txt' % part), findings)
        self.subjects = _integers(folder / ('subject_%s.txt' % part), findings)
        self.bad: Dict[int, str] = {}
        self.names: List[str] = []
        self.windows = np.empty((0, samples, len(SIGNALS)), np.float32)
        lines = {}
        for signal in SIGNALS:
            path = folder / FOLDER / ('%s_%s.txt' % (signal, part))
            try:
                lines[signal] = read_lines(path)
            except DataError as e:
                findings.problem(str(e))
        counts = {'y': len(self.labels), 'subject': len(self.subjects),
                  **{signal: len(told) for signal, told in lines.items()}}
        if len(set(counts.values())) > 1:
            findings.problem('%s has different numbers of lines: %s' % (
                part, ', '.join('%s %d' % one for one in counts.items())))
        findings.stop_if_any()
        self._parse(part, samples, lines)

    def _parse(self, part: str, samples: int, lines: Dict[str, List[str]]) -> None:
        self.windows = np.empty((len(self.labels), samples, len(SIGNALS)), np.float32)
        self.names = ['%s window %d' % (part, k + 1) for k in range(len(self.labels))]
        for channel, signal in enumerate(SIGNALS):
            for row, line in enumerate(lines[signal]):
                self.windows[row, :, channel], problem = _window(line, samples)
                if problem:
                    self.bad.setdefault(row, '%s %s' % (signal, problem))


def _items(parts: Sequence[_Part]) -> ArrayItems:
    """Return the windows of the parts, with what is wrong with some."""
    first = np.cumsum([0, *(len(p.names) for p in parts)])
    bad = {int(start) + row: reason for start, p in zip(first, parts)
           for row, reason in p.bad.items()}
    return ArrayItems(np.concatenate([p.windows for p in parts]),
                      names=[name for p in parts for name in p.names], bad=bad)


def _activities(root: Path, findings: Findings) -> Tuple[str, ...]:
    """Return the activities in the order of their numbers, which must be 1, 2, ..."""
    try:
        pairs = [line.split() for line in read_lines(root / 'activity_labels.txt') if line]
    except DataError as e:
        findings.problem(str(e))
        return ()
    if [words[0] for words in pairs] != [str(k) for k in range(1, len(pairs) + 1)] \
            or any(len(words) != 2 for words in pairs):
        findings.problem("activity_labels.txt does not list '1 NAME', '2 NAME', ...")
    return tuple(words[-1] for words in pairs)


def read(path: Path, options: OpenOptions) -> LabelledSet:
    """
    Open the UCI HAR layout; all its windows lie in memory, some 47 MB.

    :raises DataError: files that are missing or differ in their number of lines, labels beyond the
        activities, windows of another length, no such split
    """
    findings = Findings(path)
    root = _root(path)
    own = tuple(part for part in ('train', 'test') if (root / part).is_dir())
    if not own:
        findings.problem('there is neither a train nor a test folder')
        findings.stop_if_any()
    part = part_to_read(options, own, True, findings)
    classes = _activities(root, findings)
    parts = [_Part(root, name, options.window_samples, findings) for name in own
             if part in ('all', name)]
    findings.stop_if_any()
    shape = options.window_samples, len(SIGNALS)
    found = Found(NAME, part, InputKind.WINDOW, shape, classes, _items(parts),
                  [label - 1 for p in parts for label in p.labels],
                  [str(s) for p in parts for s in p.subjects], 'subject')
    for p in parts:
        for label in sorted(set(p.labels) - set(range(1, len(classes) + 1))):
            findings.problem('label %d is out of range, activity_labels.txt has 1 to %d'
                             % (label, len(classes)))
    findings.stop_if_any()
    return finish(found, options, findings)


def read_npz(path: Path, options: OpenOptions) -> LabelledSet:
    """
    Open an npz file of windows.

    :raises DataError: arrays that are missing or do not fit together, no such split
    """
    findings = Findings(path)
    part = part_to_read(options, (), True, findings)
    archive = read_archive(path, NPZ_ARRAYS)
    windows, labels, subjects = archive['X'], archive['y'], archive['subject']
    scale = archive['scale']
    if windows.ndim != 3 or windows.dtype.kind not in 'iuf':
        findings.problem('X is no array of numbers, (n, samples, channels)')
    elif windows.shape[1] != options.window_samples:
        findings.problem('windows of %d samples, %d are expected (window_samples)' % (
            windows.shape[1], options.window_samples))
    if labels.shape != subjects.shape or labels.shape != windows.shape[:1]:
        findings.problem('windows of shape %s, %d labels and %d subjects' % (
            windows.shape, labels.size, subjects.size))
    if labels.ndim != 1 or labels.dtype.kind not in 'iu':
        findings.problem('the labels are no row of integers')
    if archive['labels'].ndim != 1:
        findings.problem('the names of the labels are no row')
    if scale.size != 1 or scale.dtype.kind not in 'iuf' or not np.isfinite(
            scale.astype(np.float64)).all():
        findings.problem('the scale is no number')
    findings.stop_if_any()
    items = ArrayItems(windows, float(scale.astype(np.float64).ravel()[0]), word='window')
    return finish(Found(NPZ_NAME, part, InputKind.WINDOW, tuple(windows.shape[1:]),
                        tuple(str(c) for c in archive['labels']), items, labels.tolist(),
                        [str(s) for s in subjects], 'subject'), options, findings)
