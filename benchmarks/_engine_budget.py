# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Which memory mode keeps a budget that the kernel enforces.

The budget is a part of what plain ONNX Runtime grows by. A fresh process enters a memory group
(cgroup version 1, made as root) after its imports; what it takes from then on is charged there,
pages of files among it: they are dropped from the page cache before, so that nobody else pays.
"""
from __future__ import annotations

import contextlib
import os
import re
import statistics
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, Optional

import onnxruntime

from benchmarks import timing
from benchmarks._engine_memory import CHILD, MAPPED, PLAIN, PLANNED, STREAMED, Said
from benchmarks._engine_memory_child import segment_of
from crowdhmt_ros.cli.figures import HIGHER, LOWER, Figure, claim
from crowdhmt_ros.cli.processes import ProcessError
from crowdhmt_ros.engine.memory.optimised import optimised_graph
from crowdhmt_ros.types import EngineOptions

GROUPS = Path('/sys/fs/cgroup/memory')
SHARES = (0.75, 0.5, 0.25)
MODES = (MAPPED, PLANNED, STREAMED)
SLOWER = 1.6
LONGEST_S = 120.0
"""Of one process: with far too little memory the kernel drops code pages again and again."""


class NoGroupsError(Exception):
    """Memory groups cannot be made here."""


@contextlib.contextmanager
def memory_group(limit_bytes: int) -> Iterator[Path]:
    """
    Make a memory group with a limit and take it away again.

    :raises NoGroupsError: not root, or no cgroup version 1
    """
    try:
        group = Path(tempfile.mkdtemp(prefix='crowdhmt-', dir=GROUPS))
        (group / 'memory.limit_in_bytes').write_text(str(limit_bytes))
    except OSError as error:
        raise NoGroupsError('%s: %s; run as root where cgroup version 1 is mounted' % (
            GROUPS, error.strerror or error)) from error
    try:
        yield group
    finally:
        for _ in range(50):  # a process that was killed leaves a moment later
            try:
                group.rmdir()
                break
            except OSError:
                time.sleep(0.1)


def drop_from_cache(path: str) -> None:
    """Drop a file's pages from the page cache: who reads it next is charged."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)


def held(said: Said, mode: str, limit_bytes: int) -> Dict[str, Any]:
    """Run a mode within a limit; `result` is None where it was killed or did not get through."""
    kept = optimised_graph(segment_of(said), EngineOptions(), str(onnxruntime.__version__))
    for path in (kept.weights_path, said['plain_path']):
        drop_from_cache(path)
    with memory_group(limit_bytes) as group:
        result: Optional[Mapping[str, Any]] = None
        with contextlib.suppress(ProcessError, subprocess.TimeoutExpired):
            result = timing.in_fresh_process(CHILD, {
                'what': 'in_group', 'said': said, 'mode': mode, 'group': str(group)},
                timeout_s=LONGEST_S)
        kills = re.search(r'oom_kill (\d+)', (group / 'memory.oom_control').read_text())
        return {'result': result, 'kills': int(kills.group(1)) if kills else 0,
                'most_mb': int((group / 'memory.max_usage_in_bytes').read_text()) / 1e6}


def budget_figures(said: Said, *, quick: bool) -> List[Figure]:
    """
    Return for each budget whether a mode holds it, and what the smallest costs.

    :raises NoGroupsError: memory groups cannot be made here
    """
    rounds = 1 if quick else 3
    plain = [timing.in_fresh_process(CHILD, {'what': 'growth', 'said': said, 'mode': PLAIN})
             for _ in range(rounds)]
    whole_mb = statistics.median(p['peak_mb'] for p in plain)
    latency_s = min(p['min_s'] for p in plain)
    return [figure for share in SHARES
            for figure in _figures_of(said, share, share * whole_mb, latency_s, rounds)]


def _figures_of(said: Said, share: float, limit_mb: float, plain_s: float, rounds: int
                ) -> List[Figure]:
    key = 'budget_%d' % round(100 * share)
    control = held(said, PLAIN, int(1e6 * limit_mb))
    kept: Dict[str, List[Dict[str, Any]]] = {
        mode: [held(said, mode, int(1e6 * limit_mb)) for _ in range(rounds)] for mode in MODES}
    alive = {mode: min(r['result']['min_s'] for r in runs) for mode, runs in kept.items()
             if all(r['result'] is not None and not r['kills'] for r in runs)}
    how = '%s within %.0f MB: %s; plain ONNX Runtime %s' % (
        said['name'], limit_mb, '; '.join(_said(m, r, plain_s) for m, r in kept.items()),
        'lives as well' if control['result'] else 'does not get through')
    best = min(alive.values()) / plain_s if alive else None
    return [claim(key + '_held', float(bool(alive)), 1.0, better=HIGHER, how=how),
            claim(key + '_latency', best, SLOWER, better=LOWER,
                  how='the fastest mode that is not killed, over plain without a limit')]


def _said(mode: str, runs: List[Dict[str, Any]], plain_s: float) -> str:
    done = [r['result'] for r in runs if r['result'] is not None and not r['kills']]
    if len(done) < len(runs):
        return '%s does not get through' % mode
    return '%s %.1f MB at most, %.1f MB anonymous, %.2f of the latency' % (
        mode, max(r['most_mb'] for r in runs), max(d['anon_mb'] for d in done),
        min(d['min_s'] for d in done) / plain_s)
