# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The one list of passes: whole, each with a user, families as the paper names them."""
from __future__ import annotations

import importlib
import pkgutil

import pytest

pytest.importorskip('onnx', reason='rewriting graphs needs the extra train')

from crowdhmt_ros.graph import passes  # noqa: E402
from crowdhmt_ros.graph.rules import (  # noqa: E402
    CLEAN,
    CLEAN_UP,
    FAMILIES,
    FAMILY_NAMES,
    LISTED,
    STAGES,
)


def every_pass():
    modules = [importlib.import_module('%s.%s' % (passes.__name__, m.name))
               for m in pkgutil.iter_modules(passes.__path__)]
    return {id(value) for module in modules for name, value in vars(module).items()
            if name.isupper() and callable(value) and hasattr(value, 'name')}


def test_each_pass_stands_in_the_list_once():
    listed = [id(one.rules) for one in LISTED]
    assert len(set(listed)) == len(listed)
    assert set(listed) == every_pass()


def test_each_pass_has_a_user_and_a_known_family():
    for one in LISTED:
        assert one.family in (CLEAN, *FAMILY_NAMES)
        assert one.stages or one.family != CLEAN
    assert all(FAMILIES[name] for name in FAMILY_NAMES)
    assert tuple(FAMILIES) == FAMILY_NAMES


def test_clean_up_and_families_are_all_there_is():
    told = [*CLEAN_UP, *(p for family in FAMILIES.values() for p in family)]
    assert {id(p) for p in told} == {id(one.rules) for one in LISTED}
    assert {id(p) for stage in STAGES.values() for p in stage} <= {id(p) for p in told}
