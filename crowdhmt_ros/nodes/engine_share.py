# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
One engine per process: camera_inference and offload_server compile a segment once.

Nodes get the share of their process injected and know nothing of each other. Two that name the
same bundle, backend and cache get the same pool and turns; the last one to close takes it down.
In separate processes each has its own, and own frames come first only within one process.
"""
from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Dict, List, Mapping, Optional, Tuple

from crowdhmt_ros.bundle.materialise import default_cache_dir, materialise
from crowdhmt_ros.bundle.reader import Bundle, open_bundle
from crowdhmt_ros.choose_engines import to_choose_from
from crowdhmt_ros.engine.backend import Backend, make_buffers
from crowdhmt_ros.engine.backends import AUTO, make_backend
from crowdhmt_ros.engine.pool import Pool
from crowdhmt_ros.engine.turns import Turns
from crowdhmt_ros.first_start import Wishes, engines_path, kept_tables_path
from crowdhmt_ros.nodes.kept_memory import KeptMemory
from crowdhmt_ros.types import EngineOptions, Segment

Progress = Callable[[int, int], None]
Key = Tuple[str, str, int, str]
TRIALS = 5


@dataclass(frozen=True, eq=False)
class Engine:
    """
    An opened bundle with what compiles it.

    :param key: what it was opened with
    :param bundle: verified
    :param segments: segment_id -> graph on this device
    :param backend: the engine
    :param measured: what calibration has measured so far
    :param pool: what is compiled
    :param turns: own frames first
    """

    key: Key
    bundle: Bundle
    segments: Mapping[str, Segment]
    backend: Backend
    measured: KeptMemory
    pool: Pool
    turns: Turns

    def infer_s(self, segment_id: str, options: EngineOptions) -> Optional[float]:
        """Return the measured time of a segment, None where there is none."""
        return self.measured.infer_s(self.segments[segment_id], options)

    def capacity_macs_per_s(self, options: EngineOptions) -> Optional[float]:
        """
        Return how fast whole models run here, from what calibration has measured.

        :returns: the median over the bundle's variants; None before there are tables
        """
        speeds: List[float] = []
        for variant_id in self.bundle.manifest.front:
            segment = self.segments[self.bundle.segment_for(variant_id)]
            infer_s = self.measured.infer_s(segment, options)
            if infer_s:
                speeds.append(self.bundle.macs(variant_id) / infer_s)
        return statistics.median(speeds) if speeds else None

    def try_capacity_macs_per_s(self, options: EngineOptions) -> float:
        """
        Measure the leanest variant briefly, for the time before there are tables.

        :raises BackendError: when it cannot be compiled or run
        """
        bundle = self.bundle
        variant_id = min(bundle.manifest.front, key=bundle.macs)
        segment_id = bundle.segment_for(variant_id)
        executable = self.pool.hold(segment_id, options)
        try:
            inputs, outputs = make_buffers(executable.inputs), make_buffers(executable.outputs)
            times_s = []
            for _ in range(TRIALS):
                start_s = time.perf_counter()
                executable.run(inputs, outputs)
                times_s.append(time.perf_counter() - start_s)
        finally:
            self.pool.unhold(segment_id, options)
        return bundle.macs(variant_id) / statistics.median(times_s)


class EngineShare:
    """What the nodes of one process have in common. For the thread that configures them."""

    def __init__(self) -> None:
        self._engines: Dict[Key, Engine] = {}
        self._users: Dict[Key, int] = {}

    def open(self, bundle: str, *, backend: str = AUTO, backend_repeat: int = 1,
             cache_dir: str = '', progress: Optional[Progress] = None) -> Engine:
        """
        Open a bundle, or take the one that another node has opened with the same names.

        :param bundle: a directory, or the name of one that ships with the package
        :param cache_dir: '' for the default one
        :param progress: called with (bytes done, bytes in all) while the cache is written
        :raises BundleError: damaged, missing, or written for another version
        :raises BackendError: no such engine
        """
        folder = cache_dir_of(cache_dir)
        key = (bundle, backend, backend_repeat, str(folder))
        engine = self._engines.get(key)
        if engine is None:
            engine = self._engines[key] = _opened(key, folder, progress)
        self._users[key] = self._users.get(key, 0) + 1
        return engine

    def close(self, engine: Engine) -> None:
        """Undo one `open`; with the last one all that is compiled goes."""
        self._users[engine.key] -= 1
        if not self._users[engine.key]:
            del self._users[engine.key], self._engines[engine.key]
            engine.pool.close()


def cache_dir_of(text: str) -> Path:
    """Return the cache folder of a `cache_dir` parameter."""
    return Path(text).expanduser() if text else default_cache_dir()


def _opened(key: Key, cache_dir: Path, progress: Optional[Progress]) -> Engine:
    name, backend_name, repeat, _ = key
    bundle = open_bundle(name)
    backend = make_backend(backend_name, repeat)
    segments = materialise(bundle, cache_dir, progress=progress)
    engines = to_choose_from() if backend_name == AUTO else ()
    measured = KeptMemory(
        kept_tables_path(bundle, backend, cache_dir, repeat=repeat),
        engines_path=engines_path(bundle, cache_dir, Wishes(engines=engines)) if engines else None)
    turns = Turns()
    pool = Pool(backend, segments, measured=measured, turns=turns)
    return Engine(key, bundle, segments, backend, measured, pool, turns)
