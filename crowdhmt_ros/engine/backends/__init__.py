# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The engines there are, by name."""
from __future__ import annotations

from typing import Callable, Mapping

from crowdhmt_ros.engine.backend import Backend
from crowdhmt_ros.engine.backends.onnxruntime import OnnxRuntimeBackend
from crowdhmt_ros.engine.backends.repeating import RepeatingBackend
from crowdhmt_ros.errors import BackendError

BACKENDS: Mapping[str, Callable[[], Backend]] = {
    'onnxruntime': OnnxRuntimeBackend,
}


def make_backend(name: str, repeat: int = 1) -> Backend:
    """
    Return an engine by its name.

    :param name: a key of `BACKENDS`
    :param repeat: runs each inference so many times, as a slower device would take
    :raises BackendError: unknown name or a repetition below 1
    """
    if name not in BACKENDS:
        raise BackendError('there is no backend %r, choose one of %s' % (
            name, ', '.join(sorted(BACKENDS))))
    inner = BACKENDS[name]()
    return inner if repeat == 1 else RepeatingBackend(inner, repeat)
