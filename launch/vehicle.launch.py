# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""One robot, a ground vehicle: `ros2 launch crowdhmt_ros vehicle.launch.py --show-args`."""
from pathlib import Path

from crowdhmt_ros.nodes.launching import robot_description


def generate_launch_description():
    return robot_description('vehicle', Path(__file__).resolve().parents[1])
