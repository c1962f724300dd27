# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
What a training took and how it went, epoch by epoch; kept beside its checkpoint.

A training that is killed does some steps twice. The ledger goes back with the checkpoint, so that
it says what the training takes, not what the interruptions took.
"""
from __future__ import annotations

import json
import os
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Dict, List, Mapping, Optional, Tuple

from crowdhmt_ros.elastic.teaching.trainer import Position, Progress


@dataclass
class EpochEntry:
    """
    One epoch so far.

    :param phase: number of the phase
    :param name: of the phase
    :param epoch: of the phase
    :param steps: that were done
    :param of: steps of the epoch
    :param wall_s: without waiting for measurements of others
    :param cpu_s: of this process, all its threads together
    :param losses: name -> sum over the steps
    :param conflict: sum of the steps' `conflict_ratio`
    :param conflict_steps: of how many steps; ledgers of earlier versions did not count it
    """

    phase: int
    name: str
    epoch: int
    steps: int = 0
    of: int = 0
    wall_s: float = 0.0
    cpu_s: float = 0.0
    losses: Dict[str, float] = field(default_factory=dict)
    conflict: float = 0.0
    conflict_steps: float = 0.0

    @property
    def conflict_ratio(self) -> Optional[float]:
        """Mean over the steps that have one; None where none has."""
        return self.conflict / self.conflict_steps if self.conflict_steps else None

    def cut(self, steps: int) -> None:
        """Forget all but the first steps; they count as their share of what is known."""
        share = steps / self.steps if self.steps else 0.0
        self.steps = steps
        self.wall_s, self.cpu_s = self.wall_s * share, self.cpu_s * share
        self.losses = {name: total * share for name, total in self.losses.items()}
        self.conflict, self.conflict_steps = self.conflict * share, self.conflict_steps * share


@dataclass(frozen=True)
class PhaseLog:
    """
    One phase that is done.

    :param phase: its name
    :param epochs: that it had
    :param wall_s: without waiting for measurements of others
    :param cpu_s: of the process, all its threads together
    :param losses: name -> mean of each epoch
    :param complete: whether every step was counted
    :param conflict_ratio: share of the variants' gradient that opposed the whole network's, mean
        of each epoch; None where it was not measured, or no variant shares a tensor
    """

    phase: str
    epochs: int
    wall_s: float
    cpu_s: float
    losses: Mapping[str, Tuple[float, ...]]
    complete: bool
    conflict_ratio: Tuple[Optional[float], ...] = ()


class Watch:
    """Seconds by the wall and of the processor, without pauses."""

    def __init__(self) -> None:
        """Begin now."""
        self._paused_s = 0.0
        self._last = (time.monotonic(), time.process_time())

    def paused(self, seconds: float) -> None:
        """Leave out what was waited."""
        self._paused_s += seconds

    def lap(self) -> Tuple[float, float]:
        """Return both since the last lap."""
        now = (time.monotonic(), time.process_time())
        wall_s = now[0] - self._last[0] - self._paused_s
        cpu_s = now[1] - self._last[1]
        self._last, self._paused_s = now, 0.0
        return max(0.0, wall_s), cpu_s


class Ledger:
    """Counts what steps take; see the module."""

    def __init__(self, path: Optional[Path], write_steps: int) -> None:
        """
        Begin an empty one.

        :param path: file to keep it in, None for none
        :param write_steps: steps between two writes: those between two checkpoints
        """
        self._path, self._write_steps = path, write_steps
        self._entries: List[EpochEntry] = []
        self.watch = Watch()

    def go_back(self, to: Position) -> None:
        """
        Read what was kept, and forget what a resumed training will do again.

        :param to: the next step of the training
        """
        try:
            kept = json.loads(self._path.read_text('utf-8')) if self._path else []
            entries = [EpochEntry(**entry) for entry in kept]
        except (OSError, ValueError, TypeError):
            entries = []  # the log then says that it is not complete
        here = (to.phase, to.epoch)
        self._entries = [e for e in entries if (e.phase, e.epoch) < here
                         or ((e.phase, e.epoch) == here and to.step)]
        for entry in self._entries:
            if (entry.phase, entry.epoch) == here and entry.steps > to.step:
                entry.cut(to.step)

    def note(self, phase: int, progress: Progress) -> None:
        """
        Count a step.

        :param phase: number of the phase
        :param progress: of the step
        """
        key = (phase, progress.epoch)
        if not self._entries or (self._entries[-1].phase, self._entries[-1].epoch) != key:
            self._entries.append(EpochEntry(phase, progress.phase, progress.epoch))
        entry = self._entries[-1]
        wall_s, cpu_s = self.watch.lap()
        entry.of = progress.steps
        entry.steps, entry.wall_s, entry.cpu_s = (
            entry.steps + 1, entry.wall_s + wall_s, entry.cpu_s + cpu_s)
        for name, loss in progress.losses.items():
            entry.losses[name] = entry.losses.get(name, 0.0) + loss
        if progress.conflict_ratio is not None:
            entry.conflict += progress.conflict_ratio
            entry.conflict_steps += 1
        if progress.step + 1 in (progress.steps,) or (progress.step + 1) % self._write_steps == 0:
            self._write()

    def _write(self) -> None:
        if self._path is None:
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        beside = self._path.with_name(self._path.name + '.part')
        beside.write_text(json.dumps([asdict(e) for e in self._entries]), 'utf-8')
        os.replace(beside, self._path)

    def phases(self, epochs: Mapping[int, int]) -> Tuple[PhaseLog, ...]:
        """
        Sum up the phases.

        :param epochs: number of a phase -> epochs that it has
        """
        return tuple(_summed([e for e in self._entries if e.phase == number], epochs[number])
                     for number in sorted({e.phase for e in self._entries}))


def _summed(entries: List[EpochEntry], epochs: int) -> PhaseLog:
    names = sorted({name for e in entries for name in e.losses})
    return PhaseLog(
        entries[0].name, epochs, sum(e.wall_s for e in entries), sum(e.cpu_s for e in entries),
        {name: tuple(e.losses.get(name, 0.0) / max(1, e.steps) for e in entries)
         for name in names},
        len(entries) == epochs and all(e.steps == e.of for e in entries),
        tuple(e.conflict_ratio for e in entries))
