# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Draw an answer on a copy of the image, for people who look on."""
from __future__ import annotations

from typing import Optional, Sequence

import cv2
import numpy as np

from crowdhmt_ros.types import FrameTruth

_FONT = cv2.FONT_HERSHEY_SIMPLEX
_WHITE, _BLACK = (255, 255, 255), (0, 0, 0)
_RIGHT, _WRONG = (80, 200, 80), (60, 60, 230)
MIN_WIDTH = 320


def draw(image: np.ndarray, label: str, score: float, lines: Sequence[str] = (), *,
         truth: Optional[FrameTruth] = None) -> np.ndarray:
    """
    Draw label, score and some lines on a copy of an image.

    :param image: (H, W, 3) or (H, W) uint8, not changed
    :param label: the answer
    :param score: its probability, 0..1
    :param lines: shown below, for example the variant that runs
    :param truth: where known, its box is drawn and the label coloured right or wrong
    :returns: (H', W', 3) uint8 blue-green-red, enlarged by a whole factor to at least
        `MIN_WIDTH` columns so that the text can be read
    """
    canvas = cv2.cvtColor(image, cv2.COLOR_GRAY2BGR) if image.ndim == 2 else image
    factor = max(1, -(-MIN_WIDTH // canvas.shape[1]))
    canvas = cv2.resize(canvas, None, fx=factor, fy=factor, interpolation=cv2.INTER_NEAREST)
    colour = _WHITE if truth is None else _RIGHT if truth.label == label else _WRONG
    if truth is not None and truth.box is not None:
        _draw_box(canvas, truth.box, colour)
    _draw_text(canvas, '%s %.0f %%' % (label, 100.0 * score), 18, colour)
    for index, line in enumerate(lines):
        _draw_text(canvas, line, 36 + 16 * index, _WHITE, size=0.4)
    return np.asarray(canvas)


def _draw_box(canvas: np.ndarray, box: Sequence[float], colour: Sequence[int]) -> None:
    height, width = canvas.shape[:2]
    corner = (int(box[0] * width), int(box[1] * height))
    cv2.rectangle(canvas, corner, (int(box[2] * width), int(box[3] * height)), colour, 1)


def _draw_text(canvas: np.ndarray, text: str, row: int, colour: Sequence[int],
               size: float = 0.55) -> None:
    place = (6, row)
    cv2.putText(canvas, text, place, _FONT, size, _BLACK, 3, cv2.LINE_AA)
    cv2.putText(canvas, text, place, _FONT, size, colour, 1, cv2.LINE_AA)
