# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Trains a baseline's course, leg after leg; may be killed at any moment and goes on.

A leg that is done is a family's file beside a note of what it took, and is not repeated.
"""
from __future__ import annotations

import hashlib
import json
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Tuple

from crowdhmt_ros.elastic.lone import lone
from crowdhmt_ros.elastic.norms import Statistics
from crowdhmt_ros.elastic.store import Reference, load_tensors, save_family
from crowdhmt_ros.elastic.supernet import Supernet
from crowdhmt_ros.elastic.teaching.place import place_for
from crowdhmt_ros.elastic.teaching.trainer import Progress, Trainer
from crowdhmt_ros.elastic.transformation import transform
from crowdhmt_ros.errors import ConfigError, DataError
from crowdhmt_ros.report.write import write_whole
from crowdhmt_ros.tasks.baselines import Course, Frame, Leg
from crowdhmt_ros.tasks.ledger import Ledger, PhaseLog
from crowdhmt_ros.tasks.material import Material
from crowdhmt_ros.tasks.task import Task
from crowdhmt_ros.tasks.training import CHECKPOINT_STEPS, calibrated, untrained

SEEDS_PER_TRAINING = 100
"""Legs draw other orders of the data than each other, and than other seeds' legs."""
ENDINGS = ('', '.step', '.step.ledger', '.json')


@dataclass(frozen=True)
class Session:
    """
    What a training is run with.

    :param task: with the baseline's network, see `task_of`
    :param material: the task's data, open
    :param seed: of every random number
    :param path: of the trained family; checkpoints and notes have its name with an ending
    :param device: where it computes, 'cpu' or 'cuda'
    :param pause: called before each step; returns when training may use the machine
    :param report: called after each step with the number of the leg
    """

    task: Task
    material: Material
    seed: int
    path: Path
    device: str = 'cpu'
    pause: Callable[[], None] = lambda: None
    report: Callable[[int, Progress], None] = lambda leg, progress: None

    def beside(self, ending: str) -> Path:
        """Name a file that belongs to the training."""
        return self.path.with_name(self.path.name + ending)


@dataclass(frozen=True, eq=False)
class Finished:
    """
    A baseline's network, trained and calibrated.

    :param net: on the processor
    :param statistics: of every variant that the course is measured at
    :param legs: per leg its phase, how many members it had, and what it took
    """

    net: Supernet
    statistics: Statistics
    legs: List[Dict[str, Any]]


def task_of(task: Task, backbone: Optional[Reference] = None) -> Task:
    """
    Return a task as a baseline learns it: nothing answers early.

    :param backbone: instead of the task's own, None for that
    """
    return replace(task, exits=(), backbone=backbone or task.backbone)


def train_course(course: Course, frame: Frame, session: Session) -> Finished:
    """
    Train a network from the start, or from where an earlier run was killed.

    The family is left at the session's path.

    :raises DataError: a checkpoint is damaged or belongs to another training
    :raises ConfigError: the network offers none of a leg's operators
    """
    net = _network(course, session.task, session.seed)
    notes = [session.beside('.leg%d.json' % number) for number in range(len(course.legs))]
    done = next((n for n, note in enumerate(notes) if not note.exists()), len(notes))
    for note, leg in zip(notes[:done], course.legs):
        _check(note, leg, frame, session)
    if done:
        load_tensors(net, session.beside('.leg%d' % (done - 1)))
    for number in range(done, len(course.legs)):
        leg = course.legs[number]
        phases = _train_leg(net, leg, number, frame, session)
        save_family(net, session.beside('.leg%d' % number))
        write_whole(notes[number], json.dumps({
            'phase': asdict(leg.plan), 'members': len(leg.members), 'derives': leg.derives,
            'took': asdict(phases[0]), 'identity': _identity(leg, frame, session)}))
    net.eval()
    statistics = calibrated(net, session.material.train, course.measured.values())
    save_family(net, session.path, statistics=statistics)
    return Finished(net, statistics, [json.loads(n.read_text('utf-8')) for n in notes])


def _identity(leg: Leg, frame: Frame, session: Session) -> str:
    """Tell one leg from another one, of this training or of one with other settings."""
    said = (frame.of(leg.plan), leg.members, leg.derives, session.seed, session.task.backbone,
            session.material.train.identity)
    return hashlib.sha256(repr(said).encode()).hexdigest()[:16]


def _check(note: Path, leg: Leg, frame: Frame, session: Session) -> None:
    try:
        found = json.loads(note.read_text('utf-8'))['identity']
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise DataError('%s cannot be read; delete it to train that leg anew' % note) from error
    if found != _identity(leg, frame, session):
        raise DataError('%s is of a training with other epochs, data or settings; name another '
                        'folder for checkpoints, or delete that training there' % note)


def opened(course: Course, task: Task, seed: int, path: Path) -> Tuple[Supernet, Statistics]:
    """
    Open what `train_course` left.

    :param task: as `task_of` made it
    :returns: the net, and the statistics of what the course is measured at
    :raises DataError: the file is missing, damaged, or of another network
    """
    net = _network(course, task, seed)
    return net.eval(), load_tensors(net, path)


def _network(course: Course, task: Task, seed: int) -> Supernet:
    net = untrained(task, seed)
    return net if course.lone is None else lone(net, course.lone, seed=seed)


def _train_leg(net: Supernet, leg: Leg, number: int, frame: Frame, session: Session
               ) -> Tuple[PhaseLog, ...]:
    """Train one leg, in place."""
    recipe, train = frame.of(leg.plan), session.material.train
    path = session.beside('.leg%d.step' % number)
    if leg.derives and not path.exists():
        transform(net, train.unvaried(recipe.transformation_batches, recipe.batch_size, 0))
    ledger = Ledger(path.with_name(path.name + '.ledger'), CHECKPOINT_STEPS)

    def wait() -> None:
        before = time.monotonic()
        session.pause()
        ledger.watch.paused(time.monotonic() - before)

    trainer = Trainer(
        net, recipe, train, seed=session.seed * SEEDS_PER_TRAINING + number,
        place=place_for(session.device, recipe.precision), checkpoint_path=path,
        checkpoint_steps=CHECKPOINT_STEPS, pause=wait, members=leg.members)
    if trainer.resume():
        ledger.go_back(trainer.position)
    ledger.watch.lap()

    def note(progress: Progress) -> None:
        ledger.note(0, progress)
        session.report(number, progress)

    trainer.run(note)
    net.cpu()
    phases = ledger.phases({0: leg.plan.epochs})
    if not phases:
        raise ConfigError('leg %d of %s trained nothing: the network offers none of its operators'
                          % (number + 1, session.path.name))
    return phases


def forget(session: Session, legs: int) -> None:
    """Delete what only a training that goes on needs."""
    for number in range(legs):
        for ending in ENDINGS:
            session.beside('.leg%d%s' % (number, ending)).unlink(missing_ok=True)
