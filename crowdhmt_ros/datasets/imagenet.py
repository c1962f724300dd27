# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
ImageNet (ILSVRC 2012): `train/nXXXXXXXX/*.JPEG`, `val/` by folder or flat with a list.

The classes are the synsets of `train/`, sorted, which is the usual order of the 1000 outputs;
their names come from `LOC_synset_mapping.txt` where it is. What says the classes of a flat
`val/`, in the order in which it is looked for:

- `LOC_val_solution.csv`: `ImageId,PredictionString`, the string beginning with a synset;
- `val.txt`: `FILE LABEL` in each line, the label a synset or a position from 0 in the sorted
  synsets;
- `imagenet_2012_validation_synset_labels.txt`: a synset in each line, in the order of the files;
- `ILSVRC2012_validation_ground_truth.txt`: a number from 1 in each line, in the order of the
  files. It counts in the development kit's own order, not the sorted one, so `synsets.txt` must
  list the synsets in that order.
"""
from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Dict, List, Sequence, Tuple

from crowdhmt_ros.datasets import images
from crowdhmt_ros.datasets.assembling import Found, finish, part_to_read
from crowdhmt_ros.datasets.dataset import InputKind, LabelledSet
from crowdhmt_ros.datasets.findings import Findings
from crowdhmt_ros.datasets.options import OpenOptions
from crowdhmt_ros.datasets.tables import read_lines, read_table

NAME = 'imagenet'
SYNSET = re.compile(r'n\d{8}')
MAPPING = 'LOC_synset_mapping.txt'
SOLUTION = 'LOC_val_solution.csv'
PAIRS = 'val.txt'
SYNSETS_BY_FILE = 'imagenet_2012_validation_synset_labels.txt'
NUMBERS_BY_FILE = 'ILSVRC2012_validation_ground_truth.txt'
CLASS_LIST = 'synsets.txt'
INSIDE = Path('ILSVRC', 'Data', 'CLS-LOC')
NO_LIST = ('val is flat and nothing says its classes: put %s, %s, %s, or %s with %s beside it'
           % (SOLUTION, PAIRS, SYNSETS_BY_FILE, NUMBERS_BY_FILE, CLASS_LIST))


def _images_root(path: Path) -> Path:
    return path / INSIDE if (path / INSIDE).is_dir() else path


def recognises(path: Path) -> bool:
    """Whether a folder has the synset list, or a train or val folder with synset folders."""
    if not path.is_dir():
        return False
    root = _images_root(path)
    return (path / MAPPING).is_file() or any(
        SYNSET.fullmatch(name) for part in ('train', 'val') if (root / part).is_dir()
        for name in images.subfolders(root / part))


def _beside(path: Path, name: str) -> Path:
    """Return where a list lies: at the top, with the images, or in the development kit."""
    root = _images_root(path)
    places = (path, root, root / 'val', path / 'devkit' / 'data',
              path / 'ILSVRC2012_devkit_t12' / 'data')
    return next((place / name for place in places if (place / name).is_file()), path / name)


def _synsets(path: Path, root: Path, findings: Findings) -> Tuple[str, ...]:
    """Return the sorted synsets: of train/, otherwise of the list, otherwise of val/."""
    for folder in (root / 'train', root / 'val'):
        names = images.subfolders(folder) if folder.is_dir() else []
        strange = [name for name in names if not SYNSET.fullmatch(name)]
        if strange:
            findings.problem('%s has folders that are no synsets: %s' % (
                folder.name, ', '.join(strange[:5])))
        if names:
            return tuple(name for name in names if SYNSET.fullmatch(name))
        if _beside(path, MAPPING).is_file():
            return tuple(sorted(_names(path)))
    findings.problem('neither train nor val has synset folders (nXXXXXXXX), and there is no %s'
                     % MAPPING)
    findings.stop_if_any()
    return ()


def _names(path: Path) -> Dict[str, str]:
    """Return synset -> first of its names; none without the list."""
    mapping = _beside(path, MAPPING)
    lines = read_lines(mapping) if mapping.is_file() else []
    pairs = (line.partition(' ') for line in lines if line)
    return {synset: rest.split(',')[0].strip() for synset, _, rest in pairs}


def _classes(synsets: Sequence[str], names: Dict[str, str]) -> Tuple[str, ...]:
    """Return the classes' names; the synset too where two share a name (crane, maillot)."""
    told = [names.get(s) or s for s in synsets]
    return tuple(name if told.count(name) == 1 else '%s (%s)' % (name, s)
                 for s, name in zip(synsets, told))


