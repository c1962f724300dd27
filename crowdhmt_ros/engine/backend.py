# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
The seam to an inference engine (P III-C1).

A backend compiles a segment into an executable; an executable runs on buffers that the
caller owns, so that nothing is allocated per frame. To add an engine, write one module in
`backends/` and name its class in `backends.BACKENDS`.
"""
from __future__ import annotations

from typing import Protocol, Sequence, Tuple

import numpy as np

from crowdhmt_ros.errors import BackendError
from crowdhmt_ros.types import EngineOptions, Segment, TensorSpec


class Executable(Protocol):
    """One compiled segment. Runs from several threads take turns."""

    @property
    def memory_bytes(self) -> int:
        """What it takes while it is resident, weights included, as far as known."""

    @property
    def inputs(self) -> Tuple[TensorSpec, ...]:
        """What `run` reads, in order."""

    @property
    def outputs(self) -> Tuple[TensorSpec, ...]:
        """What `run` writes, in order."""

    def run(self, inputs: Sequence[np.ndarray], outputs: Sequence[np.ndarray]) -> None:
        """
        Compute outputs from inputs.

        :param inputs: C-contiguous, as `inputs` says; only read
        :param outputs: C-contiguous and writable, as `outputs` says; overwritten
        :raises BackendError: when the engine fails or a buffer does not fit
        """


class Backend(Protocol):
    """One inference engine on one device."""

    @property
    def name(self) -> str:
        """Name in `EngineOptions.backend`."""

    @property
    def version(self) -> str:
        """Release of the engine; tables measured with another one do not count."""

    @property
    def warnings(self) -> Tuple[str, ...]:
        """What differs from what was asked for, for example a provider that is not there."""

    def providers(self) -> Tuple[str, ...]:
        """Return the execution providers that are really in force, best first."""

    def precisions(self) -> Tuple[str, ...]:
        """
        Return what `EngineOptions.precision` may be on this machine, the default first.

        'int8' means the integers of a quantised graph; all others are made from any graph.
        """

    def refusal(self, segment: Segment, options: EngineOptions) -> str:
        """
        Tell why this engine cannot run a segment so, without compiling it.

        :returns: one line, '' when it can as far as the file and the options tell
        :raises BackendError: when the file has to be looked into and cannot be read
        """

    def compile(self, segment: Segment, options: EngineOptions) -> Executable:
        """
        Make a segment ready to run.

        :param segment: materialised on this device
        :param options: how to run it
        :raises BackendError: when the engine cannot, or the file is not what it claims to be
        """


def check_buffers(specs: Sequence[TensorSpec], buffers: Sequence[np.ndarray],
                  role: str) -> None:
    """
    Check that buffers may be handed to an engine by their address.

    :param specs: what the engine expects
    :param buffers: what the caller gave
    :param role: 'input' or 'output'; outputs must be writable
    :raises BackendError: naming the first buffer that does not fit
    """
    if len(specs) != len(buffers):
        raise BackendError('%d %s buffers were given, the model has %d' % (
            len(buffers), role, len(specs)))
    for spec, buffer in zip(specs, buffers):
        if buffer.shape != spec.shape or buffer.dtype != np.dtype(spec.dtype):
            raise BackendError('%s %s is %s %r, the model expects %s %r' % (
                role, spec.name, buffer.dtype, buffer.shape, spec.dtype, spec.shape))
        if not buffer.flags.c_contiguous or (role == 'output' and not buffer.flags.writeable):
            raise BackendError('%s %s must be C-contiguous%s' % (
                role, spec.name, ' and writable' if role == 'output' else ''))


def make_buffers(specs: Sequence[TensorSpec]) -> Tuple[np.ndarray, ...]:
    """Return one zeroed buffer for each spec."""
    return tuple(np.zeros(spec.shape, dtype=spec.dtype) for spec in specs)
