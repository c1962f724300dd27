# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Which memory mode keeps a budget that the kernel enforces, and what that costs.

The budget is a part of what plain ONNX Runtime grows by, its session made from the path of the
model. A fresh process enters a memory group
(cgroup version 1, made as root) after its imports; what it takes from then on is charged there,
pages of files among it: they are dropped from the page cache before, so that nobody else pays.
What maps the same weights runs alone, so that each pays for its own pages; then plain without a
limit, twice, mode streamed and the leaner variant within it stay loaded and take turns.
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
from typing import Any, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple, Union

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
from benchmarks.lanes import Lane, turns
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
RUNS, TURNS, TURN_RUNS = 15, 40, 6
SETS, MOST_SETS, QUICK_SETS = 5, 14, 1
LONGEST_S = 120.0
"""Of one process: with far too little memory the kernel drops code pages again and again."""
CLAIMS: parts.Claims = {
    **{'budget_%d_held' % round(100 * share): (1.0, HIGHER) for share in SHARES},
    TIGHTEST + '_variant_latency': (NO_SLOWER, LOWER),
    TIGHTEST + '_streamed_latency': (SLOWER, LOWER),
    TIGHTEST + '_answers_differ': (ANSWERS_DIFFER, LOWER)}
Sets = List[Dict[str, Dict[str, Any]]]
"""By set of processes: title -> what one took, and the median seconds of its turns."""


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
    sets = (QUICK_SETS,) * 2 if quick else (SETS, MOST_SETS)
    with tempfile.TemporaryDirectory(prefix='crowdhmt-budget-') as folder:
        said = network(Path(folder), HEAD)
        whole_mb = _grown(said, PLAIN)['peak_mb']
        found = []
        for share in SHARES:
            tightest = share == min(SHARES)
            limit = int(1e6 * share * whole_mb)
            leaner = _leaner(Path(folder), limit) if tightest else None
            measured = _sets(said, leaner, limit, sets if tightest else (QUICK_SETS,) * 2)
            found.append(_held_figure(share, measured, limit))
            if tightest:
                found += _tightest_figures(measured, leaner)
        return [*found, _beyond_figure(said, int(1e6 * BEYOND * whole_mb))]


def _beyond_figure(said: Said, limit_bytes: int) -> Figure:
    """Return what a budget costs in which most weights cannot stay."""
    measured = _sets(said, None, limit_bytes, (QUICK_SETS,) * 2)
    slower = _slower(measured, STREAMED)
    return inform('budget_12_streamed_latency', None if slower is None else slower.ratio.value,
                  how='%s within %.0f MB: most weights come from the disk at every run; %s' % (
                      HEAD, limit_bytes / 1e6, _said(STREAMED, measured)))


def _grown(said: Said, mode: str) -> Dict[str, Any]:
    found: Dict[str, Any] = timing.in_fresh_process(CHILD, _request(said, mode))
    return found


def held(said: Said, mode: str, limit_bytes: int) -> Dict[str, Any]:
    """Run a mode within a limit; `result` is None where it was killed or did not get through."""
    with _limited(said, limit_bytes) as (group, run), \
            contextlib.suppress(ProcessError, subprocess.TimeoutExpired):
        run['result'] = timing.in_fresh_process(
            CHILD, _request(said, mode, group), timeout_s=LONGEST_S)
    return run


@contextlib.contextmanager
def _limited(said: Said, limit_bytes: int) -> Iterator[Tuple[Path, Dict[str, Any]]]:
    """Give a memory group, and what is to be told of a run within it when that is over."""
    kept = optimised_graph(segment_of(said), EngineOptions(), str(onnxruntime.__version__))
    for path in (kept.weights_path, said['plain_path']):
        drop_from_cache(path)
    run: Dict[str, Any] = {'result': None}
    with memory_group(limit_bytes) as group:
        yield group, run
        kills = re.search(r'oom_kill (\d+)', (group / 'memory.oom_control').read_text())
        run.update(
            kills=int(kills.group(1)) if kills else 0,
            most_mb=int((group / 'memory.max_usage_in_bytes').read_text()) / 1e6,
            refused=int((group / 'memory.failcnt').read_text()))


def _request(said: Said, mode: str, group: Union[Path, str] = '') -> Dict[str, Any]:
    return {'what': 'in_turns', 'said': said, 'mode': mode, 'group': str(group), 'runs': RUNS}


def _leaner(folder: Path, limit_bytes: int) -> Said:
    """Return the widest variant whose weights and largest live set fit without streaming."""
    said: Said = {}
    for width in WIDTHS:
        said = network(folder, HEAD, width=width)
        if 1e6 * floor_mb(said) + OF_THE_PROCESS_BYTES <= limit_bytes:
            break
    return said


def _sets(said: Said, leaner: Optional[Said], limit_bytes: int, sets: Tuple[int, int]) -> Sets:
    """
    Measure sets of fresh processes.

    :param sets: at least, and at most, until the control is narrow
    """
    return timing.gathered(lambda: [_set(said, leaner, limit_bytes)],
                           lambda found: _over(found, AGAIN), least=sets[0], most=sets[1])


