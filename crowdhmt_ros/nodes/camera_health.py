# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""How camera_inference is, as diagnostics say it."""
from __future__ import annotations

from dataclasses import dataclass
from typing import Dict

from crowdhmt_ros.nodes.diagnostics import ERROR, WARN, Health
from crowdhmt_ros.nodes.engine_room import EngineRoom
from crowdhmt_ros.nodes.switching import switch_percentile_s
from crowdhmt_ros.types import Candidate

UNCONFIGURED = 'not configured'


@dataclass(frozen=True)
class FrameCounts:
    """
    What happened to frames since the node became active.

    :param received: frames taken in
    :param answered: answers published
    :param failed: frames that the engine failed on
    :param bad_images: messages that are no usable image
    :param unknown_ages: frames whose stamp tells no age
    :param clock_resets: times that the clock was set back
    :param skipped: frame times of an own source that passed while nobody read
    """

    received: int = 0
    answered: int = 0
    failed: int = 0
    bad_images: int = 0
    unknown_ages: int = 0
    clock_resets: int = 0
    skipped: int = 0


def engine_health(room: EngineRoom, plan_problem: str) -> Health:
    """
    Return how the engine is.

    :param plan_problem: why the last plan could not be taken, '' when it was
    """
    p99 = switch_percentile_s(list(room.switcher.resident_switch_s))
    active = room.executor.active
    values: Dict[str, object] = {
        'candidate': active.candidate.candidate_id if active else '',
        'runs_on': on_engine(active.candidate) if active else '',
        'plan_seq': active.plan_seq if active else '', 'switches': room.switcher.switches,
        'preparing': room.switcher.preparing, 'resident_bytes': room.pool.memory_bytes,
        'schedule': room.schedule.reason,
        'resident_switch_p99_s': '' if p99 is None else p99}
    problem = plan_problem or room.switcher.failure
    if problem:
        return Health(ERROR, problem, values)
    if room.warnings:
        return Health(WARN, '; '.join(room.warnings), values)
    return Health(values=values)


def on_engine(candidate: Candidate) -> str:
    """Return how the engine runs a candidate, for people."""
    options = candidate.engine
    words = [options.backend, '%d threads' % options.threads, options.precision,
             options.memory_mode]
    words += ['spinning'] if options.spinning else []
    words += [options.fusion_set] if options.fusion_set != 'none' else []
    return ', '.join(words)


class FrameHealth:
    """Judges counts: what grew since the last look is a problem, what is past is not."""

    def __init__(self) -> None:
        self._seen = FrameCounts()

    def judge(self, counts: FrameCounts, *, failure: str, bad_image: str, lasting: str,
              message: str = 'ok', dead: bool = False) -> Health:
        """
        Return how the frames are.

        :param counts: as of now
        :param failure: what the engine said last
        :param bad_image: what was wrong with the last bad image
        :param lasting: a problem that holds now, '' without one
        :param message: to say when all is well
        :param dead: whether nothing is going to be answered any more, for `failure`
        """
        seen, self._seen = self._seen, counts
        values = dict(vars(counts))
        if dead or counts.failed > seen.failed:
            return Health(ERROR, failure, values)
        if lasting:
            return Health(WARN, lasting, values)
        if counts.bad_images > seen.bad_images:
            return Health(WARN, bad_image, values)
        if counts.unknown_ages > seen.unknown_ages:
            return Health(WARN, 'stamps are zero, in the future, or too old: age unknown', values)
        return Health(message=message, values=values)
