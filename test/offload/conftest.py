# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
import importlib.util

if importlib.util.find_spec('zmq') is not None:
    from test.offload.channel_ends import child, opened, stores  # noqa: F401 (fixtures)
