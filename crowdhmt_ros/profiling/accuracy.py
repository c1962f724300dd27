# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
The accuracy to expect under the present condition of the images.

The bundle states the ratio of right answers per condition, measured offline on images held back
from training. On the robot there is no truth, so the condition picks the figure.
"""
from __future__ import annotations

import math
from typing import Mapping

from crowdhmt_ros.errors import ConfigError
from crowdhmt_ros.types import ESTIMATED, MEASURED, Estimate

PHOTOS = 'photos'
"""The condition that stands for images of unknown origin."""


def accuracy_now(accuracy: Mapping[str, float], condition: str) -> Estimate:
    """
    Return the ratio of right answers to expect.

    :param accuracy: condition -> ratio 0..1, empty where nobody counted
    :param condition: condition of the images, '' while unknown
    :returns: the figure of that condition; without one that of real photos; without that the
        mean over all conditions. The last two are marked as estimated. Where nobody counted,
        not a number: it breaks no floor and weighs nothing.
    """
    if not accuracy:
        value, source = math.nan, ESTIMATED
    elif condition in accuracy:
        value, source = accuracy[condition], MEASURED
    elif PHOTOS in accuracy:
        value, source = accuracy[PHOTOS], ESTIMATED
    else:
        value, source = mean_accuracy(accuracy), ESTIMATED
    return Estimate(value, value, source)


def mean_accuracy(accuracy: Mapping[str, float]) -> float:
    """
    Return the mean over all conditions, each counted once.

    :raises ConfigError: when no condition is stated
    """
    if not accuracy:
        raise ConfigError('a variant states no accuracy at all: rebuild the bundle with one')
    return sum(accuracy.values()) / len(accuracy)
