# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What a run was: read from its recording, counted, and drawn as one page."""
