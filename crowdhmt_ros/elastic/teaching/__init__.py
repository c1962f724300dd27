# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
The training frame: how a family learns, in phases, resumable at any step (E3, P III-A1). Offline.

`recipe` says what to do, `batches` is the seam to data, `phases` say what a step trains,
`protection` keeps variants from damaging the backbone, `trainer` runs it all.
"""
