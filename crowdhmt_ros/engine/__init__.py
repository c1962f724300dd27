# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Engines behind one seam, and the pool of what is ready to run (P III-C1)."""
