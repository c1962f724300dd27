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
    ENGINE_ERRORS,
    Abilities,
    EngineBackend,
    TurnExecutable,
    compare_specs,
    first_line,
    import_engine,
    writable_view,
)
from crowdhmt_ros.errors import BackendError
from crowdhmt_ros.types import EngineOptions, Segment, TensorSpec

DEVICE = 'CPU'
_HINTS = {'fp32': 'f32', 'bf16': 'bf16', 'fp16': 'f16', 'int8': 'f32'}
_CAPABILITIES = {'bf16': 'BF16', 'fp16': 'FP16', 'int8': 'INT8'}


class OpenVinoExecutable(TurnExecutable):
    """
    One infer request whose tensors are the caller's buffers.

    :param openvino: the module
    :param compiled: an openvino.CompiledModel
    """

    def __init__(self, openvino: Any, compiled: Any, segment: Segment) -> None:
        super().__init__(segment, errors=ENGINE_ERRORS)
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


class OpenVinoBackend(EngineBackend[OpenVinoExecutable]):
    """
    OpenVINO on the processor, in the precisions for which that has instructions.

    :raises BackendError: when it is not installed
    """

    def __init__(self) -> None:
        self._openvino = import_engine('openvino', 'OpenVINO',
                                       'pip install crowdhmt-ros[openvino]')
        try:
            self._core = self._openvino.Core()
            found = self._core.get_property(DEVICE, 'OPTIMIZATION_CAPABILITIES')
        except ENGINE_ERRORS as error:
            raise BackendError('OpenVINO does not start: %s' % first_line(error)) from error
        precisions = ('fp32', *(p for p, c in _CAPABILITIES.items() if c in found))
        super().__init__(Abilities('openvino', 'OpenVINO', precisions),
                         str(self._openvino.__version__).split('-')[0])

    def providers(self) -> Tuple[str, ...]:
        """Return its device."""
        return (DEVICE,)

    def _make(self, segment: Segment, options: EngineOptions) -> OpenVinoExecutable:
        compiled = self._core.compile_model(
            self._core.read_model(segment.path), DEVICE, _settings(options))
        for role, declared, ports in (('input', segment.inputs, compiled.inputs),
                                      ('output', segment.outputs, compiled.outputs)):
            compare_specs(segment, role, declared, _specs(ports, declared))
        return OpenVinoExecutable(self._openvino, compiled, segment)

    def _cause(self, error: Exception) -> str:
        """Return the line that says what is wrong; the first name OpenVINO's source files."""
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        said = [line for line in lines if not line.startswith(('Exception from', 'Check '))]
        return (said or lines or [type(error).__name__])[0][:300]


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
