# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The sources of its own that camera_inference can read: campus, video, camera. Free of ROS."""
from __future__ import annotations

import math
import os
from typing import Callable, Optional

from crowdhmt_ros.campus.scenario import Scenario, load_scenario
from crowdhmt_ros.campus.source import CampusSource
from crowdhmt_ros.campus.world import World
from crowdhmt_ros.errors import ConfigError
from crowdhmt_ros.nodes.params import CameraInferenceParameters
from crowdhmt_ros.vision.sources import CameraSource, FrameSource, VideoSource

DEFAULT_SCENARIO = 'campus_minute'


def scenario_of(name: str, seconds: float, robot: str) -> Scenario:
    """
    Load the scenario of a node's parameters.

    :param name: packaged name or file, '' for the default
    :param seconds: length to compress it to, NaN for its own
    :param robot: view of the robot; which one of a scenario for several
    :raises ScenarioError: there is none, or it is not usable
    """
    scenario = load_scenario(name or DEFAULT_SCENARIO, robot)
    return scenario if math.isnan(seconds) else scenario.compressed(seconds)


def make_source(parameters: CameraInferenceParameters, clock: Callable[[], int], *,
                start_ns: Optional[int] = None) -> FrameSource:
    """
    Make the source that the parameters name; it is not open yet.

    :param clock: node clock in nanoseconds
    :param start_ns: start of the scenario on that clock, None for the moment of `open`
    :raises ConfigError: parameters that do not fit together
    :raises CrowdHMTError: as the source says
    """
    rate_hz = parameters.rate_hz or None
    if parameters.source == 'campus':
        scenario = scenario_of(parameters.scenario, parameters.seconds, parameters.view)
        seed = None if parameters.seed < 0 else parameters.seed
        return CampusSource(World(scenario, parameters.view, seed), clock=clock,
                            rate_hz=rate_hz, start_ns=start_ns)
    if parameters.source == 'video':
        if not parameters.video_path:
            raise ConfigError('video_path is empty, source video needs a file')
        return VideoSource(os.path.expanduser(parameters.video_path), loop=parameters.video_loop,
                           rate_hz=math.inf if parameters.pace == 'lockstep' else rate_hz,
                           clock=clock)
    if parameters.source == 'camera':
        return CameraSource(parameters.camera_index, rate_hz=rate_hz, clock=clock)
    raise ConfigError(f'source is {parameters.source!r}, it has no frames of its own')
