# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Has the graphs that plans may name rewritten for this processor, where nobody waits (P III-C1).

A variant whose rewritten graph is kept comes to answer in milliseconds, however seldom it is
chosen. What is kept already takes no time at all.
"""
from __future__ import annotations

import logging
import time
from typing import Callable, Dict, Iterable, List, Mapping, Optional, Tuple

from crowdhmt_ros.engine.backends import FIRST, release
from crowdhmt_ros.engine.backends.kept import FAST, Progress, keep_rewritten
from crowdhmt_ros.engine.backends.mapped import MODES, is_supported
from crowdhmt_ros.engine.memory.optimised import kept_graph
from crowdhmt_ros.machine_lock import hold_machine
from crowdhmt_ros.types import HERE, EngineOptions, FrontEntry, RemoteOption, Segment

Graph = Tuple[Segment, EngineOptions]
_log = logging.getLogger(__name__)


def graphs_of(front: Iterable[FrontEntry], remote: Iterable[RemoteOption],
              segments: Mapping[str, Segment]) -> Tuple[Graph, ...]:
    """
    Return the graphs that plans may have run here over what is kept: wholes, steps, then heads.

    :param front: what plans are chosen from
    :param remote: ways to be helped
    :param segments: segment_id -> graph on this device
    """
    named: List[Tuple[str, EngineOptions]] = [
        (placed.segment_id, entry.candidate.engine) for entry in front
        for placed in entry.candidate.placement.segments if placed.device == HERE]
    named += [(option.head_segment_id, option.engine) for option in remote
              if option.head_segment_id]
    found: Dict[Tuple[str, str, str], Graph] = {}
    for name, options in named:
        if options.backend == FIRST and options.memory_mode in (FAST, *MODES):
            segment = segments[name]
            found.setdefault((segment.path, options.precision, options.fusion_set),
                             (segment, options))
    return tuple(found.values())


def go_on() -> None:
    """End nothing."""


def keep_graphs(graphs: Iterable[Graph], *, check: Callable[[], None] = go_on,
                progress: Optional[Progress] = None) -> int:
    """
    Have graphs rewritten and kept, one at a time; the machine is held for each, about a second.

    One that cannot be rewritten, or that there is too little memory for at this start, gets a
    warning and is made ready as slowly as before.

    :param check: called before each and while the machine is waited for; what it raises ends it
    :param progress: told (part done 0..1, what is being done), nothing where all is kept
    :returns: how many were rewritten now
    """
    version, began_s, made = release(FIRST), time.monotonic(), 0
    if not is_supported(version):
        return 0
    show = progress or (lambda part, text: None)
    wanted = tuple(graphs)
    for number, (segment, options) in enumerate(wanted):
        check()
        if kept_graph(segment, options, version) is not None:
            continue
        show(number / len(wanted), 'rewriting ' + segment.segment_id)
        with hold_machine(check):
            made += not keep_rewritten([segment], options, version)
    if made:
        show(1.0, 'rewrote %d graphs' % made)
        _log.info('rewrote %d graphs for this processor in %.0f s: they are ready in milliseconds',
                  made, time.monotonic() - began_s)
    return made
