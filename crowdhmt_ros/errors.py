# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
The error tree.

Each message is one line that says what is wrong and how to mend it. A node may catch
`CrowdHMTError` only: anything else is a defect of ours and must be seen.
"""
from __future__ import annotations

from typing import Iterable


class CrowdHMTError(Exception):
    """Base of every error that this package raises on purpose."""


class BundleError(CrowdHMTError):
    """A bundle is damaged, incomplete, or written for another version."""


class FrameError(CrowdHMTError):
    """An image cannot be turned into a frame: wrong step, encoding, or length."""


class SourceError(CrowdHMTError):
    """A frame source (camera, video, bag, world) cannot be opened or read."""


class ProbeError(CrowdHMTError):
    """A resource that exists gave a value that cannot be right."""


class BackendError(CrowdHMTError):
    """An engine cannot compile or run a segment."""


class RequirementsError(CrowdHMTError):
    """A requirement is not a number that can be met or compared."""


class ScenarioError(CrowdHMTError):
    """A scenario file is not usable."""


class ConfigError(CrowdHMTError):
    """A parameter or configuration file is not usable."""


class CalibrationError(CrowdHMTError):
    """The tables measured on this device cannot be made or read."""


class PutOffError(CalibrationError):
    """There was too little memory to measure something; later there may be enough."""


class OffloadError(CrowdHMTError):
    """A peer does not answer, refuses, or answers what was not asked for."""


class CodecError(OffloadError):
    """What came over the wire is not what it claims to be, or is larger than it may be."""


class TrustError(CrowdHMTError):
    """A key, a signature or the trust store cannot be used."""


class DataError(CrowdHMTError):
    """A training or test data set is missing or malformed."""


class ExportError(CrowdHMTError):
    """A trained network cannot be written as a bundle."""


def all_problems(problems: Iterable[str]) -> str:
    """
    Join several findings into the one line that an error carries.

    :param problems: findings, each without a final stop
    :returns: the findings, separated by semicolons
    """
    return '; '.join(problems)
