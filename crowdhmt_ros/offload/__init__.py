# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Work for and by other robots: channels, codecs, trust, serving, placement (P III-B1, III-D3)."""
