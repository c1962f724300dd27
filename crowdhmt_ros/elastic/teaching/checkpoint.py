# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Checkpoints: written whole or not at all, read without running code.

A file is written beside the old one, flushed to the disk and renamed over it; whatever moment a
process is killed at, one whole checkpoint is there. It holds tensors, numbers and texts only.
"""
from __future__ import annotations

import os
import pickle
import zipfile
from pathlib import Path
from typing import Any, Dict, List, Mapping

import torch

from crowdhmt_ros.errors import DataError

FORMAT = 1


def write(path: Path, state: Mapping[str, Any]) -> None:
    """
    Write a checkpoint.

    :param state: tensors, numbers, texts, and lists and mappings of them
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(path.name + '.part')
    with beside.open('wb') as file:
        torch.save({'format': FORMAT, **state}, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(beside, path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def read(path: Path, identity: Mapping[str, str]) -> Dict[str, Any]:
    """
    Read a checkpoint.

    :param path: a file that `write` wrote
    :param identity: what it must have been written with
    :raises DataError: it is damaged, or belongs to another training
    """
    try:
        state = torch.load(path, map_location='cpu', weights_only=True)
        found = dict(state['identity'])
    except (OSError, EOFError, RuntimeError, ValueError, LookupError, TypeError, AttributeError,
            pickle.UnpicklingError, zipfile.BadZipFile) as error:
        raise DataError('checkpoint %s cannot be read (%s); delete it to start anew' % (
            path, (str(error).strip().splitlines() or [type(error).__name__])[0][:120])
            ) from error
    differing = differences(found, identity)
    if state.get('format') != FORMAT:
        differing.insert(0, 'version of this program')
    if differing:
        raise DataError('checkpoint %s was written with another %s; name another checkpoint, or '
                        'train as it was' % (path, ' and another '.join(differing)))
    return dict(state)


def differences(found: Mapping[str, str], wanted: Mapping[str, str]) -> List[str]:
    """Name what two identities differ in."""
    return [name for name in wanted if found.get(name) != wanted[name]]
