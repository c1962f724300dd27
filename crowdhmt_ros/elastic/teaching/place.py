# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Where a training computes, and in which precision: said aloud, never chosen silently.

bfloat16 pays only where the processor has instructions for it: elsewhere it is several times
slower than float32, and is left off.
"""
from __future__ import annotations

import logging
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import FrozenSet, Tuple, Union

import torch
from torch import nn

from crowdhmt_ros.errors import ConfigError

logger = logging.getLogger(__name__)
CPU_FLAGS = ('avx512_bf16', 'amx_bf16')
"""Flags of a processor that computes in bfloat16; 'bf16' is the name on Arm."""
_CPUINFO = Path('/proc/cpuinfo')


@dataclass(frozen=True)
class Place:
    """
    A device and a precision.

    :param device: 'cpu', 'cuda' or 'cuda:N'
    :param autocast: whether products are computed in bfloat16
    :param reason: for the precision, for a person
    """

    device: str = 'cpu'
    autocast: bool = False
    reason: str = 'asked for'

    @property
    def is_gpu(self) -> bool:
        """Whether the device is a graphics processor."""
        return self.device.startswith('cuda')

    def describe(self) -> str:
        """Return one line for a person."""
        return 'training on %s in %s: %s' % (
            self.device, 'bfloat16 autocast' if self.autocast else 'float32', self.reason)

    def settle(self, net: nn.Module) -> None:
        """Move a network here, in the layout that the device likes, and make it reproducible."""
        net.to(self.device)
        if self.is_gpu:
            net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            torch.backends.cudnn.deterministic = True
            torch.backends.cudnn.benchmark = False

    def computing(self) -> AbstractContextManager[object]:
        """Enter the precision, for the forward pass."""
        if not self.autocast:
            return nullcontext()
        return torch.autocast(self.device.partition(':')[0], dtype=torch.bfloat16)

    def brought(self, inputs: torch.Tensor, labels: torch.Tensor
                ) -> Tuple[torch.Tensor, torch.Tensor]:
        """Bring a batch here; on a GPU through pinned memory, while it still computes."""
        layout = torch.channels_last if inputs.ndim == 4 else torch.contiguous_format
        inputs = inputs.contiguous(memory_format=layout)
        if not self.is_gpu:
            return inputs, labels
        inputs, labels = inputs.pin_memory(), labels.pin_memory()
        return (inputs.to(self.device, non_blocking=True),
                labels.to(self.device, non_blocking=True))


def cpu_flags() -> FrozenSet[str]:
    """Return the flags of this machine's processor; none where it does not tell."""
    try:
        lines = _CPUINFO.read_text(encoding='utf-8', errors='replace').splitlines()
    except OSError:
        return frozenset()
    found = [line.partition(':')[2].split() for line in lines
             if line.lower().startswith(('flags', 'features'))]
    return frozenset(found[0]) if found else frozenset()


def place_for(device: str = 'cpu', precision: str = 'auto', *,
              flags: Union[FrozenSet[str], None] = None) -> Place:
    """
    Choose the precision for a device, and log it with the reason.

    :param device: 'cpu', 'cuda' or 'cuda:N'
    :param precision: of the recipe: 'auto', 'float32' or 'bfloat16'
    :param flags: of the processor, None to ask this machine
    :raises ConfigError: no such device here, or it does not compute in bfloat16
    """
    if device.startswith('cuda'):
        if not torch.cuda.is_available():
            raise ConfigError('device %s: torch finds no GPU here; train on the cpu' % device)
        able, seen = bool(torch.cuda.is_bf16_supported()), 'the GPU'
    elif device == 'cpu':
        flags = cpu_flags() if flags is None else flags
        named = sorted(flags & {*CPU_FLAGS, 'bf16'})
        able, seen = bool(named), 'the processor (%s)' % (', '.join(named) or 'no %s'
                                                         % ' and no '.join(CPU_FLAGS))
    else:
        raise ConfigError('device %r is not known; choose cpu, cuda or cuda:N' % device)
    if precision == 'bfloat16' and not able:
        raise ConfigError('precision bfloat16: %s does not compute in it; choose auto or float32'
                          % seen)
    reason = 'asked for' if precision != 'auto' else '%s %s bfloat16' % (
        seen, 'has' if able else 'lacks')
    place = Place(device, able and precision != 'float32', reason)
    logger.info('%s', place.describe())
    return place
