# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Which memory mode keeps a budget that the kernel enforces, and what that costs.

The budget is a part of what plain ONNX Runtime grows by, its session made from the path of the
model. A fresh process enters a memory group
(cgroup version 1, made as root) after its imports; what it takes from then on is charged there,
pages of files among it: they are dropped from the page cache before, so that nobody else pays.
Latencies are those of processes that took turns: plain without a limit, twice, then each mode
within it; a pair is of the medians of two processes of one round.
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
from typing import Any, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

import onnxruntime

from benchmarks import parts, timing
from benchmarks._engine_memory import (
    AGAIN,
    CHILD,
    HEAD,
    PLAIN,
    PLANNED,
    STREAMED,
    Said,
    floor_mb,
    network,
)
from benchmarks._engine_memory_child import segment_of
from crowdhmt_ros.cli.figures import HIGHER, LOWER, Figure, claim, inform
from crowdhmt_ros.cli.processes import ProcessError
from crowdhmt_ros.engine.memory.optimised import optimised_graph
from crowdhmt_ros.types import EngineOptions

GROUPS = Path('/sys/fs/cgroup/memory')
SHARES = (0.75, 0.5, 0.25)
MODES = (PLANNED, STREAMED)
VARIANT = 'leaner variant'
TIGHTEST = 'budget_25'
BEYOND = 0.125
SLOWER, NO_SLOWER = 1.6, 1.0
WIDTHS = (56, 48, 40, 32)
"""Of leaner variants of the same network, whose full width is 64; the widest that fits is run."""
OF_THE_PROCESS_BYTES = 8e6
"""What a variant takes beside weights and largest live set, a little more than was measured."""
ANSWERS_DIFFER = 1e-4
RUNS, ROUNDS, MOST_ROUNDS, QUICK_ROUNDS = 15, 6, 12, 1
LONGEST_S = 120.0
"""Of one process: with far too little memory the kernel drops code pages again and again."""
CLAIMS: parts.Claims = {
    **{'budget_%d_held' % round(100 * share): (1.0, HIGHER) for share in SHARES},
    TIGHTEST + '_variant_latency': (NO_SLOWER, LOWER),
    TIGHTEST + '_streamed_latency': (SLOWER, LOWER),
    TIGHTEST + '_answers_differ': (ANSWERS_DIFFER, LOWER)}
Rounds = Dict[str, List[Dict[str, Any]]]


class NoGroupsError(RuntimeError):
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


def figures(quick: bool) -> List[Figure]:
    """
    Measure all figures of this part.

    :raises NoGroupsError: memory groups cannot be made here
    """
    with memory_group(1 << 30):
        pass
    rounds = (QUICK_ROUNDS,) * 2 if quick else (ROUNDS, MOST_ROUNDS)
    with tempfile.TemporaryDirectory(prefix='crowdhmt-budget-') as folder:
        said = network(Path(folder), HEAD)
        whole_mb = _grown(said, PLAIN)['peak_mb']
        found = []
        for share in SHARES:
            tightest = share == min(SHARES)
            limit = int(1e6 * share * whole_mb)
            leaner = _leaner(Path(folder), limit) if tightest else None
            measured = _rounds(said, leaner, limit, rounds if tightest else (QUICK_ROUNDS,) * 2)
            found.append(_held_figure(share, measured, limit))
            if tightest:
                found += _tightest_figures(measured, leaner)
        return [*found, _beyond_figure(said, int(1e6 * BEYOND * whole_mb))]


def _beyond_figure(said: Said, limit_bytes: int) -> Figure:
    """Return what a budget costs in which most weights cannot stay."""
    measured = _rounds(said, None, limit_bytes, (QUICK_ROUNDS,) * 2)
    slower = _slower(measured, STREAMED)
    return inform('budget_12_streamed_latency', None if slower is None else slower.ratio.value,
                  how='%s within %.0f MB: most weights come from the disk at every run; %s' % (
                      HEAD, limit_bytes / 1e6, _said(STREAMED, measured)))


def _grown(said: Said, mode: str) -> Dict[str, Any]:
    found: Dict[str, Any] = timing.in_fresh_process(
        CHILD, {'what': 'growth', 'said': said, 'mode': mode, 'runs': RUNS})
    return found


def held(said: Said, mode: str, limit_bytes: int) -> Dict[str, Any]:
    """Run a mode within a limit; `result` is None where it was killed or did not get through."""
    kept = optimised_graph(segment_of(said), EngineOptions(), str(onnxruntime.__version__))
    for path in (kept.weights_path, said['plain_path']):
        drop_from_cache(path)
    with memory_group(limit_bytes) as group:
        result: Optional[Mapping[str, Any]] = None
        with contextlib.suppress(ProcessError, subprocess.TimeoutExpired):
            result = timing.in_fresh_process(CHILD, {
                'what': 'in_group', 'said': said, 'mode': mode, 'group': str(group),
                'runs': RUNS}, timeout_s=LONGEST_S)
        kills = re.search(r'oom_kill (\d+)', (group / 'memory.oom_control').read_text())
        return {'result': result, 'kills': int(kills.group(1)) if kills else 0,
                'most_mb': int((group / 'memory.max_usage_in_bytes').read_text()) / 1e6,
                'refused': int((group / 'memory.failcnt').read_text())}


