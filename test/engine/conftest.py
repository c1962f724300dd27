# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
from pathlib import Path

import numpy as np
import pytest

from crowdhmt_ros.bundle.materialise import materialise
from crowdhmt_ros.bundle.reader import open_bundle

TINY = Path(__file__).resolve().parents[1] / 'bundle' / 'data' / 'tiny'


@pytest.fixture(scope='session')
def bundle():
    return open_bundle(TINY)


@pytest.fixture(scope='session')
def segments(bundle, tmp_path_factory):
    return materialise(bundle, tmp_path_factory.mktemp('cache'))


@pytest.fixture
def image():
    return np.random.default_rng(3).standard_normal((1, 3, 64, 64)).astype(np.float32)
