# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The tests, a package: a folder such as `packaging` must not hide a library of that name."""
