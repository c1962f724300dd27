# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Reading the text and array files that layouts have: tables, lists, archives."""
from __future__ import annotations

import csv
import zipfile
import zlib
from pathlib import Path
from typing import Dict, List, Sequence, Tuple

import numpy as np
from numpy.typing import NDArray

from crowdhmt_ros.datasets.findings import Findings
from crowdhmt_ros.errors import DataError

Archive = Dict[str, NDArray[np.generic]]


def read_lines(path: Path) -> List[str]:
    """
    Return the lines of a text file without surrounding blanks; empty ones at the end are dropped.

    :raises DataError: it cannot be read
    """
    try:
        lines = [line.strip() for line in path.read_text(encoding='utf-8-sig').splitlines()]
    except (OSError, UnicodeDecodeError) as e:
        reason = e.strerror if isinstance(e, OSError) else 'it is no UTF-8 text'
        raise DataError('%s cannot be read (%s)' % (path, reason)) from e
    while lines and not lines[-1]:
        lines.pop()
    return lines


def read_table(path: Path, columns: Sequence[str]) -> List[Tuple[int, Dict[str, str]]]:
    """
    Return (line number, row) of each row of a CSV file with a header.

    :param columns: that it must have
    :raises DataError: it cannot be read, or lacks a column or, in some row, a value of one
    """
    lines = read_lines(path)
    reader = csv.DictReader(lines)
    there = [name.strip() for name in reader.fieldnames or ()]
    absent = [name for name in columns if name not in there]
    if absent:
        raise DataError('%s has no column %s; its columns are %s' % (
            path, ', '.join(absent), ', '.join(there) or 'none'))
    reader.fieldnames = there
    rows = []
    for row in reader:
        if any(not row[name] for name in columns):
            raise DataError('%s, line %d has no value for %s' % (
                path, reader.line_num, ', '.join(n for n in columns if not row[n])))
        rows.append((reader.line_num, {k: v.strip() for k, v in row.items()
                                       if isinstance(k, str) and isinstance(v, str)}))
    return rows


def read_archive(path: Path, needed: Sequence[str], optional: Sequence[str] = ()) -> Archive:
    """
    Return arrays of an npz file.

    :param needed: names that must be there
    :param optional: names that may be there
    :raises DataError: it cannot be read, or lacks an array
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            absent = [name for name in needed if name not in archive.files]
            if absent:
                there = (name if name.isprintable() else repr(name) for name in archive.files)
                raise DataError('%s lacks the array %s; it has %s' % (
                    path, ', '.join(absent), ', '.join(there)))
            arrays = {name: archive[name] for name in (*needed, *optional)
                      if name in archive.files}
            # numpy hands out the bytes of a member that does not begin like an array.
            for name, array in arrays.items():
                if not isinstance(array, np.ndarray):
                    raise ValueError('%s is no array' % name)
            return arrays
    except (OSError, ValueError, EOFError, KeyError, NotImplementedError, zipfile.BadZipFile,
            zlib.error) as e:
        raise DataError('%s is no readable npz file (%s); copy it again' % (
            path, str(e).splitlines()[0] if str(e) else 'it ends early')) from e


def array_names(path: Path) -> Tuple[str, ...]:
    """Return the names of the arrays of an npz file; none where it is not one."""
    try:
        with zipfile.ZipFile(path) as archive:
            return tuple(name[:-4] for name in archive.namelist() if name.endswith('.npy'))
    except (OSError, zipfile.BadZipFile):
        return ()


def check_blob(archive: Archive, findings: Findings) -> None:
    """
    Check an archive of files one after another.

    :param archive: with `blob`, `offsets`, `y`, `classes`
    :raises DataError: offsets that do not fit blob or labels
    """
    blob, offsets, labels = archive['blob'], archive['offsets'], archive['y']
    if blob.ndim != 1 or blob.dtype != np.uint8:
        findings.problem('the blob is %s of %d dimensions, not bytes in a row' % (
            blob.dtype, blob.ndim))
    if offsets.ndim != 1 or offsets.dtype.kind not in 'iu':
        findings.problem('the offsets are no row of integers')
    elif len(offsets) != labels.size + 1:
        findings.problem('%d offsets for %d labels' % (len(offsets), labels.size))
    elif np.any(np.diff(offsets.astype(np.int64)) < 0) or offsets[0] < 0 \
            or offsets[-1] > blob.size:
        findings.problem('the offsets do not ascend within the blob')
    if labels.ndim != 1 or labels.dtype.kind not in 'iu':
        findings.problem('the labels are no row of integers')
    if archive['classes'].ndim != 1:
        findings.problem('the classes are no row of names')
    findings.stop_if_any()


def split_in_name(path: Path) -> str:
    """Return 'train' or 'test' when a file name says so, otherwise ''."""
    said = [word for word in ('train', 'test') if word in path.stem.lower()]
    return said[0] if len(said) == 1 else ''
