# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Driver behaviour: the StateFarm layout.

`imgs/train/c0..c9/*.jpg` and `driver_imgs_list.csv` with the columns subject, classname, img.
`imgs/test` has no classes and is not read: the test part is the pictures of some drivers.
"""
from __future__ import annotations

from pathlib import Path
from typing import Dict, List, Tuple

from crowdhmt_ros.datasets import images
from crowdhmt_ros.datasets.assembling import Found, finish, part_to_read
from crowdhmt_ros.datasets.dataset import InputKind, LabelledSet
from crowdhmt_ros.datasets.findings import Findings
from crowdhmt_ros.datasets.options import OpenOptions
from crowdhmt_ros.datasets.tables import read_table
from crowdhmt_ros.errors import DataError

NAME = 'statefarm'
TABLE = 'driver_imgs_list.csv'
FOLDER = Path('imgs', 'train')
COLUMNS = ('subject', 'classname', 'img')
ACTIVITIES = ('safe driving', 'texting - right', 'talking on the phone - right',
              'texting - left', 'talking on the phone - left', 'operating the radio', 'drinking',
              'reaching behind', 'hair and makeup', 'talking to passenger')
"""What c0 to c9 mean."""
CODES = tuple('c%d' % k for k in range(len(ACTIVITIES)))


def recognises(path: Path) -> bool:
    """Whether a folder has the table of drivers or the pictures."""
    return (path / TABLE).is_file() or (path / FOLDER).is_dir()


def _check_folders(path: Path, findings: Findings) -> None:
    """Note class folders that are missing, empty or unknown."""
    if not (path / FOLDER).is_dir():
        findings.problem('the folder %s is missing' % FOLDER)
        return
    there = images.subfolders(path / FOLDER)
    for code in CODES:
        if code not in there:
            findings.problem('class folder %s is missing' % (FOLDER / code))
    for name in there:
        if name not in CODES:
            findings.problem('folder %s is none of the classes c0 to c9' % (FOLDER / name))
        elif not images.files_in(path / FOLDER / name, tuple(images.SUFFIXES)):
            findings.problem('class folder %s has no images' % (FOLDER / name))


def _drivers(path: Path, findings: Findings) -> Dict[Tuple[str, str], str]:
    """Return (class, image) -> driver; note unknown classes, and images of two drivers."""
    if not (path / TABLE).is_file():
        findings.problem('%s is missing' % TABLE)
        return {}
    driver: Dict[Tuple[str, str], str] = {}
    class_of: Dict[str, str] = {}
    try:
        rows = read_table(path / TABLE, COLUMNS)
    except DataError as e:
        findings.problem(str(e))
        rows = []
    for line, row in rows:
        subject, code, name = (row[column] for column in COLUMNS)
        if code not in CODES:
            findings.problem('%s, line %d: class %s is out of range, there are c0 to c9' % (
                TABLE, line, code))
        elif class_of.setdefault(name, code) != code:
            findings.problem('%s, line %d: %s is %s, before it was %s' % (
                TABLE, line, name, code, class_of[name]))
        elif driver.setdefault((code, name), subject) != subject:
            findings.problem('%s, line %d: %s shows %s, before it showed %s' % (
                TABLE, line, name, subject, driver[code, name]))
    return driver


def _leave_out_unnamed(path: Path, named: Dict[Tuple[str, str], str], findings: Findings) -> None:
    for code in CODES:
        unnamed = [n for n in images.files_in(path / FOLDER / code, tuple(images.SUFFIXES))
                   if (code, n) not in named]
        for name in unnamed:
            findings.leave_out(str(FOLDER / code / name), '%s does not name it' % TABLE)


def read(path: Path, options: OpenOptions) -> LabelledSet:
    """
    Open the layout.

    :raises DataError: a missing, empty or unknown class folder, a table that is missing, lacks a
        column or contradicts itself, no such split
    """
    findings = Findings(path)
    part = part_to_read(options, (), True, findings)
    _check_folders(path, findings)
    driver = _drivers(path, findings)
    findings.stop_if_any()
    _leave_out_unnamed(path, driver, findings)
    files = images.FileList(path)
    labels: List[int] = []
    for code, name in driver:
        files.add(str(FOLDER / code), name)
        labels.append(CODES.index(code))
    size = options.size or images.DEFAULT_SIZE
    return finish(Found(NAME, part, InputKind.IMAGE, (*size, 3), ACTIVITIES, files.items(size),
                        labels, list(driver.values()), 'subject'), options, findings)
