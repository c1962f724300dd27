# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Vehicle and drone in two network namespaces with a bad link between them. Needs root."""
from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import List, Optional, Tuple

from benchmarks._link import ADDRESSES, LinkedPair, Shape, environment, why_not
from benchmarks._pair_rig import HELPED, HELPER, Rig, spoiled
from crowdhmt_ros.cli.figures import LOWER, Figure, claim, inform
from crowdhmt_ros.cli.processes import ProcessError

CUT_S, CUTS = 5.0, 3
QUICK_CUT_S, QUICK_CUTS = 3.0, 1
STAGE_S, QUICK_STAGE_S = 30.0, 6.0
RESUME_BOUND_S = 3.0
RESUME_TIMEOUT_S = 30.0
CLAIMS = {'net_frames_lost': (0, LOWER), 'net_resume_s': (RESUME_BOUND_S, LOWER)}
STAGES: Tuple[Tuple[str, Shape], ...] = (
    ('loss', Shape(delay_s=0.020, loss_ratio=0.05)), ('slow', Shape(bytes_per_s=250e3)))
"""5 % loss with 20 ms each way, and 2 Mbit/s."""


@dataclass(frozen=True)
class Stage:
    """
    A stretch of the run under one shape of the link.

    :param offloaded_ratio: frames that the drone answered
    :param degraded_ratio: frames that were asked of it and that the fallback answered
    """

    name: str
    frames: int
    offloaded_ratio: float
    degraded_ratio: float


@dataclass(frozen=True)
class Outcome:
    """
    One run.

    :param resume_s: from the end of each cut to the next frame that the drone answered
    """

    resume_s: Tuple[Optional[float], ...]
    stages: Tuple[Stage, ...]
    frames: int
    lost: int
    doubled: int


def cut_once(rig: Rig, link: LinkedPair, cut_s: float) -> Optional[float]:
    """Cut the link for a while; how long after its end the drone answered again, s."""
    rig.until(rig.watch.is_steady, RESUME_TIMEOUT_S, 'no steady help')
    link.reshape(cut=True)
    rig.wait(cut_s)
    link.reshape(cut=False)
    return rig.help_after(time.time_ns(), RESUME_TIMEOUT_S)


def one_stage(rig: Rig, link: LinkedPair, name: str, shape: Shape, seconds: float) -> Stage:
    """Let the pair run under another shape of the link."""
    link.reshape(**vars(shape))
    start_ns = time.time_ns()
    rig.wait(seconds)
    answers = [a for a in rig.watch.answers if a.stamp_ns >= start_ns]
    count = max(1, len(answers))
    return Stage(name, len(answers), sum(a.offloaded for a in answers) / count,
                 sum(a.degraded for a in answers) / count)


def linked_rig(folder: Path, link: LinkedPair, channel: str) -> Rig:
    """Return the pair, not started yet, with a robot at each end of a link."""
    ends = tuple(zip((HELPED, HELPER), (link.prefix(0), link.prefix(1)), ADDRESSES))
    return Rig(folder, channel=channel, environment=environment(),
               prefixes={name: prefix for name, prefix, _ in ends},
               own_parameters={name: {'offload_server:address': 'tcp://%s:0' % address}
                               for name, _, address in ends})


def run_network(folder: Path, *, cuts: int, cut_s: float, stage_s: float,
                channel: str = 'auto') -> Outcome:
    """
    Run the pair over a link that is cut, loses packets, is slow.

    :param folder: existing and empty
    :param stage_s: length of each further stage, 0 for none
    :raises ProcessError: no namespaces can be made here, or the pair does not run
    """
    reason = why_not()
    if reason:
        raise ProcessError(reason)
    resumed, stages = [], []
    with LinkedPair(Shape()) as link, linked_rig(folder, link, channel) as rig:
        for _ in range(cuts):
            resumed.append(cut_once(rig, link, cut_s))
        for name, shape in STAGES if stage_s else ():
            stages.append(one_stage(rig, link, name, shape, stage_s))
    counted = rig.counted()
    return Outcome(tuple(resumed), tuple(stages), int(counted['emitted']), *spoiled(counted))


def figures_of(outcome: Outcome, cut_s: float) -> List[Figure]:
    """Return the figures of a run."""
    known = [r for r in outcome.resume_s if r is not None]
    whole = bool(known) and len(known) == len(outcome.resume_s)
    return [
        claim('net_frames_lost', outcome.lost, 0, better=LOWER, also=outcome.doubled == 0,
              how='%d frames: %d cuts of %g s%s; doubled or unknown %d' % (
                  outcome.frames, len(outcome.resume_s), cut_s, ''.join(
                      ', %s' % stage.name for stage in outcome.stages), outcome.doubled)),
        claim('net_resume_s', max(known) if whole else None, RESUME_BOUND_S, better=LOWER,
              how='the longest of %d, from the end of a cut to the next frame that the drone '
              'answered' % len(outcome.resume_s)),
        *(inform('net_offloaded_ratio/' + stage.name, stage.offloaded_ratio, better='higher',
                 how='%d frames; fallback for the drone %.1f %%' % (
                     stage.frames, 100 * stage.degraded_ratio)) for stage in outcome.stages)]


def network_figures(folder: Path, *, quick: bool) -> List[Figure]:
    """Return the figures of cuts, losses and a slow link."""
    cut_s = QUICK_CUT_S if quick else CUT_S
    out = folder / 'network'
    out.mkdir(parents=True)
    return figures_of(run_network(
        out, cuts=QUICK_CUTS if quick else CUTS, cut_s=cut_s,
        stage_s=QUICK_STAGE_S if quick else STAGE_S), cut_s)
