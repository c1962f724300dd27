# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
What is learnt: data, network and recipe in one task; trained, evaluated, compared (E3). Offline.

`task` reads a task's file, `material` opens its data, `training` trains the family, `evaluation`,
`latency` and `fronts` measure it.
"""
