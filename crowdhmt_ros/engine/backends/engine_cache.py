# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Engines that took minutes to build, kept on disk.

A TensorRT engine fits one model, one release of TensorRT, one compute capability and one
precision; the key is made of these, so that nothing that does not fit is ever loaded.
"""
from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import tempfile
import threading
import time
from pathlib import Path
from typing import Callable, Iterator, Optional, Tuple

from crowdhmt_ros.types import Segment

FOLDER = 'engines'
SAY_EVERY_S = 10.0
_log = logging.getLogger(__name__)


def cache_folder(segment: Segment) -> Path:
    """Return where engines of a segment are kept: beside its graph in the cache."""
    return Path(segment.path).parent / FOLDER


def cache_key(model_sha256: str, engine_version: str, compute_capability: Tuple[int, int],
              precision: str) -> str:
    """
    Return the name of an engine in the cache.

    :param model_sha256: of graph and weights, see `model_sha256`
    :param engine_version: release of TensorRT
    :param compute_capability: (major, minor) of the graphics processor
    """
    parts = (model_sha256, engine_version, '%d.%d' % compute_capability, precision)
    return hashlib.sha256('\n'.join(parts).encode()).hexdigest()[:32]


def model_sha256(segment: Segment) -> str:
    """
    Return what names a segment's graph and weights.

    The weights lie in a folder that is named by the bundle's digest: folder name and the digest
    of the weightless graph name both. Size and time of the graph's file catch what was replaced
    by hand.
    """
    stat = os.stat(segment.path)
    parts = (segment.sha256, Path(segment.path).parent.name, str(stat.st_size),
             str(stat.st_mtime_ns))
    return hashlib.sha256('\n'.join(parts).encode()).hexdigest()


def load(path: Path) -> Optional[bytes]:
    """Return a kept engine, None where there is none that can be read."""
    try:
        return path.read_bytes() or None
    except FileNotFoundError:
        return None
    except OSError as error:
        _log.warning('%s cannot be read (%s), the engine is built again', path,
                     error.strerror or error)
        return None


def keep(path: Path, content: bytes) -> None:
    """Keep an engine; where that is not possible say so and go on."""
    name = ''
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix='.new-', dir=str(path.parent))
        with os.fdopen(descriptor, 'wb') as stream:
            stream.write(content)
        os.replace(name, str(path))
    except OSError as error:
        with contextlib.suppress(OSError):
            os.unlink(name)
        _log.warning('the engine cannot be kept in %s (%s): it is built again at each start',
                     path.parent, error.strerror or error)


@contextlib.contextmanager
def building(what: str, *, say: Callable[[str], None] = _log.info,
             every_s: float = SAY_EVERY_S) -> Iterator[None]:
    """
    Say that a long build goes on, and how long it took.

    :param what: for people
    :param say: told at the start, then every `every_s`, then at the end
    """
    began_s = time.monotonic()
    done = threading.Event()

    def speak() -> None:
        while not done.wait(every_s):
            say('still building %s, %.0f s so far' % (what, time.monotonic() - began_s))

    say('building %s: this may take minutes and is done once' % what)
    speaker = threading.Thread(target=speak, name='engine-progress', daemon=True)
    speaker.start()
    try:
        yield
    finally:
        done.set()
        speaker.join()
    say('%s is built, %.0f s' % (what, time.monotonic() - began_s))
