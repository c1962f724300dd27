# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Plays a scenario: what the robot's world is like at a time, free of ROS and of clocks."""
from __future__ import annotations

from dataclasses import dataclass

from crowdhmt_ros.campus.battery import Battery
from crowdhmt_ros.campus.light import band_of, light_ratio_at
from crowdhmt_ros.campus.scenario import Scenario


@dataclass(frozen=True)
class WorldState:
    """
    One moment of a scenario.

    :param battery_ratio: charge left, 0..1.
    :param memory_allotted_bytes: bytes that inference may take.
    :param latency_budget_s: from frame to answer.
    :param accuracy_floor: lowest acceptable accuracy, 0..1.
    :param phase: name of the phase.
    :param light_band: 'noon', 'afternoon' or 'dusk'.
    :param light_ratio: 0 noon .. 1 nightfall.
    """

    battery_ratio: float
    memory_allotted_bytes: int
    latency_budget_s: float
    accuracy_floor: float
    phase: str
    light_band: str
    light_ratio: float


class ScenarioPlayer:
    """
    A scenario as a function of time and of the energy that inference has taken.

    The battery depends on totals only, not on how often it is asked: the same energy gives the
    same charge whether the player is polled at 1 Hz or at 100 Hz.
    """

    def __init__(self, scenario: Scenario) -> None:
        """
        Start with the scenario's battery.

        :param scenario: what to play.
        """
        self.scenario = scenario
        self._full = Battery(scenario.capacity_j, scenario.battery_start_ratio,
                             scenario.time_compression_ratio)

    def at(self, t_s: float, inference_energy_j_total: float) -> WorldState:
        """
        State of the world.

        :param t_s: since the start; held within the duration.
        :param inference_energy_j_total: energy that inference has taken since the start.
        :raises ValueError: the energy is negative or unknown.
        """
        scenario = self.scenario
        now_s = min(scenario.duration_s, max(0.0, t_s))
        phase = scenario.phase_at(now_s)
        light_ratio = light_ratio_at(scenario.fraction(now_s), scenario.light)
        battery = self._full.drain(scenario.base_load_w, inference_energy_j_total, now_s)
        return WorldState(
            battery_ratio=battery.ratio,
            memory_allotted_bytes=scenario.memory_bytes_at(now_s),
            latency_budget_s=phase.latency_budget_s, accuracy_floor=phase.accuracy_floor,
            phase=phase.name, light_band=band_of(light_ratio), light_ratio=light_ratio)

    def finished(self, t_s: float) -> bool:
        """Whether the scenario is over."""
        return t_s >= self.scenario.duration_s
