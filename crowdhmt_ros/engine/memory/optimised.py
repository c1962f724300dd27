# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Graphs as the engine rewrites them for this processor, kept on disk with their weights beside.

Rewriting once and mapping the result makes a session from a file in milliseconds, leaves its
weights in clean pages of that file, which all processes share, and takes none of the memory that
rewriting takes: that is done in a process of its own. What is kept fits one graph, one release of
the engine, one instruction set and one set of options; anything else is made again. Files appear
by renaming their folder, so that two processes may make them at once. What a process that was
killed has left behind goes when the next one comes.
"""
from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import logging
import os
import platform
import subprocess
import sys
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, Optional

from crowdhmt_ros.engine.memory.own_folder import own_folder, sweep
from crowdhmt_ros.engine.memory.room import CHILD_BYTES, RoomError, free_bytes
from crowdhmt_ros.engine.memory.wire import read_wire
from crowdhmt_ros.errors import BackendError
from crowdhmt_ros.types import EngineOptions, Segment, TensorSpec

FOLDER = 'optimised'
GRAPH_NAME, WEIGHTS_NAME, STAMP_NAME = 'graph.onnx', 'rewritten.bin', 'complete.json'
OWN, NEW = '.own-', '.new-'
"""Begin the names of folders of one process: with second names of a graph, and half made."""
LONGEST_S = 600.0
REWRITING_TIMES_WEIGHTS = 4
"""What rewriting takes, over the weights: 3.9 with ResNet18 and ONNX Runtime 1.31."""
_CPU_FLAGS = ('flags', 'features')
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Optimised:
    """
    A graph as the engine rewrote it.

    :param graph_path: ONNX file, to be run without any further rewriting
    :param weights_path: its weights
    :param tensors: every tensor between operators, empty where a shape hangs on the data
    """

    graph_path: str
    weights_path: str
    tensors: Mapping[str, TensorSpec]


def optimised_graph(segment: Segment, options: EngineOptions, engine_version: str) -> Optimised:
    """
    Return the rewritten graph of a segment, made now unless a fresh one is kept.

    :param engine_version: release of the engine; another one rewrites otherwise
    :raises RoomError: it has to be made, and there is too little memory for that now
    :raises BackendError: the graph cannot be rewritten, or the cache cannot be written
    """
    key = cache_key(segment.sha256, engine_version, instruction_set(), options)
    folder = Path(segment.path).parent / FOLDER / key
    try:
        sweep(folder.parent, OWN, NEW)
        kept = _kept(segment, folder)
        if kept is not None:
            return kept
        with _lock(folder):
            return _kept(segment, folder) or _make(segment, folder)
    except OSError as error:
        raise BackendError('the rewritten graph of %s cannot be kept in %s (%s): make room there '
                           'or mend its permissions' % (segment.segment_id, folder.parent,
                                                        error.strerror or error)) from error


def rewriting_bytes(segment: Segment) -> int:
    """Return what rewriting a graph takes of memory, in a process of its own, about."""
    return CHILD_BYTES + REWRITING_TIMES_WEIGHTS * segment.weight_bytes


def kept_graph(segment: Segment, options: EngineOptions, engine_version: str
               ) -> Optional[Optimised]:
    """Return the rewritten graph of a segment if a fresh one is kept; nothing is made."""
    key = cache_key(segment.sha256, engine_version, instruction_set(), options)
    return _kept(segment, Path(segment.path).parent / FOLDER / key)


@contextlib.contextmanager
def linked(kept: Optimised) -> Iterator[Optional[Optimised]]:
    """
    Lend a kept graph under file names that nobody else has, for as long as sessions are made.

    The kernel tells by which name a file was mapped. Other executables of the process map the
    same weights, and end at any time; by these names their memory is told from one's own. It
    is the same file: pages are shared, and a cache that is replaced meanwhile changes nothing.

    :returns: None where no such names can be given, with a warning
    """
    with contextlib.ExitStack() as stack:
        own: Optional[Optimised] = None
        try:
            paths = [Path(kept.graph_path), Path(kept.weights_path)]
            folder = stack.enter_context(own_folder(paths[0].parents[1], OWN))
            for path in paths:
                os.link(str(path), str(folder / path.name))
            own = replace(kept, graph_path=str(folder / GRAPH_NAME),
                          weights_path=str(folder / WEIGHTS_NAME))
        except OSError as error:
            _log.warning('%s can have no second name (%s): its weights stay in memory; keep the '
                         'cache on a file system with hard links that this user may write',
                         kept.weights_path, error.strerror or error)
        yield own


def cache_key(graph_sha256: str, engine_version: str, instructions: str,
              options: EngineOptions) -> str:
    """
    Return the name of a rewritten graph in the cache.

    :param instructions: see `instruction_set`
    :param options: of which only those count that change what is rewritten
    """
    parts = (graph_sha256, engine_version, instructions, options.backend, options.precision,
             options.fusion_set)
    return hashlib.sha256('\n'.join(parts).encode()).hexdigest()[:32]


@lru_cache(maxsize=1)
def instruction_set() -> str:
    """Return what this processor can do: layouts that suit one may not even run on another."""
    words: List[str] = []
    with contextlib.suppress(OSError):
        for line in Path('/proc/cpuinfo').read_text(errors='replace').splitlines():
            name, _, value = line.partition(':')
            if name.strip().lower() in _CPU_FLAGS:
                words = sorted(value.split())
                break
    return ' '.join([platform.machine(), *words])


def _kept(segment: Segment, folder: Path) -> Optional[Optimised]:
    """Return what is kept if it is whole and of these very files, None otherwise."""
    try:
        stamp = json.loads((folder / STAMP_NAME).read_bytes())
        # Its graph is not read for the names of its weight files: the same graph names the same.
        source = Path(segment.path).parent
        fresh = (Path(segment.path).name in stamp['source']
                 and stamp['source'] == _marks(*(source / name for name in stamp['source']))
                 and stamp['files'] == _marks(folder / GRAPH_NAME, folder / WEIGHTS_NAME))
        return _optimised(folder, stamp['tensors']) if fresh else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _optimised(folder: Path, tensors: Mapping[str, Any]) -> Optimised:
    return Optimised(str(folder / GRAPH_NAME), str(folder / WEIGHTS_NAME),
                     {name: TensorSpec(name, dtype, tuple(shape))
                      for name, (dtype, shape) in tensors.items()})


def _source_marks(segment: Segment) -> Dict[str, List[int]]:
    """Return size and time of the segment's files; whoever replaces one changes its time."""
    path = Path(segment.path)
    beside = sorted({place.location for place in read_wire(path).places.values()})
    try:
        return _marks(path, *(path.parent / name for name in beside))
    except OSError as error:
        raise BackendError('the weights of %s cannot be read (%s): materialise the bundle again'
                           % (segment.segment_id, error)) from error


