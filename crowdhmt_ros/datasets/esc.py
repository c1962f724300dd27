# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Sounds of the surroundings: the ESC layout (Piczak 2015), and one npz file.

- ESC-50: `audio/*.wav` and `meta/esc50.csv` with the columns filename, fold, target, category,
  esc10.
- npz: `blob` (FLAC files one after another), `offsets` (n + 1), `y`, `fold`, `classes`, `rate_hz`.

Clips are brought to 16 kHz mono of 5 s and become log-mel spectrograms (`logmel.py`). The folds
keep clips of one recording together; the last one is the test part unless others are held out.
"""
from __future__ import annotations

import logging
from pathlib import Path
from typing import Dict, List, Optional, Set, Tuple

import numpy as np

from crowdhmt_ros.datasets.assembling import Found, finish, part_to_read
from crowdhmt_ros.datasets.audio import BlobSounds, FileSounds, soundfile
from crowdhmt_ros.datasets.dataset import InputKind, LabelledSet
from crowdhmt_ros.datasets.findings import Findings
from crowdhmt_ros.datasets.images import files_in
from crowdhmt_ros.datasets.options import OpenOptions
from crowdhmt_ros.datasets.tables import array_names, check_blob, read_archive, read_table
from crowdhmt_ros.errors import DataError

NAME, NPZ_NAME = 'esc', 'esc_npz'
COLUMNS = ('filename', 'fold', 'target', 'category')
SUFFIXES = ('.wav', '.flac', '.ogg')
NPZ_ARRAYS = ('blob', 'offsets', 'y', 'classes', 'fold', 'rate_hz')
TRUE = ('true', '1', 'yes')

logger = logging.getLogger(__name__)
Row = Tuple[int, Dict[str, str]]


def recognises(path: Path) -> bool:
    """Whether a folder has sounds in `audio/`, or a table in `meta/`."""
    return path.is_dir() and (_table(path) is not None or (
        (path / 'audio').is_dir() and bool(files_in(path / 'audio', SUFFIXES))))


def recognises_npz(path: Path) -> bool:
    """Whether a file has encoded sounds, their folds, and a sampling rate."""
    return path.is_file() and set(NPZ_ARRAYS) <= set(array_names(path))


def _table(path: Path) -> Optional[Path]:
    """Return meta/esc50.csv, or the only table in meta/."""
    if (path / 'meta' / 'esc50.csv').is_file():
        return path / 'meta' / 'esc50.csv'
    tables = files_in(path / 'meta', ('.csv',)) if (path / 'meta').is_dir() else []
    return path / 'meta' / tables[0] if len(tables) == 1 else None


def _rows(path: Path, options: OpenOptions, findings: Findings) -> List[Row]:
    """Return the rows of the table; note fold and target that are no numbers."""
    table = _table(path)
    if table is None:
        findings.problem('meta/esc50.csv is missing')
        findings.stop_if_any()
        return []
    rows: List[Row] = []
    try:
        rows = read_table(table, (*COLUMNS, 'esc10') if options.esc10 else COLUMNS)
    except DataError as e:
        findings.problem(str(e))
    for line, row in rows:
        for column in ('fold', 'target'):
            if not row[column].isdigit():
                findings.problem('%s, line %d: %s %r is no whole number' % (
                    table.name, line, column, row[column]))
    findings.stop_if_any()
    return [(line, row) for line, row in rows
            if not options.esc10 or row['esc10'].lower() in TRUE]


def _targets(rows: List[Row], esc10: bool, findings: Findings) -> Dict[int, str]:
    """Return target -> category; note targets with two names, and gaps."""
    category: Dict[int, str] = {}
    for line, row in rows:
        target = int(row['target'])
        if category.setdefault(target, row['category']) != row['category']:
            findings.problem('line %d: target %d is %s, before it was %s' % (
                line, target, row['category'], category[target]))
    absent = [] if esc10 else sorted(set(range(max(category, default=-1) + 1)) - set(category))
    if len(absent) > 5:
        findings.problem('target %d is out of range, there are %d classes' % (
            max(category), len(category)))
    elif absent:
        findings.problem('no clip of target %s' % ', '.join(map(str, absent)))
    return category


def _warn_of_shared_recordings(rows: List[Row]) -> None:
    folds: Dict[str, Set[str]] = {}
    for _, row in rows:
        if row.get('src_file'):
            folds.setdefault(row['src_file'], set()).add(row['fold'])
    shared = sorted(source for source, within in folds.items() if len(within) > 1)
    if shared:
        logger.warning('clips of one recording lie in different folds, so that a test part may '
                       'hold what was learnt: %s', ', '.join(shared[:5]))


def _check_files(path: Path, rows: List[Row], findings: Findings) -> None:
    """Note clips named twice, and sounds that the table does not name."""
    names = [row['filename'] for _, row in rows]
    if len(set(names)) < len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        findings.problem('the table names %s more than once' % ', '.join(twice[:5]))
    if not (path / 'audio').is_dir():
        findings.problem('the folder audio is missing')
    findings.stop_if_any()


def read(path: Path, options: OpenOptions) -> LabelledSet:
    """
    Open the ESC layout.

    :raises DataError: a table that is missing, lacks a column or contradicts itself, a class
        without clips, no such split
    """
    findings = Findings(path)
    part = part_to_read(options, (), True, findings)
    rows = _rows(path, options, findings)
    category = _targets(rows, options.esc10, findings)
    _check_files(path, rows, findings)
    _warn_of_shared_recordings(rows)
    if not options.esc10:
        named = {row['filename'] for _, row in rows}
        for name in files_in(path / 'audio', SUFFIXES):
            if name not in named:
                findings.leave_out('audio/' + name, 'the table does not name it')
    targets = sorted(category)
    names = [row['filename'] for _, row in rows]
    sounds = FileSounds(path / 'audio', names, options.spectrogram)
    found = Found(
        NAME, part, InputKind.SPECTROGRAM, options.spectrogram.shape,
        tuple(category[t] for t in targets), sounds,
        [targets.index(int(row['target'])) for _, row in rows],
        [row['fold'] for _, row in rows], 'fold')
    return finish(found, options, findings)


def read_npz(path: Path, options: OpenOptions) -> LabelledSet:
    """
    Open an npz file of FLAC clips.

    :raises DataError: soundfile is not installed, arrays that are missing or do not fit together,
        no such split
    """
    findings = Findings(path)
    part = part_to_read(options, (), True, findings)
    try:
        soundfile()
    except DataError as e:
        raise DataError('%s: %s' % (path, e)) from e
    archive = read_archive(path, NPZ_ARRAYS, ('name',))
    check_blob(archive, findings)
    folds, labels = archive['fold'], archive['y']
    names = [str(n) for n in archive['name'].ravel()] if 'name' in archive else [
        'clip %d' % k for k in range(len(labels))]
    if folds.shape != labels.shape or len(names) != len(labels):
        findings.problem('%d labels, %d folds and %d names' % (
            len(labels), folds.size, len(names)))
    findings.stop_if_any()
    items = BlobSounds(np.asarray(archive['blob'], np.uint8),
                       archive['offsets'].astype(np.int64), names, options.spectrogram)
    return finish(Found(NPZ_NAME, part, InputKind.SPECTROGRAM, options.spectrogram.shape,
                        tuple(str(c) for c in archive['classes']), items, labels.tolist(),
                        [str(f) for f in folds], 'fold'), options, findings)