def _set(said: Said, leaner: Optional[Said], limit_bytes: int) -> Dict[str, Dict[str, Any]]:
    """Let what keeps the limit take turns with plain, behind what maps the same weights."""
    made = {PLANNED: held(said, PLANNED, limit_bytes)}
    within = {STREAMED: (said, STREAMED), **({} if leaner is None else {
        VARIANT: (leaner, PLANNED)})}
    with contextlib.ExitStack() as stack:
        lanes: Dict[str, Lane] = {}
        for way in (PLAIN, STREAMED, AGAIN, VARIANT):  # theirs not side by side but in turn
            if way in within:
                what, mode = within[way]
                group, made[way] = stack.enter_context(_limited(what, limit_bytes))
                request = _request(what, mode, group)
            elif way != VARIANT:
                made[way], request = {'kills': 0, 'result': None}, _request(said, PLAIN)
            else:
                continue
            with contextlib.suppress(ProcessError):  # its group tells whether it was killed
                lanes[way] = stack.enter_context(Lane(CHILD, request, timeout_s=LONGEST_S))
        for way, found in _turned(lanes).items():
            made[way].update(result=lanes[way].first, turns=found)
    return made


def _turned(lanes: Mapping[str, Lane]) -> Dict[str, List[float]]:
    """Return the median seconds of the turns of all that get through them."""
    left = dict(lanes)
    while left:
        try:
            rounds = turns(left, TURNS, TURN_RUNS)
            return {way: [each[way] for each in rounds] for way in left}
        except ProcessError:
            left = {way: lane for way, lane in left.items() if lane.alive}
    return {}


def _over(sets: Sequence[Mapping[str, Mapping[str, Any]]], way: str) -> timing.Ratio:
    """Return the median latency over plain's in the same round."""
    return timing.median_ratio([pair for each in sets for pair in zip(
        each[PLAIN]['turns'], each[way]['turns'])])


def _held_figure(share: float, measured: Sets, limit_bytes: int) -> Figure:
    """Return whether mode streamed is never killed nor kept waiting by the limit."""
    through = all(_through(each[STREAMED]) for each in measured)
    return claim('budget_%d_held' % round(100 * share), float(through), 1.0, better=HIGHER,
                 how='%s within %.0f MB, %.0f %% of what plain ONNX Runtime grows by: %s' % (
                     HEAD, limit_bytes / 1e6, 100 * share,
                     '; '.join(_said(mode, measured) for mode in MODES)))


def _through(run: Mapping[str, Any]) -> bool:
    return run['result'] is not None and not run['kills']


def _tightest_figures(measured: Sets, leaner: Optional[Said]) -> List[Figure]:
    """Return what the tightest budget costs, with another variant and with the same."""
    differ = max((_difference(each[STREAMED]['result'], each[PLAIN]['result'])
                  for each in measured if _through(each[STREAMED])), default=None)
    return [
        _latency_claim(TIGHTEST + '_variant_latency', measured, VARIANT,
                       'the variant may change: %s in mode planned; %s' % (
                           (leaner or {}).get('name'), _said(VARIANT, measured))),
        _latency_claim(TIGHTEST + '_streamed_latency', measured, STREAMED,
                       'the same variant streamed; %s; plain without a limit %.1f ms' % (
                           _said(STREAMED, measured), 1e3 * _middle_s(measured, PLAIN))),
        claim(TIGHTEST + '_answers_differ', differ, ANSWERS_DIFFER, better=LOWER,
              how='streamed from plain ONNX Runtime, of the largest answer: the engine sums in '
              'another order where it does not pack weights; modes among themselves agree to '
              'the bit (tested)')]


def _latency_claim(key: str, measured: Sets, way: str, how: str) -> Figure:
    target, better = CLAIMS[key]
    found = _slower(measured, way)
    if found is None:
        return claim(key, None, target, better=better, how=how)
    return timing.claim_ratio(key, {'': found}, target, better=better, how=how)


def _difference(ours: Mapping[str, Any], plain: Mapping[str, Any]) -> float:
    largest = max(abs(v) for v in plain['answer'])
    return float(max(abs(a - b) for a, b in zip(ours['answer'], plain['answer'])) / largest)


def _middle_s(measured: Sets, way: str) -> float:
    """Return the median of the processes' medians behind loading."""
    return float(statistics.median(each[way]['result']['median_s'] for each in measured))


def _slower(measured: Sets, way: str) -> Optional[timing.Compared]:
    """Return latency over plain's in the same round; None where it did not get through."""
    if not all(_through(each[way]) for each in measured):
        return None
    return timing.Compared(_over(measured, way), _over(measured, AGAIN))


def _said(way: str, measured: Sets) -> str:
    runs = [each[way] for each in measured]
    if not all(_through(run) for run in runs):
        return '%s does not get through' % way
    return ('%s %.1f MB at most, %.1f MB anonymous, the limit met %d times, %.2f of the latency '
            'behind loading, %d processes' % (
                way, max(r['most_mb'] for r in runs),
                max(r['result']['anon_mb'] for r in runs), max(r['refused'] for r in runs),
                _middle_s(measured, way) / _middle_s(measured, PLAIN), len(runs)))
