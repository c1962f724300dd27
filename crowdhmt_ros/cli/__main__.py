# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""`python -m crowdhmt_ros.cli`."""
from crowdhmt_ros.cli.main import main

raise SystemExit(main())
