# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What a person sees of a training, and when it waits for others."""
from __future__ import annotations

from typing import TYPE_CHECKING, Callable, Dict

from crowdhmt_ros.cli.progress import Bar
from crowdhmt_ros.machine_lock import wait_while_held

if TYPE_CHECKING:
    from crowdhmt_ros.elastic.teaching.trainer import Progress

KEPT_RATIO = 0.98
"""Of a smoothed loss or conflict, from step to step."""


def on_bar(bar: Bar) -> Callable[[Progress], None]:
    """Return what shows a training's steps on a bar: phase, epoch, losses and conflict."""
    smooth: Dict[str, float] = {}

    def report(progress: Progress) -> None:
        shown = dict(progress.losses)
        if progress.conflict_ratio is not None:
            shown['conflict'] = progress.conflict_ratio
        for name, loss in shown.items():
            key = '%s %s' % (progress.phase, name)
            smooth[key] = KEPT_RATIO * smooth.get(key, loss) + (1.0 - KEPT_RATIO) * loss
        bar(int(100 * progress.done_ratio), 100, ' %s %d/%d %s' % (
            progress.phase, progress.epoch + 1, progress.epochs, ' '.join(
                '%s %.3f' % (name, smooth['%s %s' % (progress.phase, name)])
                for name in shown)))

    return report


def pause() -> None:
    """Wait while a measurement holds the machine."""
    wait_while_held()
