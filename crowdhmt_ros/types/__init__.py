# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
The frozen values that cross the borders between rooms.

Unknown is `None`, never 0. Each number carries its unit in its name. Durations are
seconds on a monotonic clock, stamps are seconds on the node's clock.
"""
from __future__ import annotations

from crowdhmt_ros.types.answers import (
    FrameTruth,
    Inference,
)
from crowdhmt_ros.types.candidates import (
    HERE,
    Candidate,
    CostEstimate,
    EnergyCoefficients,
    EngineOptions,
    ExitCost,
    FrontEntry,
    Placement,
    RemoteOption,
    SegmentPlacement,
    engine_named,
)
from crowdhmt_ros.types.cores import CoreLoad
from crowdhmt_ros.types.fleet import (
    Advert,
    Away,
    Crossing,
    PeerStatus,
)
from crowdhmt_ros.types.models import (
    PRECISIONS,
    EarlyExit,
    InputSpec,
    LayerCost,
    OperatorChoice,
    ParameterValue,
    Segment,
    TensorSpec,
    Variant,
)
from crowdhmt_ros.types.plans import (
    BundleIdentity,
    CostCorrection,
    Feedback,
    LeftOut,
    LoopState,
    Plan,
    Requirements,
    Violation,
)
from crowdhmt_ros.types.resources import (
    ABSENT,
    ESTIMATED,
    MEASURED,
    NO_READING,
    READING_FIELDS,
    REPLAYED,
    SOURCES,
    Estimate,
    Reading,
    ResourceSnapshot,
)
from crowdhmt_ros.types.variant_json import (
    variant_from_json,
    variant_to_json,
)

__all__ = [
    'ABSENT',
    'Advert',
    'Away',
    'BundleIdentity',
    'Candidate',
    'CoreLoad',
    'CostCorrection',
    'CostEstimate',
    'Crossing',
    'ESTIMATED',
    'EarlyExit',
    'EnergyCoefficients',
    'EngineOptions',
    'Estimate',
    'ExitCost',
    'Feedback',
    'FrameTruth',
    'FrontEntry',
    'HERE',
    'Inference',
    'InputSpec',
    'LayerCost',
    'LeftOut',
    'LoopState',
    'MEASURED',
    'NO_READING',
    'OperatorChoice',
    'PRECISIONS',
    'ParameterValue',
    'PeerStatus',
    'Placement',
    'Plan',
    'READING_FIELDS',
    'REPLAYED',
    'Reading',
    'RemoteOption',
    'Requirements',
    'ResourceSnapshot',
    'SOURCES',
    'Segment',
    'SegmentPlacement',
    'TensorSpec',
    'Variant',
    'Violation',
    'engine_named',
    'variant_from_json',
    'variant_to_json',
]
