# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Everything that answers frames, opened from a bundle; free of ROS."""
from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Optional

from crowdhmt_ros.bundle.materialise import default_cache_dir, materialise
from crowdhmt_ros.bundle.reader import Bundle, open_bundle
from crowdhmt_ros.engine.backends import make_backend
from crowdhmt_ros.engine.pool import Pool
from crowdhmt_ros.errors import BundleError
from crowdhmt_ros.executor import Executor
from crowdhmt_ros.first_start import kept_tables_path
from crowdhmt_ros.nodes.helped import HelpedPlans
from crowdhmt_ros.nodes.kept_memory import KeptMemory
from crowdhmt_ros.nodes.params import CameraInferenceParameters
from crowdhmt_ros.nodes.switching import PlanSwitcher
from crowdhmt_ros.types import Candidate
from crowdhmt_ros.vision.preprocess import Preprocessor

Progress = Callable[[int, int], None]
FIRST_PLAN_SEQ = 0
"""Number under which answers run before the first plan."""


@dataclass(frozen=True, eq=False)
class EngineRoom:
    """
    An opened bundle with what runs it.

    :param bundle: verified
    :param pool: what is compiled
    :param executor: answers frames; the fallback is in force at first
    :param switcher: brings plans into force
    :param helped: prepares candidates that a peer takes part in
    :param fallback: what answers before the first plan
    :param warnings: what the engine could not give, one line each
    """

    bundle: Bundle
    pool: Pool
    executor: Executor
    switcher: PlanSwitcher
    helped: HelpedPlans
    fallback: Candidate
    warnings: tuple

    def close(self) -> None:
        """Let go of everything compiled, here and at peers."""
        self.switcher.drop_help()
        self.pool.close()


def leanest(bundle: Bundle, variant_id: str = '') -> Candidate:
    """
    Return what answers before the first plan: one thread, fewest multiply-accumulates.

    :param variant_id: another variant to take, '' for the leanest
    :raises BundleError: the bundle has no such variant
    """
    offered = [c for c in bundle.candidates(threads=(1,), memory_modes=('fast',))
               if c.variant_id == variant_id or not variant_id]
    if not offered:
        raise BundleError(f'fallback is {variant_id!r}, the bundle {bundle.manifest.name} has '
                          f'{", ".join(bundle.manifest.front)}')
    return min(offered, key=lambda c: (bundle.macs(c.variant_id), c.candidate_id))


def cache_dir_of(text: str) -> Path:
    """Return the cache folder of a `cache_dir` parameter."""
    return Path(text).expanduser() if text else default_cache_dir()


def open_engine_room(parameters: CameraInferenceParameters, *,
                     progress: Optional[Progress] = None) -> EngineRoom:
    """
    Open and verify the bundle, write its graphs to the cache, compile the fallback.

    :param progress: called with (bytes done, bytes in all) while the cache is written
    :raises BundleError: damaged, missing, or written for another version
    :raises BackendError: the engine cannot run it
    """
    bundle = open_bundle(parameters.bundle)
    backend = make_backend(parameters.backend, parameters.backend_repeat)
    cache_dir = cache_dir_of(parameters.cache_dir)
    segments = materialise(bundle, cache_dir, progress=progress)
    measured = KeptMemory(kept_tables_path(bundle, backend, cache_dir,
                                           repeat=parameters.backend_repeat))
    pool = Pool(backend, segments, measured=measured)
    executor = Executor(bundle.classes, Preprocessor(bundle.input))
    fallback = leanest(bundle, parameters.fallback)
    executor.switch(fallback, pool.prepare(fallback), FIRST_PLAN_SEQ)
    helped = HelpedPlans(pool, segments)
    switcher = PlanSwitcher(executor, pool, in_force_id=fallback.candidate_id, helped=helped)
    return EngineRoom(bundle, pool, executor, switcher, helped, fallback,
                      tuple(backend.warnings))
