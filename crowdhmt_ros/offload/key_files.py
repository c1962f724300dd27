# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Files that only their owner may read or write, refused when they are looser than that."""
from __future__ import annotations

import os
import shlex
import stat
from pathlib import Path

from crowdhmt_ros.errors import TrustError

OTHERS_ANY, OTHERS_WRITE = 0o077, 0o022
FOLDER_MODE, FILE_MODE = 0o700, 0o600
FILE_MAX_BYTES = 4096


def refuse_loose(path: Path, forbidden: int, mode: int) -> None:
    """
    Check owner and permissions.

    :param forbidden: permission bits that must not be set
    :param mode: to be named in the line that mends it
    :raises TrustError: when others may do what they must not
    """
    found = path.stat()
    if found.st_uid not in (os.geteuid(), 0):
        raise TrustError('%s belongs to another user: use a folder of your own, or run chown %d %s'
                         % (path, os.geteuid(), shlex.quote(str(path))))
    if stat.S_IMODE(found.st_mode) & forbidden:
        raise TrustError('%s is open to other users (%03o): run chmod %03o %s' % (
            path, stat.S_IMODE(found.st_mode), mode, shlex.quote(str(path))))


def check_folder(folder: Path) -> None:
    """
    Check that a folder is there and its owner's alone.

    :raises TrustError: with the line that mends it
    """
    try:
        if not folder.is_dir():
            raise TrustError('%s is no folder of keys: make one with crowdhmt keys make --dir %s'
                             % (folder, shlex.quote(str(folder))))
        refuse_loose(folder, OTHERS_ANY, FOLDER_MODE)
    except OSError as error:
        raise unusable(folder, error) from error


def make_folder(folder: Path) -> None:
    """
    Make a folder for its owner alone, with those above it; one that is there is checked.

    :raises TrustError: when it cannot be made, or is open to others
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=FOLDER_MODE, exist_ok=True)
    except OSError as error:
        raise unusable(folder, error) from error
    check_folder(folder)


def read_checked(path: Path, *, secret: bool) -> str:
    """
    Read a short text file that others cannot have changed (nor read, when it is secret).

    :raises TrustError: when it is open to others, not there, or not such a file
    """
    try:
        refuse_loose(path, OTHERS_ANY if secret else OTHERS_WRITE, FILE_MODE)
        with path.open('rb') as file:
            content = file.read(FILE_MAX_BYTES + 1)
        if len(content) > FILE_MAX_BYTES:
            raise TrustError('%s is too large for a key: remove it' % path)
        return content.decode('ascii')
    except OSError as error:
        raise unusable(path, error) from error
    except UnicodeDecodeError as error:
        raise TrustError('%s holds no key: remove it' % path) from error


def write_private(path: Path, text: str) -> None:
    """
    Write a file for its owner alone; it is there as a whole or not at all.

    :raises TrustError: when it cannot be written
    """
    half = path.with_name('%s.%d.part' % (path.name, os.getpid()))
    try:
        if half.exists():
            half.unlink()
        handle = os.open(str(half), os.O_WRONLY | os.O_CREAT | os.O_EXCL, FILE_MODE)
        with os.fdopen(handle, 'w', encoding='ascii') as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(str(half), str(path))
    except OSError as error:
        raise unusable(path, error) from error
    finally:
        if half.exists():
            half.unlink()


def unusable(path: Path, error: OSError) -> TrustError:
    """Return the error for a file that the system refuses."""
    return TrustError('%s cannot be used (%s): name another folder with --dir or the parameter '
                      'keys_dir' % (path, error.strerror or error))
