# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What is known of computation graphs: families that share tensors, work per layer. Offline."""
