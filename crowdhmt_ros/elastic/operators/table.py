# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Every operator by name (E2). A new one is entered here: docs/adding_an_operator.md."""
from __future__ import annotations

from typing import Dict

from crowdhmt_ros.elastic.operators.asymmetric import Asymmetric
from crowdhmt_ros.elastic.operators.channel import Channel
from crowdhmt_ros.elastic.operators.depth import Depth
from crowdhmt_ros.elastic.operators.fire import Fire
from crowdhmt_ros.elastic.operators.ghost import Ghost
from crowdhmt_ros.elastic.operators.operator import Form, Operator
from crowdhmt_ros.elastic.operators.refit import Refit
from crowdhmt_ros.elastic.operators.scale import Scale
from crowdhmt_ros.elastic.operators.sparse import Sparse
from crowdhmt_ros.elastic.operators.svd import Svd

FORMS: Dict[str, Form] = {f.name: f for f in (
    Svd(), Sparse(), Asymmetric(), Fire(), Ghost(), Refit())}
OPERATORS: Dict[str, Operator] = {**FORMS, **{o.name: o for o in (Scale(), Depth(), Channel())}}


def form_of(name: str) -> Form:
    """Return a form by the name of its operator."""
    return FORMS[name]
