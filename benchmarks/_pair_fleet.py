# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Three robots: one renamed by its namespace, one started late, one that then bears another's name.

A process of its own plays it and prints what it measured as JSON.
"""
from __future__ import annotations

import json
import math
import os
import re
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Tuple

from benchmarks import timing
from crowdhmt_ros.bundle.reader import open_bundle
from crowdhmt_ros.cli.figures import HIGHER, LOWER, Figure, claim, inform
from crowdhmt_ros.cli.prepare import prepare
from crowdhmt_ros.cli.processes import Fleet

FIRST, RENAMED, LATE = 'vehicle', 'wing_2', 'drone'
"""The vehicle asks for help; the second robot is a drone that its namespace calls wing_2."""
FOUND_BOUND_S = 2.0
START_TIMEOUT_S = 120.0
FOUND_TIMEOUT_S = 30.0
CLASH_TIMEOUT_S = 30.0
SETTLE_S = 1.0
WATCH_S = 4.0
CLASHING = (('camera_inference', 'peers'), ('offload_server', 'server'))
CLAIMS = {'fleet_found_s': (FOUND_BOUND_S, LOWER), 'fleet_clash_errors': (4, HIGHER),
          'fleet_clash_offloaded': (0, LOWER)}


def door_s(folder: Path, robot_id: str) -> float:
    """Return the monotonic moment at which a robot said that it serves peers."""
    log = (folder / 'logs' / ('%s-engine.log' % robot_id)).read_text(encoding='utf-8')
    said = re.search(r'\[([0-9.]+)\] \[[^]]*\]: peers are served', log)
    return float(said.group(1)) - time.time() + time.monotonic() if said else math.nan


def found_s(witness: Any, robot_id: str, by: str, since_s: float) -> float:
    """
    Return how long after its first advert a robot had a measured link to another.

    :param since_s: monotonic moment before which adverts do not count
    """
    witness.until(lambda: robot_id in witness.found[by], START_TIMEOUT_S,
                  '%s finds %s' % (by, robot_id))
    heard_s = witness.advert_s(robot_id, since_s)
    linked_s: float = witness.found[by][robot_id]
    return 0.0 if heard_s is None else max(0.0, linked_s - heard_s)


def meet(witness: Any, robots: Any, folder: Path) -> Tuple[Dict[str, float], float]:
    """
    Start two robots, then a third.

    :returns: who found whom how fast after the first advert, and how long after the third one
        had opened its door the first one had found it
    """
    start_s = time.monotonic()
    robots.start(FIRST, wants_help=True)
    robots.start(RENAMED)
    found = {'%s by %s' % (RENAMED, FIRST): found_s(witness, RENAMED, FIRST, start_s)}
    witness.until(lambda: witness.offloaded(FIRST, 0.0) > 0, FOUND_TIMEOUT_S,
                  '%s is helped' % FIRST)
    late_s = time.monotonic()
    robots.start(LATE)
    found['%s by %s, late' % (LATE, FIRST)] = found_s(witness, LATE, FIRST, late_s)
    found['%s by %s, late' % (LATE, RENAMED)] = found_s(witness, LATE, RENAMED, late_s)
    return found, witness.found[FIRST].get(LATE, math.nan) - door_s(folder, LATE)


def clash(witness: Any, robots: Any) -> Dict[str, Any]:
    """Start the late robot anew under the first one's name; who errs, and who still offloads."""
    helped = witness.offloaded(FIRST, 0.0)
    robots.stop(LATE)
    robots.start(LATE, robot_id=FIRST, wants_help=True)

    def errors() -> int:
        return sum(witness.level(namespace, node, task) == b'\x02'
                   for namespace in (FIRST, LATE) for node, task in CLASHING)

    took_s = witness.until(lambda: errors() == 2 * len(CLASHING), CLASH_TIMEOUT_S,
                           'both robots tell of the clash')
    witness.listen(SETTLE_S)
    since_s = time.time()
    witness.listen(WATCH_S)
    return {'errors': errors(), 'took_s': took_s, 'helped_before': helped,
            'answers': sum(len(witness.answers[name]) for name in (FIRST, LATE)),
            'offloaded': sum(witness.offloaded(name, since_s) for name in (FIRST, LATE))}


def play(folder: Path, parameters: Optional[Mapping[str, object]] = None) -> Dict[str, Any]:
    """
    Play it.

    :param folder: existing; gets logs and keys
    :param parameters: 'node:name' -> value, of every robot
    """
    from benchmarks._fleet_witness import Robots, Witness, start_ros
    from crowdhmt_ros.offload.trust import throw_away
    start_ros()
    fleet = Fleet(os.environ, folder / 'logs')
    witness = Witness((FIRST, RENAMED, LATE))
    robots = Robots(fleet, throw_away(folder / 'keys', (FIRST, RENAMED, LATE)), folder,
                    parameters or {})
    try:
        found, after_door_s = meet(witness, robots, folder)
        return {'found_s': found, 'after_door_s': after_door_s,
                'clash': clash(witness, robots)}
    finally:
        fleet.stop_all()
        witness.close()


def figures_of(found: Mapping[str, Any]) -> List[Figure]:
    """Return the figures of one play."""
    each, clashed = found['found_s'], found['clash']
    return [
        claim('fleet_found_s', max(each.values()), FOUND_BOUND_S, better=LOWER,
              how='from the first advert to a measured link: ' + ', '.join(
                  '%s %.2f' % (who, seconds) for who, seconds in each.items())),
        claim('fleet_clash_errors', clashed['errors'], 2 * len(CLASHING), better=HIGHER,
              how='ERROR in /diagnostics of camera and server of both robots that bear one name'),
        claim('fleet_clash_offloaded', clashed['offloaded'], 0, better=LOWER,
              also=clashed['helped_before'] > 0, how='frames that a peer answered for either of '
              'them in %g s; before the clash it were %d' % (WATCH_S, clashed['helped_before'])),
        inform('fleet_found_after_door_s', found['after_door_s'],
               how='%s by %s, from its open door on: discovery by ROS is in it' % (LATE, FIRST)),
        inform('fleet_clash_told_s', clashed['took_s'],
               how='from the start of the second robot of that name to ERROR on both')]


def fleet_figures(*, quick: bool) -> List[Figure]:
    """Return the figures of one play; a quick one is no shorter."""
    prepare(open_bundle('campus7'), live=False)
    return figures_of(timing.in_fresh_process('benchmarks._pair_fleet', {'quick': quick}))


def main() -> int:
    """Play it and print the outcome."""
    with tempfile.TemporaryDirectory(prefix='crowdhmt-fleet-') as folder:
        print(json.dumps(play(Path(folder))))
    return 0


if __name__ == '__main__':
    sys.exit(main())
