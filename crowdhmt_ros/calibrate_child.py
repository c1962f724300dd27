# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Memory of one graph under one engine setting, in a fresh process.

    python -m crowdhmt_ros.calibrate_child '{"backend": ..., "segment": ..., "options": ...}'

prints one JSON object. What counts is what the robot loses by it: the growth of memory that the
process has for itself (anonymous pages: arena, repacked weights, buffers) from the imported
library to after a few runs, plus those pages of the mapped weight file that were touched. Pages
of program code do not count: every candidate shares them.
"""
from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Sequence, Tuple

import numpy as np

from crowdhmt_ros.engine.backends import make_backend
from crowdhmt_ros.engine.memory.room import be_first_to_go
from crowdhmt_ros.errors import CalibrationError, CrowdHMTError, PutOffError
from crowdhmt_ros.types import Candidate, EngineOptions, Segment, TensorSpec

RUNS = 5
LONGEST_S = 30.0
PAGE_MAP = Path('/proc/self/smaps')


def memory_of(candidate: Candidate, segment: Segment, *, longest_s: float = LONGEST_S) -> int:
    """
    Return the bytes that a candidate takes in a process of its own.

    :param candidate: tells how the engine runs
    :param segment: what it runs, on this device
    :param longest_s: for the whole process
    :raises PutOffError: when it was killed, which is what the kernel does for want of memory
    :raises CalibrationError: when the process fails or takes too long
    """
    plain = replace(segment, early_exit=None)
    request = json.dumps({'backend': candidate.engine.backend, 'segment': asdict(plain),
                          'options': asdict(candidate.engine)})
    here = str(Path(__file__).resolve().parents[1])
    paths = [here] + [p for p in (os.environ.get('PYTHONPATH'),) if p]
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join(paths))
    command = [sys.executable, '-m', 'crowdhmt_ros.calibrate_child', request]
    try:
        done = subprocess.run(command, capture_output=True, timeout=longest_s, check=False,
                              env=environment)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CalibrationError(f'the process that measures {segment.segment_id} did not end: '
                               f'{error.__class__.__name__}') from error
    if done.returncode == -signal.SIGKILL:  # engines that fail end in other ways
        raise PutOffError(f'the process that measures {segment.segment_id} was killed, for want '
                          'of memory it seems')
    try:
        return int(json.loads(done.stdout)['memory_bytes'])
    except (ValueError, KeyError, TypeError) as error:
        said = done.stderr.decode(errors='replace').strip().splitlines() or ['nothing said']
        raise CalibrationError(f'the process that measures {segment.segment_id} failed with exit '
                               f'code {done.returncode}: {said[-1]}') from error


def measure(request: Mapping[str, Any]) -> Dict[str, int]:
    """
    Load and run the segment of `request` here, and return what that took.

    :returns: memory_bytes = private_bytes + mapped_bytes
    :raises CrowdHMTError: when the segment does not load or run
    """
    segment = segment_from(request['segment'])
    backend = make_backend(str(request['backend']))
    folder = str(Path(segment.path).resolve().parent)
    before, _ = resident_bytes(folder)
    executable = backend.compile(segment, EngineOptions(**request['options']))
    inputs = _buffers(executable.inputs)
    outputs = _buffers(executable.outputs)
    for _ in range(RUNS):
        executable.run(inputs, outputs)
    after, mapped = resident_bytes(folder)
    private = max(0, after - before)
    return {'memory_bytes': private + mapped, 'private_bytes': private, 'mapped_bytes': mapped}


def segment_from(item: Mapping[str, Any]) -> Segment:
    """Return the segment that `dataclasses.asdict` turned into `item`."""
    specs: List[Tuple[TensorSpec, ...]] = [
        tuple(TensorSpec(s['name'], s['dtype'], tuple(s['shape'])) for s in item[side])
        for side in ('inputs', 'outputs')]
    others = {k: v for k, v in item.items() if k not in ('inputs', 'outputs')}
    return Segment(inputs=specs[0], outputs=specs[1], **others)


def _buffers(specs: Sequence[TensorSpec]) -> List[np.ndarray]:
    return [np.zeros(spec.shape, spec.dtype) for spec in specs]


def resident_bytes(folder: str, *, page_map: Path = PAGE_MAP) -> Tuple[int, int]:
    """
    Return (bytes of this process alone, resident bytes of files mapped from `folder`).

    :raises CalibrationError: when the kernel does not tell
    """
    private = mapped = 0
    inside = False
    try:
        lines = page_map.read_text(errors='replace').splitlines()
    except OSError as error:
        raise CalibrationError(f'{page_map} cannot be read: {error}') from error
    for line in lines:
        words = line.split(None, 5)  # the sixth is a path, which may hold spaces
        if words and not words[0].endswith(':'):
            inside = len(words) > 5 and words[5].startswith(folder.rstrip('/') + '/')
        elif words and words[0] == 'Anonymous:':
            private += int(words[1]) * 1024
        elif words and words[0] == 'Rss:' and inside:
            mapped += int(words[1]) * 1024
    return private, mapped


def main(arguments: Sequence[str], write: Callable[[str], object] = sys.stdout.write) -> int:
    """Measure what the one argument asks for; 0 when it was written."""
    try:
        write(json.dumps(measure(json.loads(arguments[0]))) + '\n')
    except CrowdHMTError as error:
        sys.stderr.write(f'{error}\n')
        return 1
    return 0


if __name__ == '__main__':
    be_first_to_go()
    sys.exit(main(sys.argv[1:]))
