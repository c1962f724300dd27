# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What a segment server is made of: what it serves, within which limits, and its neighbours."""
from __future__ import annotations

from dataclasses import dataclass, field
from typing import Callable, Mapping, Optional, Protocol, Sequence, Tuple

import numpy as np

from crowdhmt_ros.offload.admission import QueueLimits
from crowdhmt_ros.offload.codec import FP16, INT8, JPEG, RAW, largest_payload
from crowdhmt_ros.offload.leases import LeaseLimits
from crowdhmt_ros.types import EngineOptions, Segment

TENSOR_CODECS = (RAW, FP16, INT8)
WHOLE_CODECS = (JPEG, *TENSOR_CODECS)

Prepare = Callable[[np.ndarray, np.ndarray], None]
"""Image of the model's size (H, W, 3) uint8 blue-green-red, input tensor to be overwritten."""


class Runnable(Protocol):
    """What the pool holds for a segment."""

    def run(self, inputs: Sequence[np.ndarray], outputs: Sequence[np.ndarray]) -> None:
        """Compute outputs from inputs; raises BackendError."""


class GuestPool(Protocol):
    """Where segments are compiled and kept; `engine.pool.Pool` is one."""

    def hold(self, segment_id: str, options: EngineOptions) -> Runnable:
        """Return the executable of a segment and keep it; raises BackendError."""

    def unhold(self, segment_id: str, options: EngineOptions) -> None:
        """Undo one `hold`."""

    def segment_bytes(self, segment_id: str, options: EngineOptions) -> float:
        """Return what one segment takes, 0 where that is unknown."""

    @property
    def held_bytes(self) -> float:
        """What all that is held takes."""


class GuestTurns(Protocol):
    """When a guest may compute; `engine.turns.Turns` is one."""

    def guest(self, timeout_s: float) -> bool:
        """Wait for a gap between own frames; False when none came in time."""


@dataclass(frozen=True)
class Served:
    """
    One segment that peers may ask for.

    :param segment: as in this robot's bundle
    :param codecs: how its input may be packed
    """

    segment: Segment
    codecs: Tuple[str, ...] = TENSOR_CODECS

    @property
    def max_payload_bytes(self) -> int:
        """Longest payload that can be right, however it is packed."""
        return max(largest_payload(codec, self.segment.inputs) for codec in self.codecs)


@dataclass(frozen=True)
class ServerSettings:
    """
    How a server works.

    :param robot_id: own name
    :param bundle_sha256: of the bundle that is served
    :param options: how the engine runs guests' segments
    :param leases: what is granted at most
    :param queue: how much may wait
    """

    robot_id: str
    bundle_sha256: str
    options: EngineOptions = field(default_factory=EngineOptions)
    leases: LeaseLimits = field(default_factory=LeaseLimits)
    queue: QueueLimits = field(default_factory=QueueLimits)


@dataclass(frozen=True)
class ServerHealth:
    """
    How a server does.

    :param refused: kind of refusal (`refusals`) -> how often
    :param run_s: mean of the last runs, None before the first
    """

    leases: int
    held_bytes: float
    queued: int
    served: int
    cancelled: int
    expired: int
    refused: Mapping[str, int]
    run_s: Optional[float]
