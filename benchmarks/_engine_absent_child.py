# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A robot in a process in which some engines cannot be imported; prints JSON."""
from __future__ import annotations

import importlib
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Dict, List, Sequence

PLAN_SEQ, READY_S = 1, 30.0


class Blocker:
    """Makes modules absent: put before all other finders."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = frozenset(names)

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        """Raise for what is blocked, know nothing of all else."""
        if name.split('.')[0] in self._names:
            raise ModuleNotFoundError('No module named %r' % name, name=name)


def run(blocked: Sequence[str], frames: int, folder: Path) -> Dict[str, Any]:
    """Answer frames from the bundle on; nothing of the package is imported before."""
    import numpy as np

    from crowdhmt_ros.bundle.reader import open_bundle
    from crowdhmt_ros.choose_engines import choose_engines, to_choose_from
    from crowdhmt_ros.engine.backends import AUTO, make_backend
    from crowdhmt_ros.first_start import Wishes, first_start
    from crowdhmt_ros.loop import step
    from crowdhmt_ros.nodes.engine_room import open_engine_room
    from crowdhmt_ros.nodes.params import CameraInferenceParameters
    from crowdhmt_ros.types import LoopState, Requirements, ResourceSnapshot
    from crowdhmt_ros.vision.frame import Frame
    bundle = open_bundle('campus7')
    wishes = Wishes(threads=(1,), memory_modes=('fast',), longest_s=3.0,
                    engines=to_choose_from())
    backend = make_backend(AUTO)
    ready = first_start(bundle, backend, folder, wishes=wishes)
    ready = choose_engines(bundle, ready, folder, wishes=wishes, longest_s=3.0)
    _, plan = step(LoopState(), ResourceSnapshot(0.0), [], Requirements(), ready.front, 0.0)
    room = open_engine_room(CameraInferenceParameters(cache_dir=str(folder)))
    room.switcher.apply(plan.chosen.candidate, PLAN_SEQ)
    _await_plan(room)
    rng = np.random.default_rng(0)
    answered = 0
    for number in range(frames):
        image = rng.integers(0, 256, (480, 640, 3)).astype(np.uint8)
        scores = room.executor.infer(Frame(image, number, 'camera', 0.0)).scores
        answered += abs(sum(scores) - 1.0) < 1e-6
    room.close()
    return {'frames': frames, 'answered': answered, 'candidates': len(ready.front),
            'engines': sorted({e.candidate.engine.backend for e in ready.front}),
            'gains': gains(blocked)}


def _await_plan(room: Any) -> None:
    """
    Wait until the plan answers: it may have to be prepared.

    :raises RuntimeError: it does not come into force
    """
    until_s = time.monotonic() + READY_S
    while room.executor.active.plan_seq != PLAN_SEQ:
        if time.monotonic() > until_s:
            raise RuntimeError('the plan did not come into force: %s' % room.switcher.failure)
        time.sleep(0.01)


def gains(blocked: Sequence[str]) -> List[str]:
    """Return what doctor says of each absent engine."""
    from crowdhmt_ros.cli.doctor import findings
    told = [f for f in findings(['engine']) if 'gains' in f.text]
    return [f.text for name in blocked for f in told if f.name == 'engine ' + name]


def refused(blocked: Sequence[str]) -> List[str]:
    """Return the absent engines that refuse in words; an import that gets through is an error."""
    from crowdhmt_ros.engine.backends import make_backend
    from crowdhmt_ros.errors import BackendError
    words = []
    for name in blocked:
        try:
            importlib.import_module(name)
        except ImportError:
            try:
                make_backend(name)
            except BackendError as error:
                words.append(str(error))
    return words


def main(request: Dict[str, Any]) -> Dict[str, Any]:
    """
    Block, run, and see that what was blocked stayed out.

    :raises RuntimeError: an engine could be imported all the same, or was refused without words
    """
    blocked = request['blocked']
    sys.meta_path.insert(0, Blocker(blocked))  # type: ignore[arg-type]
    with tempfile.TemporaryDirectory(prefix='crowdhmt-absent-') as folder:
        answer = run(blocked, request['frames'], Path(folder))
    if len(refused(blocked)) != len(blocked) or set(blocked) & set(sys.modules):
        raise RuntimeError('an engine that is blocked was imported or not refused')
    return answer


if __name__ == '__main__':
    print(json.dumps(main(json.loads(sys.argv[1]))))
