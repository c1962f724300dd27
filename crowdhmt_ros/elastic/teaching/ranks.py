# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Several processes that train as one, as `torchrun` starts them: gloo on the CPU, nccl on GPUs.

Each rank takes its share of every batch; normalisations see the joint batch (`sync_norms`) and
gradients are averaged, so all ranks hold the same tensors at every step. A single process is
a rank of its own.
"""
from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Callable, Dict, Iterable, List, Optional, Sequence, Tuple

import torch
import torch.distributed as dist
from torch.overrides import TorchFunctionMode

from crowdhmt_ros.elastic.norms import BatchNorms, Norms
from crowdhmt_ros.elastic.sync_norms import SyncNorms


@dataclass(frozen=True)
class Ranks:
    """
    This process among those that train together.

    :param rank: of this process, 0 writes checkpoints
    :param count: of processes
    """

    rank: int = 0
    count: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this process writes and reports."""
        return self.rank == 0

    def norms(self) -> Norms:
        """Return the strategy for batch normalisations in training."""
        return SyncNorms() if self.count > 1 else BatchNorms()

    def drawing(self) -> AbstractContextManager[object]:
        """Let dropout draw for the joint batch, of which each rank takes its rows."""
        return nullcontext() if self.count == 1 else _JointDropout(self)

    def average(self, tensors: Sequence[Optional[torch.Tensor]]) -> None:
        """
        Average tensors over the ranks, in place.

        :param tensors: None at the same places on every rank
        """
        there = [t for t in tensors if t is not None]
        if self.count == 1 or not there:
            return
        flat = torch.cat([t.reshape(-1) for t in there])
        dist.all_reduce(flat)
        flat /= self.count
        for tensor, part in zip(there, torch.split(flat, [t.numel() for t in there])):
            tensor.copy_(part.view_as(tensor))

    def agree(self, tensors: Iterable[torch.Tensor]) -> None:
        """Give every rank the first one's values, in place."""
        if self.count > 1:
            for tensor in tensors:
                dist.broadcast(tensor.detach(), 0)


def ranks_from_environment(device: str = 'cpu') -> Ranks:
    """
    Join the processes that `torchrun` started; a process without them is alone.

    :param device: 'cpu' for gloo, else nccl
    """
    if int(os.environ.get('WORLD_SIZE', '1')) == 1:
        return Ranks()
    if not dist.is_initialized():
        dist.init_process_group('gloo' if device == 'cpu' else 'nccl')
    return Ranks(dist.get_rank(), dist.get_world_size())


def own_device(device: str) -> str:
    """Return the GPU of this process, where `torchrun` started one for each."""
    local = os.environ.get('LOCAL_RANK')
    return 'cuda:%s' % local if device == 'cuda' and local is not None else device


class _JointDropout(TorchFunctionMode):
    """Replaces dropout by one whose draws do not depend on how a batch is shared."""

    def __init__(self, ranks: Ranks) -> None:
        super().__init__()
        self._ranks = ranks

    def __torch_function__(self, func: Callable[..., Any], types: Any,
                           args: Tuple[Any, ...] = (), kwargs: Optional[Dict[str, Any]] = None
                           ) -> Any:
        """Call a torch function, or drop."""
        if func is not torch.nn.functional.dropout:
            return func(*args, **(kwargs or {}))
        return self._dropout(*args, **(kwargs or {}))

    def _dropout(self, input: torch.Tensor, p: float = 0.5,  # noqa: A002 - torch's name
                 training: bool = True, inplace: bool = False) -> torch.Tensor:
        if not training or p == 0.0:
            return input
        rows = len(input)
        shape: List[int] = [rows * self._ranks.count, *input.shape[1:]]
        kept = torch.empty(shape, device=input.device).bernoulli_(1.0 - p).div_(1.0 - p)
        start = self._ranks.rank * rows
        return input * kept[start:start + rows].to(input.dtype)
