# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""One image with its time and, where the source knows it, its truth."""
from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

import numpy as np

from crowdhmt_ros.types import FrameTruth

SCENES = 'scenes'
PHOTOS = 'photos'
DOMAINS = (SCENES, PHOTOS)


@dataclass(frozen=True, eq=False)
class Frame:
    """
    One image in memory.

    :param image: (H, W, 3) uint8 in the order blue, green, red, or (H, W) uint8 grey; not to
        be written to
    :param stamp_ns: node clock at capture
    :param frame_id: coordinate frame of the camera
    :param received_s: monotonic clock when the image lay in memory
    :param domain: one of `DOMAINS`: rendered scenes or real photos
    :param truth: what is to be seen, None where nobody knows
    :param message_header: header of the message that it came with, returned untouched with
        the answer; None for a source of our own
    """

    image: np.ndarray
    stamp_ns: int
    frame_id: str
    received_s: float
    domain: str = PHOTOS
    truth: Optional[FrameTruth] = None
    message_header: object = None
