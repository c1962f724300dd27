# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Writing report.json and report.html without ever losing a run to a full disk."""
from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any, Mapping, Sequence

from crowdhmt_ros.errors import CrowdHMTError
from crowdhmt_ros.report.page import render_page
from crowdhmt_ros.report.pair_page import render_pair_page


class ReportError(CrowdHMTError):
    """A report cannot be written."""


def finite(value: Any) -> Any:
    """Return the same structure with None for every number that JSON does not know."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {str(k): finite(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(v) for v in value]
    return value


def write_whole(path: Path, text: str) -> None:
    """
    Write a file so that it is either complete or absent.

    :raises ReportError: when it cannot be written
    """
    half = path.with_name(path.name + '.part')
    try:
        half.write_text(text, encoding='utf-8')
        os.replace(half, path)
    except OSError as error:
        half.unlink(missing_ok=True) if half.exists() else None
        raise ReportError('%s cannot be written (%s): free space or name another folder with '
                          '--out' % (path, error.strerror or error)) from error


def write_report(report: Mapping[str, Any], folder: Path, *, order: Sequence[str] = ()) -> None:
    """
    Write report.json and report.html.

    :param report: as `summarise` returns it
    :param folder: existing folder
    :param order: candidate_ids from the richest to the leanest
    :raises ReportError: when a file cannot be written
    """
    write_whole(folder / 'report.json', json.dumps(finite(report), indent=1) + '\n')
    write_whole(folder / 'report.html', render_page(report, order=order))


def write_pair_report(report: Mapping[str, Any], folder: Path, *,
                      order: Sequence[str] = ()) -> None:
    """
    Write report.json and report.html of a run of several robots.

    :param report: about, robots (each as `summarise` returns it, with phases), pair
    :param folder: existing folder
    :param order: candidate_ids from the richest to the leanest
    :raises ReportError: when a file cannot be written
    """
    write_whole(folder / 'report.json', json.dumps(finite(report), indent=1) + '\n')
    write_whole(folder / 'report.html', render_pair_page(report, order=order))
