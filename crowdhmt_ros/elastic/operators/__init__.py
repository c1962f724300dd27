# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The compression operators eta1 to eta6 (E2, P III-A1), one file each."""
