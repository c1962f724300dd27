# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
from pathlib import Path

import numpy as np
import pytest

from crowdhmt_ros.bundle.materialise import materialise
from crowdhmt_ros.bundle.reader import open_bundle
from crowdhmt_ros.engine.memory_plan import Step
from crowdhmt_ros.engine.pool import Pool
from test.engine.pool_fakes import FakeBackend

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


@pytest.fixture(scope='session')
def random_dag():
    """Make an order of operators with sizes; every result may be read much later."""
    def make(seed):
        rng = np.random.default_rng(seed)
        count = int(rng.integers(20, 120))
        steps, sizes = [], {}
        for i in range(count):
            least = 0 if rng.random() < 0.15 else max(0, i - 6)
            reads = sorted({int(r) for r in rng.integers(least, i, min(i, int(rng.integers(1, 4))))
                            }) if i else []
            steps.append(Step('step%d' % i, tuple('t%d' % r for r in reads), ('t%d' % i,)))
            sizes['t%d' % i] = int(rng.choice([1, 4, 16, 64])) * int(rng.integers(1, 4096))
        return steps, sizes
    return make


@pytest.fixture
def backend():
    return FakeBackend()


@pytest.fixture
def pool(backend, segments):
    pool = Pool(backend, segments)
    yield pool
    backend.may_go.set()
    pool.close()


@pytest.fixture
def candidates(bundle):
    return bundle.candidates()
