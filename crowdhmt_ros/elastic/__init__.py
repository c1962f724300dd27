# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Multi-variant models: one set of shared weights, many sub-networks (P III-A1). Offline."""
