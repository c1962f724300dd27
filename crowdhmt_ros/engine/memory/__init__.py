# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Where tensors lie, and how weights stay in their file (P III-C1)."""
