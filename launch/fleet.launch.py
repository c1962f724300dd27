# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Several robots of one machine: `ros2 launch crowdhmt_ros fleet.launch.py --show-args`."""
from pathlib import Path

from crowdhmt_ros.nodes.launching import fleet_description


def generate_launch_description():
    return fleet_description(Path(__file__).resolve().parents[1])