def _marks(*paths: Path) -> Dict[str, List[int]]:
    marks = {}
    for path in paths:
        status = path.stat()
        marks[path.name] = [status.st_size, status.st_mtime_ns]
    return marks


@contextlib.contextmanager
def _lock(folder: Path) -> Iterator[None]:
    """Let one process at a time make this graph; the others then find it."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with open(str(folder) + '.lock', 'w') as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def _make(segment: Segment, folder: Path) -> Optimised:
    """Make the graph beside its place and move it there whole; the lock is held."""
    needed, free = rewriting_bytes(segment), free_bytes()
    if needed > free:
        raise RoomError('rewriting %s for this processor takes about %d MB of memory and %d are '
                        'left: make room, or choose memory mode fast or lean' % (
                            segment.segment_id, needed >> 20, free >> 20))
    _log.info('rewriting %s for this processor', segment.segment_id)
    source = _source_marks(segment)
    with own_folder(folder.parent, NEW) as new:
        tensors = _rewritten(segment, new)
        stamp = {'source': source, 'tensors': tensors,
                 'files': _marks(new / GRAPH_NAME, new / WEIGHTS_NAME)}
        (new / STAMP_NAME).write_text(json.dumps(stamp))
        _replace(new, folder)
    return _optimised(folder, tensors)


def _replace(new: Path, folder: Path) -> None:
    """Put a folder in the place of another; who mapped the old files keeps them."""
    if folder.exists():
        with own_folder(folder.parent, NEW) as old:
            os.rename(str(folder), str(old / 'old'))
    os.chmod(str(new), 0o755)  # mkdtemp's folders are for their maker alone
    os.rename(str(new), str(folder))


def _rewritten(segment: Segment, folder: Path) -> Mapping[str, Any]:
    """Let a fresh process rewrite: what it takes for that is given back when it ends."""
    root = str(Path(__file__).resolve().parents[3])
    paths = [root] + [p for p in (os.environ.get('PYTHONPATH'),) if p]
    request = json.dumps({'graph': str(Path(segment.path).absolute()), 'folder': str(folder)})
    try:
        done = subprocess.run(
            [sys.executable, '-m', 'crowdhmt_ros.engine.memory.rewrite_child', request],
            capture_output=True, timeout=LONGEST_S, check=False,
            env=dict(os.environ, PYTHONPATH=os.pathsep.join(paths)))
    except subprocess.TimeoutExpired as error:
        raise BackendError('rewriting %s for this processor took more than %.0f s' % (
            segment.segment_id, LONGEST_S)) from error
    if done.returncode:
        said = done.stderr.decode(errors='replace').strip().splitlines() or ['nothing said']
        raise BackendError('%s cannot be rewritten for this processor: %.300s' % (
            segment.segment_id, said[-1]))
    found: Mapping[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found
