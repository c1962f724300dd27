# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Rewrites of ONNX graphs, one pass per file under the contract of `passes.contract`. Offline.

How to add one: write a rule (pattern, check, rewrite; the algebra in the module's docstring), make
a `RulePass` of it, give it a line in `graph.rules`, and add a tiny graph on which it applies and
one on which it refuses to the tests.
"""
