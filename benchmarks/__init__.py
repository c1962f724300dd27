# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""One module a claim: `crowdhmt bench NAME` runs benchmarks/NAME.py."""
