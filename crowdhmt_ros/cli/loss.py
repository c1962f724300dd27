# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""`crowdhmt loss`: counts each frame of a run, in a process that took no part in it."""
from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path
from typing import Any

from crowdhmt_ros.report.loss import count_losses
from crowdhmt_ros.report.recording import read_recording


def add_parser(commands: Any) -> argparse.ArgumentParser:
    """Add the subcommand."""
    parser: argparse.ArgumentParser = commands.add_parser(
        'loss', help='count the frames of a recorded run', description='Each stamp of the '
        'source log must occur exactly once in result, or once as superseded in feedback.')
    parser.add_argument('frames', type=Path, help='source log (stamp_ns,label,light_band)')
    parser.add_argument('events', type=Path, help="the recorder's JSON lines")
    parser.add_argument('--period', type=float, metavar='S', help='time between two frames; '
                        'default: the median step of the log')
    return parser


def run(arguments: argparse.Namespace) -> int:
    """Print the count as one JSON object; exit 1 when a frame is lost, doubled or unknown."""
    count = count_losses(read_recording(arguments.events, arguments.frames),
                         frame_period_s=arguments.period)
    print(json.dumps(dataclasses.asdict(count), indent=2))
    return 1 if count.lost or count.duplicates or count.unknown else 0