def _add_folders(files: images.FileList, part: str, synsets: Sequence[str], findings: Findings
                 ) -> List[int]:
    """Add the images of synset folders and return their labels."""
    labels: List[int] = []
    for label, synset in enumerate(synsets):
        folder = files.root / part / synset
        if not folder.is_dir():
            findings.problem('%s misses class %s' % (part, synset))
            continue
        found = images.files_in(folder, tuple(images.SUFFIXES))
        if not found:
            findings.problem('class folder %s/%s has no images' % (part, synset))
        for name in found:
            files.add(os.path.join(part, synset), name)
        labels += [label] * len(found)
    return labels


def _label(word: str, order: Sequence[str], first: int, label_of: Dict[str, int]) -> int:
    """Return what a word names: a synset, or a position in an order from `first`; -1: none."""
    if word.isdigit() and 0 <= int(word) - first < len(order):
        return label_of[order[int(word) - first]]
    return label_of.get(word, -1)


def _by_order(path: Path, name: str, count: int, findings: Findings) -> List[str]:
    """Return the words of a list that has one for each validation image."""
    words = read_lines(_beside(path, name))
    if len(words) != count:
        findings.problem('%s has %d lines for %d images in val' % (name, len(words), count))
    return words


def _flat_words(path: Path, files: Sequence[str], findings: Findings
                ) -> Tuple[str, Dict[str, str], int]:
    """Return which list says the classes, file -> word, and what its numbers begin with."""
    if _beside(path, SOLUTION).is_file():
        rows = read_table(_beside(path, SOLUTION), ('ImageId', 'PredictionString'))
        stems = {os.path.splitext(name)[0]: name for name in files}
        return SOLUTION, {stems.get(row['ImageId'], row['ImageId']):
                          row['PredictionString'].split()[0] for _, row in rows}, 0
    if _beside(path, PAIRS).is_file():
        lines = [line.split() for line in read_lines(_beside(path, PAIRS)) if line]
        return PAIRS, {os.path.basename(words[0]): words[-1] for words in lines}, 0
    for name in (SYNSETS_BY_FILE, NUMBERS_BY_FILE):
        if _beside(path, name).is_file():
            return name, dict(zip(files, _by_order(path, name, len(files), findings))), 1
    findings.problem(NO_LIST)
    findings.stop_if_any()
    return '', {}, 0


def _add_flat(files: images.FileList, path: Path, synsets: Sequence[str], findings: Findings
              ) -> List[int]:
    """Add the images of a flat val folder and return their labels."""
    names = images.files_in(files.root / 'val', tuple(images.SUFFIXES))
    listed, words, first = _flat_words(path, names, findings)
    order = tuple(synsets)
    if listed == NUMBERS_BY_FILE:
        class_list = _beside(path, CLASS_LIST)
        if not class_list.is_file():
            findings.problem("%s counts in the development kit's own order: put %s beside it, the "
                             'synsets in that order, or use %s' % (listed, CLASS_LIST, SOLUTION))
            findings.stop_if_any()
        order = tuple(line.split()[0] for line in read_lines(class_list) if line)
        if sorted(order) != sorted(synsets):
            findings.problem('%s does not list the %d synsets' % (CLASS_LIST, len(synsets)))
            findings.stop_if_any()
    label_of = {synset: k for k, synset in enumerate(synsets)}
    labels = []
    for name in names:
        if name not in words:
            findings.leave_out('val/' + name, '%s does not name it' % listed)
            continue
        label = _label(words[name], order, first, label_of)
        if label < 0:
            findings.problem('%s: label %s of %s is out of range' % (listed, words[name], name))
        files.add('val', name)
        labels.append(max(0, label))
    known = set(names)
    for name in words:
        if name not in known:
            findings.leave_out('val/' + name, '%s names it and it is not there' % listed)
    return labels


def read(path: Path, options: OpenOptions) -> LabelledSet:
    """
    Open the layout; nothing but names is held in memory.

    :raises DataError: missing or empty class folders, a flat val that no list explains, labels
        beyond the synsets, no such split
    """
    findings = Findings(path)
    root = _images_root(path)
    own = tuple(part for part in ('train', 'val') if (root / part).is_dir())
    part = part_to_read(options, own, False, findings)
    synsets = _synsets(path, root, findings)
    files, labels = images.FileList(root), []
    for folder in own:
        if part not in ('all', folder):
            continue
        if folder == 'val' and not images.subfolders(root / 'val'):
            labels += _add_flat(files, path, synsets, findings)
        else:
            labels += _add_folders(files, folder, synsets, findings)
    findings.stop_if_any()
    size = options.size or images.DEFAULT_SIZE
    return finish(Found(NAME, part, InputKind.IMAGE, (*size, 3), _classes(synsets, _names(path)),
                        files.items(size), labels), options, findings)
