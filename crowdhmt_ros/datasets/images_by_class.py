# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Folder of images by class: `DIR/CLASS/*.jpg`, or `DIR/{train,val,test}/CLASS/*.jpg`.

The folder names are the classes, sorted. All splits must have the same ones.
"""
from __future__ import annotations

from pathlib import Path
from typing import Dict, List, Tuple

from crowdhmt_ros.datasets import images
from crowdhmt_ros.datasets.assembling import Found, finish, part_to_read
from crowdhmt_ros.datasets.dataset import InputKind, LabelledSet
from crowdhmt_ros.datasets.findings import Findings
from crowdhmt_ros.datasets.options import OpenOptions

NAME = 'images_by_class'
SPLIT_FOLDERS = {'train': 'train', 'training': 'train', 'val': 'val', 'valid': 'val',
                 'validation': 'val', 'test': 'test', 'testing': 'test'}


def recognises(path: Path) -> bool:
    """Whether a folder has folders, and one of them, or of a split's, an image."""
    if not path.is_dir():
        return False
    splits = _split_folders(path)
    tops = [path / name for name in splits.values()] if splits else [path]
    return any(images.files_in(top / name, tuple(images.SUFFIXES))
               for top in tops for name in images.subfolders(top))


def _split_folders(path: Path) -> Dict[str, str]:
    """Return split -> folder name; none unless every folder is a split, of folders."""
    names = images.subfolders(path)
    if not names or any(name.lower() not in SPLIT_FOLDERS or images.files_in(
            path / name, tuple(images.SUFFIXES)) for name in names):
        return {}
    return {SPLIT_FOLDERS[name.lower()]: name for name in names}


def _classes(path: Path, splits: Dict[str, str], findings: Findings) -> Tuple[str, ...]:
    """Return the classes; note splits that have others."""
    if not splits:
        return tuple(images.subfolders(path))
    per_split = {split: images.subfolders(path / name) for split, name in splits.items()}
    classes = per_split.get('train') or next(iter(per_split.values()))
    for split, names in per_split.items():
        absent = [c for c in classes if c not in names]
        extra = [c for c in names if c not in classes]
        if absent:
            findings.problem('%s misses class %s' % (splits[split], ', '.join(absent)))
        if extra:
            findings.problem('%s has class %s, which the others miss' % (
                splits[split], ', '.join(extra)))
    return tuple(classes)


def read(path: Path, options: OpenOptions) -> LabelledSet:
    """
    Open the layout.

    :raises DataError: no or empty class folders, splits with different classes, no such split
    """
    findings = Findings(path)
    splits = _split_folders(path)
    part = part_to_read(options, tuple(splits), False, findings)
    classes = _classes(path, splits, findings)
    if not classes:
        findings.problem('no class folders; images lie in one folder for each class')
    tops = ['.'] if not splits else \
        [name for split, name in splits.items() if part in ('all', split)]
    files, labels = images.FileList(path), []
    for top in tops:
        for label, name in enumerate(classes):
            labels += [label] * _add_class(files, path, Path(top) / name, findings)
    findings.stop_if_any()
    size = options.size or images.DEFAULT_SIZE
    return finish(Found(NAME, part, InputKind.IMAGE, (*size, 3), classes, files.items(size),
                        labels), options, findings)


def _add_class(files: images.FileList, root: Path, folder: Path, findings: Findings) -> int:
    """Add the images of a class folder and return their number; note an empty one."""
    if not (root / folder).is_dir():
        return 0  # noted as a missing class
    names: List[str] = images.image_names(root / folder, findings)
    for name in names:
        files.add(str(folder), name)
    if not names:
        findings.problem('class folder %s has no images' % folder)
    return len(names)
