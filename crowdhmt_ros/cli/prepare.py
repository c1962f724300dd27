# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Measuring this machine before the first run, with progress; later runs read the tables.

What a robot's planner would do behind its first plans is done here too, so that the first switch
is as quick as the last and nothing disturbs the run: graphs are rewritten, engines compared.
"""
from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any, Callable, Dict, Optional

from crowdhmt_ros.bundle.materialise import default_cache_dir
from crowdhmt_ros.bundle.reader import Bundle
from crowdhmt_ros.choose_engines import choose_engines, to_choose_from
from crowdhmt_ros.engine.backends import AUTO, make_backend
from crowdhmt_ros.engine.rewriting import graphs_of, keep_graphs
from crowdhmt_ros.first_start import Ready, Wishes, first_start
from crowdhmt_ros.machine_lock import is_held
from crowdhmt_ros.offload.placement import worth_offering

SAY_EVERY_S = 5.0
ENGINES_S = 45.0
"""For comparing engines: longer a person does not want to wait."""
CAMPUS_BACKEND = 'onnxruntime'
"""
The campus's budgets are for engines that hold a model in memory: with memory modes compared, the
widest variant streams its weights, keeps every budget, and neither plan nor helper ever changes.
"""
Progress = Callable[[float, str], None]


class LineProgress:
    """One line every few seconds, nothing at all when all is measured already."""

    def __init__(self) -> None:
        self._next_s = 0.0

    def __call__(self, part: float, text: str) -> None:
        """Take one report."""
        now_s = time.monotonic()
        if now_s >= self._next_s or part >= 1.0:
            self._next_s = now_s + SAY_EVERY_S
            print('measuring this machine, once: %3.0f %%  %s' % (100 * part, text), flush=True)


def bar_progress() -> Any:
    """Return a rich progress bar, not started yet."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
    return Progress(TextColumn('measuring this machine, once'), BarColumn(),
                    TextColumn('{task.description}'), TimeElapsedColumn(), transient=True)


def engine_parameters(backend: str) -> Dict[str, object]:
    """
    Return the parameters of robots that start behind `prepare`.

    What it had no time for does not disturb the run.
    """
    return {'backend': backend, 'adaptation_planner:engines_s': 0.0}


def prepare(bundle: Bundle, *, live: bool, backend: str = CAMPUS_BACKEND,
            wishes: Optional[Wishes] = None, cache_dir: Optional[Path] = None) -> Ready:
    """
    Return graphs, tables and front of this machine, measuring what is missing.

    The graphs that plans may name are rewritten for this processor, and with the backend 'auto'
    engines are compared: unless something else is being measured on this machine, then the
    robots do the former themselves.

    :param bundle: what will run
    :param live: a bar where there is a terminal
    :param backend: what the robots will run on
    :param wishes: None for what the nodes take by default
    :param cache_dir: the default one when None
    :raises CrowdHMTError: when something cannot be made
    """
    folder = Path(cache_dir or default_cache_dir())
    asked = wishes or Wishes(engines=to_choose_from() if backend == AUTO else ())

    def start(progress: Progress) -> Ready:
        ready = first_start(bundle, make_backend(backend, asked.repeat), folder, wishes=asked,
                            progress=progress)
        if is_held():
            return ready
        _rewrite(ready, progress)
        better = choose_engines(bundle, ready, folder, wishes=asked, longest_s=ENGINES_S,
                                progress=progress)
        _rewrite(better, progress)
        return better

    if not (live and sys.stdout.isatty()):
        return start(LineProgress())
    bar = bar_progress()
    task = bar.add_task('', total=1.0, start=False)

    def show(part: float, text: str) -> None:
        if not bar.live.is_started:
            bar.start()
            bar.start_task(task)
        bar.update(task, completed=part, description=text)

    try:
        return start(show)
    finally:
        if bar.live.is_started:
            bar.stop()


def _rewrite(ready: Ready, progress: Progress) -> None:
    """Have what plans may name here rewritten, where it is not kept already."""
    keep_graphs(graphs_of(ready.front, worth_offering(ready.remote), ready.segments),
                progress=progress)
