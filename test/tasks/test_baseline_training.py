# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A baseline's training goes on where it was killed and ends with the same weights."""
from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip('torch')

from crowdhmt_ros.elastic.operators.channel import channel  # noqa: E402
from crowdhmt_ros.elastic.store import Reference  # noqa: E402
from crowdhmt_ros.elastic.teaching.batches import MemoryBatches  # noqa: E402
from crowdhmt_ros.elastic.teaching.recipe import PhaseRecipe, Recipe  # noqa: E402
from crowdhmt_ros.elastic.transformation import missing  # noqa: E402
from crowdhmt_ros.errors import DataError  # noqa: E402
from crowdhmt_ros.tasks import baselines  # noqa: E402
from crowdhmt_ros.tasks.baseline_training import (  # noqa: E402
    Session,
    forget,
    opened,
    task_of,
    train_course,
)
from crowdhmt_ros.tasks.baselines import SHARED, Frame, alone, uniform  # noqa: E402
from crowdhmt_ros.tasks.evaluation import accuracies  # noqa: E402
from crowdhmt_ros.tasks.material import Labelled, Material  # noqa: E402
from crowdhmt_ros.tasks.task import DataPlan, InputScaling, Task  # noqa: E402
from crowdhmt_ros.tasks.training import untrained  # noqa: E402

NETWORK = Reference('residual', 3, {'widths': (16, 16), 'blocks': (2, 1), 'edge': 32})
TASK = Task('tiny', DataPlan('a', 'b'), NETWORK, (1,), 'none')
RECIPE = Recipe((PhaseRecipe('backbone', 1, 0.05),), batch_size=8, transformation_batches=1)


class _KilledError(Exception):
    """Stands for a kill: nothing that a training does catches it."""


@pytest.fixture(scope='module')
def material():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 24)
    inputs = rng.normal(size=(24, 3, 32, 32)).astype(np.float32)
    inputs += labels[:, None, None, None].astype(np.float32)
    part = Labelled(torch.from_numpy(inputs[:6]), torch.from_numpy(labels[:6]))
    return Material(MemoryBatches(inputs, labels), part, part, ('a', 'b', 'c'),
                    InputScaling((0.0,) * 3, (1.0,) * 3), 'noise')


def _session(material, path, **options):
    return Session(task_of(TASK, None), material, 3, path, **options)


def _course(name):
    frame = Frame(RECIPE, 4)
    return SHARED[name](untrained(task_of(TASK, None), 3), frame), frame


@pytest.fixture
def few(monkeypatch):
    monkeypatch.setattr(baselines, 'OFA_WIDTHS', (1.0, 0.5))
    monkeypatch.setattr(baselines, 'OFA_DRAWN', 2)
    monkeypatch.setattr(baselines, 'OFA_DRAWN_MEASURED', 1)
    monkeypatch.setattr(baselines, 'RANKS', (0.5,))


def test_a_killed_training_goes_on_and_ends_the_same(tmp_path, material, few):
    course, frame = _course('svd')
    whole = train_course(course, frame, _session(material, tmp_path / 'whole.pt'))

    steps = 0

    def kill(leg, progress):
        nonlocal steps
        steps += 1
        if steps % 7 == 0:
            raise _KilledError

    for _ in range(10):
        try:
            killed = train_course(course, frame,
                                  _session(material, tmp_path / 'killed.pt', report=kill))
            break
        except _KilledError:
            continue
    assert steps > 12  # of which some came twice
    for tensor in whole.net.names():
        assert torch.equal(whole.net.tensor(tensor), killed.net.tensor(tensor)), tensor
    assert [leg['phase']['phase'] for leg in whole.legs] == [
        leg.plan.phase for leg in course.legs]


def test_a_finished_training_is_a_family_that_answers_at_every_measured_variant(
        tmp_path, material, few):
    course, frame = _course('slimmable')
    session = _session(material, tmp_path / 'family.pt')
    done = train_course(course, frame, session)
    other = Frame(RECIPE, 5)
    with pytest.raises(DataError, match='other epochs'):
        train_course(SHARED['slimmable'](done.net, other), other, session)
    net, statistics = opened(course, session.task, session.seed, session.path)
    assert not any(missing(net, v, statistics) for v in course.measured.values())
    assert torch.equal(net.tensor('classifier.weight'), done.net.tensor('classifier.weight'))
    forget(session, len(course.legs))
    assert [p.name for p in tmp_path.iterdir()] == ['family.pt']


def test_a_chosen_variant_trains_with_tensors_of_its_own(tmp_path, material):
    session = _session(material, tmp_path / 'lone.pt')
    net = untrained(session.task, session.seed)
    variant = uniform(net, (channel(0.5),))
    course = alone(net, Frame(RECIPE, 1), variant)
    done = train_course(course, Frame(RECIPE, 1), session)
    assert done.legs[0]['took']['complete']
    again, statistics = opened(course, session.task, session.seed, session.path)
    weights = sum(again.tensor(name).numel() for name in again.names())
    assert 0 < weights < 0.5 * sum(net.tensor(name).numel() for name in net.names())
    found = accuracies(again, course.measured, statistics, material.test)
    assert found == accuracies(done.net, course.measured, done.statistics, material.test)
