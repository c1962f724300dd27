# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""SENSE: what this machine has left at this moment (P III-D)."""
