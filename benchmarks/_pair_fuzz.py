# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Every reader of what comes from another robot, under wrong input, each in a process of its own.

The process has a limit on its address space: what tracemalloc does not see, such as a decoder's
own memory, ends it when it runs away, and that counts as a crash.
"""
from __future__ import annotations

import dataclasses
import json
import os
import resource
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence

from crowdhmt_ros.cli.figures import LOWER, Figure, claim, inform

INPUTS, QUICK_INPUTS = 100_000, 2_000
ADDRESS_SPACE_BYTES = 1 << 30
TIMEOUT_S = 900.0
SEED = 20260721
CRASHES_TOLD = 3
CLAIMS = {'fuzz_crashes': (0, LOWER), 'fuzz_allocation_cap_ratio': (1.0, LOWER)}
ROOT = Path(__file__).resolve().parents[1]


def limit_address_space() -> None:
    """Let this process grow by 1 GiB and no more."""
    pages = int(Path('/proc/self/statm').read_text(encoding='ascii').split()[0])
    most = pages * resource.getpagesize() + ADDRESS_SPACE_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


def child(name: str, count: int, seed: int) -> None:
    """Fuzz one target and print the outcome as JSON: what the processes of `outcomes` run."""
    from benchmarks._fuzz_targets import fuzz, targets
    target = next(t for t in targets() if t.name == name)
    limit_address_space()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    outcome = dataclasses.asdict(fuzz(target, count, seed=seed))
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    outcome['crash_count'] = len(outcome['crashes'])
    outcome['crashes'] = outcome['crashes'][:CRASHES_TOLD]
    outcome['grown_bytes'] = 1024 * (after - before)
    print(json.dumps(outcome))


def one_outcome(name: str, cap_bytes: int, count: int) -> Dict[str, Any]:
    """Return the outcome of one target; a process that dies is a crash."""
    dead: Dict[str, Any] = {'name': name, 'inputs': 0, 'accepted': 0, 'crash_count': 1,
                            'peak_bytes': None, 'cap_bytes': cap_bytes, 'grown_bytes': None}
    try:
        done = subprocess.run(
            [sys.executable, '-m', 'benchmarks._pair_fuzz', name, str(count), str(SEED)],
            cwd=str(ROOT), capture_output=True, text=True, errors='replace', timeout=TIMEOUT_S,
            check=False)
        if done.returncode == 0:
            found: Dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
            return found
        reason = 'the process ended with %d: %s' % (done.returncode, done.stderr.strip()[-200:])
    except subprocess.TimeoutExpired:
        reason = 'not done after %.0f s' % TIMEOUT_S
    except (ValueError, IndexError):
        reason = 'the process printed no outcome'
    return dict(dead, crashes=[' '.join(reason.split())])


def outcomes(count: int) -> List[Dict[str, Any]]:
    """Fuzz every target, the inputs shared out evenly."""
    from benchmarks._fuzz_targets import targets
    every = targets()
    each = -(-count // len(every))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(lambda t: one_outcome(t.name, t.cap_bytes, each), every))


def cap_ratio(found: Sequence[Dict[str, Any]]) -> Optional[float]:
    """Return the largest share of its cap that an input took, None when one is unknown."""
    if any(f['peak_bytes'] is None for f in found):
        return None
    return float(max(f['peak_bytes'] / f['cap_bytes'] for f in found))


def figures_of(found: Sequence[Dict[str, Any]], count: int) -> List[Figure]:
    """
    Return the figures of some outcomes.

    :param count: inputs that were asked for; fewer do not hold
    """
    inputs = sum(f['inputs'] for f in found)
    told = ['%s: %s' % (f['name'], c) for f in found for c in f['crashes']]
    how = '%d inputs, %d readers (%s), %d accepted%s' % (
        inputs, len(found), ', '.join(f['name'] for f in found),
        sum(f['accepted'] for f in found), '; first: ' + told[0] if told else '')
    complete = inputs >= count
    return [
        claim('fuzz_crashes', sum(f['crash_count'] for f in found), 0, better=LOWER, how=how,
              also=complete),
        claim('fuzz_allocation_cap_ratio', cap_ratio(found), 1.0, better=LOWER, also=complete,
              how='largest share of its declared cap that one input made a reader allocate; '
              'beyond tracemalloc %d MiB a process' % (ADDRESS_SPACE_BYTES >> 20)),
        *(inform('fuzz_peak_bytes/%s' % f['name'], f['peak_bytes'], how='cap %d; %d inputs, %d '
                 'accepted; the process grew by %s bytes' % (
                     f['cap_bytes'], f['inputs'], f['accepted'], f['grown_bytes']))
          for f in found)]


def fuzz_figures(bundle_name: str = '', *, quick: bool) -> List[Figure]:
    """
    Return crashes and allocation over 10^5 inputs, 2000 when quick.

    :param bundle_name: not used: the readers are fed from shapes of their own
    """
    count = QUICK_INPUTS if quick else INPUTS
    return figures_of(outcomes(count), count)


if __name__ == '__main__':
    child(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
