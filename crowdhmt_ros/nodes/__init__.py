# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
The robot's ROS 2 nodes: the only room that imports rclpy and generated messages.

This file, `table`, `topics` and `params` import neither, so that launch files can read them.
"""
