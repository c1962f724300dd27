# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
The self-evolutionary network (E5, AdaScale): the family is generated from the backbone.

`generate` makes the whole space of a network's variants, `reduce` groups and pre-scores the
combinations of operators, so that the space that is searched stays small.
"""
