# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Parts of a bench: one that cannot be measured falls short with its reason, the others go on."""
from __future__ import annotations

import subprocess
from typing import Callable, List, Mapping, Sequence, Tuple

from crowdhmt_ros.cli.figures import Figure, claim
from crowdhmt_ros.errors import ConfigError, CrowdHMTError

Target = Tuple[float, str]
Claims = Mapping[str, Target]
"""Key of a figure -> its target, and which side of it is better."""
FAILURES = (CrowdHMTError, RuntimeError, OSError, subprocess.SubprocessError)
"""What keeps a part from being measured."""


def chosen(bench: str, parts: Sequence[str], only: Sequence[str]) -> List[str]:
    """
    Return the parts asked for, all by default, in their order.

    :raises ConfigError: unknown part
    """
    unknown = [part for part in only if part not in parts]
    if unknown:
        raise ConfigError('bench %s has no part %s: choose from %s' % (
            bench, ', '.join(unknown), ', '.join(parts)))
    return [part for part in parts if not only or part in only]


def measured(make: Callable[[], List[Figure]], claims: Callable[[], Claims]) -> List[Figure]:
    """Return the figures of a part; its claims, not held, with the reason where it failed."""
    try:
        return make()
    except ImportError as error:
        reason: Exception = ConfigError('%s is not there' % (error.name or error))
    except FAILURES as error:
        reason = error
    return short(claims(), reason)


def short(claims: Claims, error: Exception) -> List[Figure]:
    """Return claims that were not measured."""
    how = 'not measured: %s' % ' '.join(str(error).split())
    return [claim(key, None, target, better=better, how=how)
            for key, (target, better) in claims.items()]


def tried(keys: Sequence[str], claims: Claims, make: Callable[[], List[Figure]]
          ) -> List[Figure]:
    """Return some figures of a part; where they fail, the part's others stay."""
    try:
        return make()
    except FAILURES as error:
        return short({key: claims[key] for key in keys}, error)


def say(line: str) -> None:
    """Print a line at once."""
    print(line, flush=True)
