# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
The campus as a film: encounters of one to four seconds, one object at a time.

A frame depends on (scenario, seed, time) only. Encounters follow each other without gaps; their
classes are dealt from shuffled decks, so that each class of the view comes up evenly and the order
cannot be guessed. Within an encounter the object moves, what hides it passes by, and the light
follows the scenario.
"""
from __future__ import annotations

import bisect
import math
from dataclasses import dataclass, replace
from typing import List, Optional, Tuple

import numpy as np

from crowdhmt_ros.campus.light import band_of, light_ratio_at
from crowdhmt_ros.campus.paint import Dice, Image
from crowdhmt_ros.campus.sampling import nearest_m, sample_scene
from crowdhmt_ros.campus.scenario import Scenario
from crowdhmt_ros.campus.scene import (
    CLASSES,
    FRAME_HEIGHT,
    FRAME_WIDTH,
    Box,
    Scene,
    classes_of,
    render_with_box,
)

SHORTEST_S = 1.0
LONGEST_S = 4.0
_SAME_PLACE = 3
_WORLD_TAG = 0xCA3B05


@dataclass(frozen=True)
class Truth:
    """
    What a frame of the world shows.

    :param class_index: index into scene.CLASSES.
    :param label: one of scene.CLASSES.
    :param box: (x0, y0, x1, y1) as ratios of the picture, None when nothing is there.
    :param light_band: 'noon', 'afternoon' or 'dusk'.
    :param light_ratio: 0 noon .. 1 nightfall.
    """

    class_index: int
    label: str
    box: Optional[Box]
    light_band: str
    light_ratio: float


@dataclass(frozen=True)
class _Encounter:
    """One object passing through the view; positions at its start and end."""

    start_s: float
    duration_s: float
    scene: Scene
    end_x_ratio: float
    end_distance_m: float
    end_scale_ratio: float
    turn_rad: float
    cycles_hz: float
    speed_m_s: float


class World:
    """The world that one robot's camera sees."""

    def __init__(self, scenario: Scenario, view: Optional[str] = None,
                 seed: Optional[int] = None) -> None:
        """
        Prepare a world; frames are made on demand.

        :param scenario: gives the light and the duration of the day.
        :param view: 'vehicle' or 'drone'; the scenario's when None.
        :param seed: the scenario's when None.
        """
        self.scenario = scenario
        self.view = scenario.view if view is None else view
        self.seed = scenario.seed if seed is None else seed
        self._labels = classes_of(self.view)
        self._starts_s: List[float] = [0.0]
        self._lengths_s: List[float] = []
        self._latest: Optional[Tuple[int, _Encounter]] = None

    def frame_at(self, t_s: float, width: int = FRAME_WIDTH,
                 height: int = FRAME_HEIGHT) -> Tuple[Image, Truth]:
        """
        Picture and truth at a time.

        :param t_s: since the start, 0 or more; goes on after the scenario's end in its last light.
        :returns: picture (H, W, 3) uint8 blue-green-red, and what it shows.
        :raises ValueError: time is negative or not a number.
        """
        scene = self.scene_at(t_s)
        image, box = render_with_box(scene, width, height)
        return image, Truth(scene.class_index, scene.label, box, scene.light_band,
                            scene.light_ratio)

    def scene_at(self, t_s: float) -> Scene:
        """
        Scene at a time.

        :param t_s: since the start, 0 or more.
        :raises ValueError: time is negative or not a number.
        """
        if not (math.isfinite(t_s) and t_s >= 0.0):
            raise ValueError(f't_s must be 0 or more, not {t_s}')
        encounter = self._encounter(self._index_at(t_s))
        since_s = t_s - encounter.start_s
        u = since_s / encounter.duration_s
        scene = encounter.scene
        return replace(
            scene, light_ratio=self._light_ratio(t_s),
            x_ratio=_between(scene.x_ratio, encounter.end_x_ratio, u),
            distance_m=_between(scene.distance_m, encounter.end_distance_m, u),
            scale_ratio=_between(scene.scale_ratio, encounter.end_scale_ratio, u),
            heading_rad=scene.heading_rad + encounter.turn_rad * u,
            phase_ratio=(scene.phase_ratio + encounter.cycles_hz * since_s) % 1.0,
            travel_m=scene.travel_m + encounter.speed_m_s * since_s,
            occluder_shift_ratio=_between(-1.4, 1.4, u),
            noise_seed=(scene.noise_seed + round(t_s * 1000.0) * 7919) % 2 ** 31)

    def _light_ratio(self, t_s: float) -> float:
        return light_ratio_at(self.scenario.fraction(t_s), self.scenario.light)

    def _index_at(self, t_s: float) -> int:
        """Which encounter runs at a time; lengths are drawn in order and kept."""
        while self._starts_s[-1] <= t_s:
            index = len(self._lengths_s)
            length_s = float(self._rng(index, 0).uniform(SHORTEST_S, LONGEST_S))
            self._lengths_s.append(length_s)
            self._starts_s.append(self._starts_s[-1] + length_s)
        return bisect.bisect_right(self._starts_s, t_s) - 1

    def _rng(self, index: int, purpose: int) -> np.random.Generator:
        words = (_WORLD_TAG, self.scenario.seed, self.seed, int(self.view == 'drone'), index,
                 purpose)
        return np.random.Generator(np.random.PCG64(np.random.SeedSequence(words)))

    def _label(self, index: int) -> str:
        deck, card = divmod(index, len(self._labels))
        return self._labels[int(self._rng(deck, 1).permutation(len(self._labels))[card])]

    def _encounter(self, index: int) -> _Encounter:
        if self._latest is not None and self._latest[0] == index:
            return self._latest[1]
        encounter = self._make(index)
        self._latest = (index, encounter)
        return encounter

    def _make(self, index: int) -> _Encounter:
        start_s, duration_s = self._starts_s[index], self._lengths_s[index]
        rng = self._rng(index, 2)
        scene = sample_scene(rng, view=self.view, label=self._label(index),
                             light_band=band_of(self._light_ratio(start_s)))
        place = self._rng(index // _SAME_PLACE, 3)
        scene = replace(scene, background_seed=int(place.integers(2 ** 31)),
                        clutter_ratio=float(place.random()))
        if self.view == 'vehicle':
            scene = replace(scene, y_ratio=float(place.uniform(0.3, 0.5)))
        dice = Dice(int(rng.integers(2 ** 62)))
        drift = dice.span(-0.11, 0.11) * duration_s
        zoom = math.exp(-dice.span(0.0, 0.12) * duration_s)
        walks = scene.label in CLASSES[:3]
        return _Encounter(
            start_s=start_s, duration_s=duration_s, scene=scene,
            end_x_ratio=min(0.88, max(0.12, scene.x_ratio + drift)),
            end_distance_m=max(nearest_m(scene.label), scene.distance_m * zoom),
            end_scale_ratio=scene.scale_ratio / zoom ** 0.5,
            turn_rad=dice.span(-0.15, 0.15) * duration_s if walks or self.view == 'drone' else 0.0,
            cycles_hz=dice.span(2.0, 4.5) if scene.label == 'bird' else dice.span(0.7, 1.3),
            speed_m_s=dice.span(0.5, 4.0))


def _between(start: float, end: float, ratio: float) -> float:
    return start + (end - start) * ratio
