# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The built-in world: rendered scenes with ground truth, day of light, battery, scenarios."""
