# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Frames: where they come from, how they become tensors, how answers are drawn on them."""
