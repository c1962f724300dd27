# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Every way to install: each test builds from a copy of the sources in an environment apart."""
