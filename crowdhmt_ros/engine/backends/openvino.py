# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
OpenVINO behind the engine seam (P III-C1).

On processors with bf16 instructions OpenVINO computes in bf16 unless told otherwise, with errors
of 1e-3: the precision of the plan is always handed over. It reads the segment's file itself and
maps the external weights.
"""
from __future__ import annotations

from typing import Any, Dict, Sequence, Tuple

import numpy as np

from crowdhmt_ros.engine.backends.common import (
    Abilities,
    TurnExecutable,
    compare_specs,
    first_line,
    import_engine,
    least_bytes,
    refusal_of,
    refuse,
    resident_bytes,
    writable_view,
)
from crowdhmt_ros.errors import BackendError
from crowdhmt_ros.types import EngineOptions, Segment, TensorSpec

DEVICE = 'CPU'
_ERRORS = (RuntimeError, ValueError, TypeError, MemoryError, OSError)
_HINTS = {'fp32': 'f32', 'bf16': 'bf16', 'fp16': 'f16', 'int8': 'f32'}
_CAPABILITIES = {'bf16': 'BF16', 'fp16': 'FP16', 'int8': 'INT8'}


class OpenVinoExecutable(TurnExecutable):
    """
    One infer request whose tensors are the caller's buffers.

    :param openvino: the module
    :param compiled: an openvino.CompiledModel
    """

    def __init__(self, openvino: Any, compiled: Any, segment: Segment, *,
                 memory_bytes: int) -> None:
        super().__init__(segment, memory_bytes=memory_bytes, errors=_ERRORS)
        self._openvino = openvino
        self._request = compiled.create_infer_request()

    def _bind(self, inputs: Sequence[np.ndarray], outputs: Sequence[np.ndarray]) -> None:
        for index, buffer in enumerate(inputs):
            self._request.set_input_tensor(index, self._shared(buffer))
        for index, buffer in enumerate(outputs):
            self._request.set_output_tensor(index, self._shared(buffer))

    def _shared(self, buffer: np.ndarray) -> Any:
        return self._openvino.Tensor(writable_view(buffer), shared_memory=True)

    def _compute(self) -> None:
        # In this thread; a start and a wait would cost 20 us for handing over to another one.
        self._request.infer(share_outputs=True)


class OpenVinoBackend:
    """
    OpenVINO on the processor.

    :raises BackendError: when it is not installed
    """

    def __init__(self) -> None:
        self._openvino = import_engine('openvino', 'OpenVINO',
                                       'pip install crowdhmt-ros[openvino]')
        try:
            self._core = self._openvino.Core()
            found = self._core.get_property(DEVICE, 'OPTIMIZATION_CAPABILITIES')
        except _ERRORS as error:
            raise BackendError('OpenVINO does not start: %s' % first_line(error)) from error
        precisions = ('fp32', *(p for p, c in _CAPABILITIES.items() if c in found))
        self._able = Abilities(self.name, 'OpenVINO', precisions)

    @property
    def name(self) -> str:
        """'openvino'."""
        return 'openvino'

    @property
    def version(self) -> str:
        """Release of the module."""
        return str(self._openvino.__version__).split('-')[0]

    @property
    def warnings(self) -> Tuple[str, ...]:
        """Nothing: it runs where it says, or not at all."""
        return ()

    def providers(self) -> Tuple[str, ...]:
        """Return its device."""
        return (DEVICE,)

    def precisions(self) -> Tuple[str, ...]:
        """See `Backend.precisions`; those for which this processor has instructions."""
        return self._able.precisions

    def refusal(self, segment: Segment, options: EngineOptions) -> str:
        """See `Backend.refusal`."""
        return refusal_of(self._able, segment, options)

    def compile(self, segment: Segment, options: EngineOptions) -> OpenVinoExecutable:
        """See `Backend.compile`."""
        refuse(self.refusal(segment, options))
        before = resident_bytes()
        try:
            compiled = self._core.compile_model(
                self._core.read_model(segment.path), DEVICE, _settings(options))
            for role, declared, ports in (('input', segment.inputs, compiled.inputs),
                                          ('output', segment.outputs, compiled.outputs)):
                compare_specs(segment, role, declared, _specs(ports, declared))
            taken = max(resident_bytes() - before, least_bytes(segment))
            return OpenVinoExecutable(self._openvino, compiled, segment, memory_bytes=taken)
        except _ERRORS as error:
            raise BackendError('segment %s cannot be compiled by OpenVINO: %s' % (
                segment.segment_id, _cause(error))) from error


def _settings(options: EngineOptions) -> Dict[str, Any]:
    return {'INFERENCE_PRECISION_HINT': _HINTS[options.precision],
            'INFERENCE_NUM_THREADS': options.threads, 'NUM_STREAMS': 1,
            'PERFORMANCE_HINT': 'LATENCY', 'ENABLE_CPU_PINNING': False}


def _specs(ports: Sequence[Any], declared: Sequence[TensorSpec]) -> Tuple[TensorSpec, ...]:
    """Return what ports are; one may bear several names, of operators that were taken out."""
    names = [spec.name for spec in declared] + [''] * len(ports)
    return tuple(TensorSpec(wanted if wanted in port.get_names() else port.any_name,
                            str(np.dtype(port.element_type.to_dtype())),
                            tuple(int(extent) for extent in port.shape))
                 for port, wanted in zip(ports, names))


def _cause(error: Exception) -> str:
    """Return the line that says what is wrong; the first ones name OpenVINO's source files."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    said = [line for line in lines if not line.startswith(('Exception from', 'Check '))]
    return (said or lines or [type(error).__name__])[0][:300]