def _leaner(folder: Path, limit_bytes: int) -> Said:
    """Return the widest variant whose weights and largest live set fit without streaming."""
    said: Said = {}
    for width in WIDTHS:
        said = network(folder, HEAD, width=width)
        if 1e6 * floor_mb(said) + OF_THE_PROCESS_BYTES <= limit_bytes:
            break
    return said


def _rounds(said: Said, leaner: Optional[Said], limit_bytes: int, rounds: Tuple[int, int]
            ) -> Rounds:
    """
    Let plain without a limit, each mode within it and the leaner variant take turns.

    :param rounds: at least, and at most, until the control is narrow
    """
    def measure() -> List[Dict[str, Dict[str, Any]]]:
        made: Dict[str, Dict[str, Any]] = {
            mode: {'result': _grown(said, PLAIN), 'kills': 0} for mode in (PLAIN, AGAIN)}
        for mode in MODES:
            made[mode] = held(said, mode, limit_bytes)
        if leaner is not None:
            made[VARIANT] = held(leaner, PLANNED, limit_bytes)
        return [made]
    found = timing.gathered(measure, lambda made: _over(made, AGAIN), least=rounds[0],
                            most=rounds[1])
    return {mode: [made[mode] for made in found] for mode in found[0]}


def _over(rounds: Sequence[Mapping[str, Mapping[str, Any]]], mode: str) -> timing.Ratio:
    """Return the median latency of a mode over plain's in the same round."""
    return timing.median_ratio([(r[PLAIN]['result']['median_s'], r[mode]['result']['median_s'])
                                for r in rounds])


def _held_figure(share: float, measured: Rounds, limit_bytes: int) -> Figure:
    """Return whether mode streamed is never killed nor kept waiting by the limit."""
    through = all(_through(run) for run in measured[STREAMED])
    return claim('budget_%d_held' % round(100 * share), float(through), 1.0, better=HIGHER,
                 how='%s within %.0f MB, %.0f %% of what plain ONNX Runtime grows by: %s' % (
                     HEAD, limit_bytes / 1e6, 100 * share,
                     '; '.join(_said(mode, measured) for mode in MODES)))


def _through(run: Mapping[str, Any]) -> bool:
    return run['result'] is not None and not run['kills']


def _tightest_figures(measured: Rounds, leaner: Optional[Said]) -> List[Figure]:
    """Return what the tightest budget costs, with another variant and with the same."""
    differ = max((_difference(run['result'], measured[PLAIN][0]['result'])
                  for run in measured[STREAMED] if _through(run)), default=None)
    plain_s = _times(measured, PLAIN)
    return [
        _latency_claim(TIGHTEST + '_variant_latency', measured, VARIANT,
                       'the variant may change: %s in mode planned; %s' % (
                           (leaner or {}).get('name'), _said(VARIANT, measured))),
        _latency_claim(TIGHTEST + '_streamed_latency', measured, STREAMED,
                       'the same variant streamed; %s; plain without a limit %.1f ms at best, '
                       '%.1f in the median' % (_said(STREAMED, measured), 1e3 * plain_s[0],
                                               1e3 * plain_s[1])),
        claim(TIGHTEST + '_answers_differ', differ, ANSWERS_DIFFER, better=LOWER,
              how='streamed from plain ONNX Runtime, of the largest answer: the engine sums in '
              'another order where it does not pack weights; modes among themselves agree to '
              'the bit (tested)')]


def _latency_claim(key: str, measured: Rounds, mode: str, how: str) -> Figure:
    target, better = CLAIMS[key]
    found = _slower(measured, mode)
    if found is None:
        return claim(key, None, target, better=better, how=how)
    return timing.claim_ratio(key, {'': found}, target, better=better, how=how)


def _difference(ours: Mapping[str, Any], plain: Mapping[str, Any]) -> float:
    largest = max(abs(v) for v in plain['answer'])
    return float(max(abs(a - b) for a, b in zip(ours['answer'], plain['answer'])) / largest)


def _times(measured: Rounds, mode: str) -> Tuple[float, float]:
    """Return the fastest run and the median of the processes' medians."""
    results = [run['result'] for run in measured[mode] if run['result'] is not None]
    if not results:
        return float('nan'), float('nan')
    return (min(r['min_s'] for r in results), statistics.median(r['median_s'] for r in results))


def _slower(measured: Rounds, mode: str) -> Optional[timing.Compared]:
    """Return latency over plain's in the same round; None where it did not get through."""
    if not all(_through(run) for run in measured[mode]):
        return None
    rounds = [dict(zip(measured, runs)) for runs in zip(*measured.values())]
    return timing.Compared(_over(rounds, mode), _over(rounds, AGAIN))


def _said(mode: str, measured: Rounds) -> str:
    runs = measured[mode]
    if not all(_through(run) for run in runs):
        return '%s does not get through' % mode
    fastest, median = (ours / plain for ours, plain in zip(
        _times(measured, mode), _times(measured, PLAIN)))
    return ('%s %.1f MB at most, %.1f MB anonymous, the limit met %d times, %.2f of the latency '
            'at best and %.2f in the median, %d processes' % (
                mode, max(r['most_mb'] for r in runs),
                max(r['result']['anon_mb'] for r in runs), max(r['refused'] for r in runs),
                fastest, median, len(runs)))
