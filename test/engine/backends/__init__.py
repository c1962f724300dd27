# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
