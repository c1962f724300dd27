# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Where the package's share folder is: configuration, scenarios and device profiles."""
from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Mapping, Tuple

NAME = 'crowdhmt_ros'
PACKAGE = Path(__file__).resolve().parent
PROFILES = 'FASTDDS_DEFAULT_PROFILES_FILE'
PROFILES_ON_HUMBLE = 'FASTRTPS_DEFAULT_PROFILES_FILE'


def share_folders(package: Path = PACKAGE) -> Tuple[Path, ...]:
    """
    Return the folders that hold `config/`, the one that belongs to this code first.

    The source tree of a checkout or an editable install; `share/crowdhmt_ros` under each folder
    above the code, which is the prefix of pip (also with --user, --prefix or --target) and of
    colcon (merged or not); under each prefix of AMENT_PREFIX_PATH; under Python's own prefix.

    :param package: folder of the code
    """
    source = [package.parent] if (package.parent / 'package.xml').is_file() else []
    ament = [Path(entry) for entry in os.environ.get('AMENT_PREFIX_PATH', '').split(os.pathsep)
             if entry]
    prefixes = [*package.parents, *ament, Path(sys.prefix)]
    folders = [*source, *(prefix / 'share' / NAME for prefix in prefixes)]
    return tuple(dict.fromkeys(f for f in folders if (f / 'config').is_dir()))


def config_folders(name: str) -> Tuple[Path, ...]:
    """
    Return the existing folders `config/NAME`, the one that belongs to this code first.

    :param name: 'scenarios', 'devices', or '.' for the configuration of the roles
    """
    folders = (share / 'config' / name for share in share_folders())
    return tuple(folder for folder in folders if folder.is_dir())


def dds_profile(environment: Mapping[str, str]) -> Mapping[str, str]:
    """
    Return the variable that makes Fast DDS find robots sooner, none where the user has set it.

    :param environment: of the processes to start; ROS_DISTRO is read
    """
    name = PROFILES_ON_HUMBLE if environment.get('ROS_DISTRO') == 'humble' else PROFILES
    found = [folder / 'discovery.xml' for folder in config_folders('fastdds')]
    if name in environment or not found:
        return {}
    return {name: str(found[0])}
