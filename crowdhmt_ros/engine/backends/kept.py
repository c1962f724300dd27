# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
ONNX Runtime's memory mode 'fast' without the wait, from graphs that it rewrote before (P III-C1).

Making such a session is nearly all rewriting: weights are laid out anew for the kernels. Over a
kept graph (`memory.optimised`) that falls away, its weights are mapped, and all else is as ever:
layouts, packed copies, arena, and so every bit of the answers. What is not kept, or damaged, is
rewritten in the process as before.
"""
from __future__ import annotations

import logging
from typing import Callable, Iterable, Optional, Tuple, Type

import onnxruntime

from crowdhmt_ros.engine.backends.common import first_line
from crowdhmt_ros.engine.backends.mapped import PROVIDERS, is_supported
from crowdhmt_ros.engine.memory.optimised import kept_graph, optimised_graph
from crowdhmt_ros.errors import BackendError
from crowdhmt_ros.types import EngineOptions, Segment

FAST = 'fast'
Progress = Callable[[float, str], None]
"""Takes the part done, 0..1, and what is being done."""
_log = logging.getLogger(__name__)


def kept_session(segment: Segment, options: EngineOptions, chosen: onnxruntime.SessionOptions, *,
                 engine_version: str, errors: Tuple[Type[Exception], ...]
                 ) -> Optional[onnxruntime.InferenceSession]:
    """
    Return a session over a kept graph, None where there is none for this mode or it is damaged.

    :param chosen: as for the graph that was not rewritten; its level is set to none
    :param engine_version: release of the engine
    :param errors: what the engine raises
    """
    if options.memory_mode != FAST or not is_supported(engine_version):
        return None
    kept = kept_graph(segment, options, engine_version)
    if kept is None:
        return None
    level = chosen.graph_optimization_level
    chosen.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        return onnxruntime.InferenceSession(kept.graph_path, chosen, providers=list(PROVIDERS))
    except errors as error:
        _log.warning('the rewritten graph %s is not used, %s is rewritten again: %s',
                     kept.graph_path, segment.segment_id, first_line(error))
        chosen.graph_optimization_level = level
        return None


def keep_rewritten(segments: Iterable[Segment], options: EngineOptions, engine_version: str, *,
                   progress: Optional[Progress] = None) -> Tuple[str, ...]:
    """
    Have segments rewritten and kept, about a second each; what is kept already takes none.

    Nobody should wait for it, nor lack what it takes: a processor, and memory of
    several times the weights in a process of its own.

    :param options: of which precision and fusion set matter
    :returns: segment ids that could not be kept, with a warning each: they are made ready as
        slowly as before
    """
    wanted, failed = tuple(segments), []
    if not is_supported(engine_version):
        return tuple(segment.segment_id for segment in wanted)
    for index, segment in enumerate(wanted):
        if progress is not None:
            progress(index / len(wanted), 'rewriting ' + segment.segment_id)
        try:
            optimised_graph(segment, options, engine_version)
        except BackendError as error:
            _log.warning('%s', error)
            failed.append(segment.segment_id)
    return tuple(failed)
