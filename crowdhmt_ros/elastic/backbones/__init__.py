# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Reference backbones: plain networks, treated like any user's own (P III-A1, P IV-A). Offline."""
