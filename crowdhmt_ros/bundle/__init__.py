# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
The bundle: one self-describing directory between the workstation and the robot.

`manifest` and `reader` and `materialise` are the robot's side; `writer` is the workstation's
and imports onnx, so nothing here imports it.
"""
