# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""ESTIMATE: what each candidate costs on this machine at this moment (P III-D1)."""
