# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A task's family, trained: network, recipe and data together; then calibrated (E3, P III-A1)."""
from __future__ import annotations

import platform
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, List, Mapping, Optional, Sequence, Tuple

import numpy as np
import torch

from crowdhmt_ros.elastic.norms import Statistics
from crowdhmt_ros.elastic.store import elastic_of, load_tensors
from crowdhmt_ros.elastic.supernet import Supernet
from crowdhmt_ros.elastic.teaching.batches import Batches
from crowdhmt_ros.elastic.teaching.place import place_for
from crowdhmt_ros.elastic.teaching.ranks import Ranks
from crowdhmt_ros.elastic.teaching.recipe import Recipe
from crowdhmt_ros.elastic.teaching.sampling import Sampler
from crowdhmt_ros.elastic.teaching.trainer import Progress, Trainer
from crowdhmt_ros.elastic.transformation import calibrate
from crowdhmt_ros.errors import ConfigError
from crowdhmt_ros.tasks.ledger import Ledger, PhaseLog, Watch
from crowdhmt_ros.tasks.material import Material
from crowdhmt_ros.tasks.recipes import named_recipe
from crowdhmt_ros.tasks.task import InputScaling, Task
from crowdhmt_ros.types import OperatorChoice, Variant

CALIBRATION_INPUTS, CALIBRATION_BATCH = 2048, 256
CHECKPOINT_STEPS = 100
WIDTHS = (0.75, 0.5, 0.25)
"""Of the variants that are shown where none are listed."""


@dataclass(frozen=True)
class TrainingLog:
    """
    How a training went.

    :param task: its name
    :param seed: of every random number
    :param recipe: that was followed
    :param phases: with their seconds and losses; idle ones are left out
    :param calibration_wall_s: to measure the statistics of the listed variants
    :param calibration_cpu_s: likewise, of the process
    :param scaling: of inputs, as a robot has to do it
    :param data: what tells the training data from other data
    :param device: where it computed
    :param threads: of each process that trained
    :param versions: of what computed
    """

    task: str
    seed: int
    recipe: Recipe
    phases: Tuple[PhaseLog, ...]
    calibration_wall_s: float
    calibration_cpu_s: float
    scaling: InputScaling
    data: str
    device: str
    threads: int
    versions: Mapping[str, str]

    @property
    def wall_s(self) -> float:
        """Seconds of the whole training, calibration included."""
        return sum(p.wall_s for p in self.phases) + self.calibration_wall_s

    @property
    def cpu_s(self) -> float:
        """Seconds of the processor for the whole training, calibration included."""
        return sum(p.cpu_s for p in self.phases) + self.calibration_cpu_s

    def to_json(self) -> Dict[str, Any]:
        """Return what `json.dump` takes."""
        return {**asdict(self), 'wall_s': self.wall_s, 'cpu_s': self.cpu_s}


@dataclass(frozen=True, eq=False)
class Trained:
    """
    A family that learnt a task.

    :param net: on the processor, ready to answer
    :param statistics: of the whole network and the listed members
    :param log: how it went
    """

    net: Supernet
    statistics: Statistics
    log: TrainingLog


def untrained(task: Task, seed: int) -> Supernet:
    """
    Make a task's network elastic, its weights drawn by the seed.

    :raises ConfigError: the network has no such stages to answer after
    """
    torch.manual_seed(seed)
    net = elastic_of(task.backbone, task.exits)
    if net.structure.exits[:-1] != task.exits:
        raise ConfigError('task %s: exits are %s, the network has %d stages; give numbers below '
                          'that, ascending' % (task.name, list(task.exits),
                                               len(net.structure.stages)))
    return net


def train_task(task: Task, material: Material, *, seed: int, checkpoint: Optional[Path] = None,
               resume: bool = False, recipe: Optional[Recipe] = None,
               members: Sequence[Variant] = (), start: Optional[Path] = None,
               device: str = 'cpu', report: Callable[[Progress], None] = lambda progress: None,
               pause: Callable[[], None] = lambda: None, net: Optional[Supernet] = None,
               ranks: Optional[Ranks] = None) -> Trained:
    """
    Train a task's family, and calibrate the whole network and the members.

    :param material: the task's data, open
    :param seed: of every random number
    :param checkpoint: file to write, None for none
    :param resume: go on from the checkpoint where there is one
    :param recipe: another one than the task's
    :param members: variants that are trained by name, as the recipe says, and calibrated
    :param start: file of a family of the same network whose tensors training starts from
    :param device: where the training computes, 'cpu' or 'cuda'
    :param report: called after each step
    :param pause: called before each step; returns when training may use the machine
    :param net: instead of the task's, untrained
    :param ranks: processes that train together; only the first one calibrates
    :raises ConfigError: the recipe does not fit the network or the data
    :raises DataError: a checkpoint of another training, or weights that are no longer finite
    :raises ExportError: a member does not fit the network
    """
    recipe = recipe or named_recipe(task.recipe)
    net, ranks = untrained(task, seed) if net is None else net, ranks or Ranks()
    if start is not None:
        load_tensors(net, start)
    kept = checkpoint.with_name(checkpoint.name + '.ledger') if checkpoint else None
    ledger = Ledger(kept if ranks.is_first else None, CHECKPOINT_STEPS)

    def wait() -> None:
        before = time.monotonic()
        pause()
        ledger.watch.paused(time.monotonic() - before)

    trainer = Trainer(
        net, recipe, material.train, seed=seed, place=place_for(device, recipe.precision),
        checkpoint_path=checkpoint, checkpoint_steps=CHECKPOINT_STEPS, pause=wait,
        members=tuple(members), ranks=ranks)
    if resume and trainer.resume():
        ledger.go_back(trainer.position)
    ledger.watch.lap()

    def note(progress: Progress) -> None:
        ledger.note(trainer.position.phase, progress)
        report(progress)

    trainer.run(note)
    net.cpu().eval()
    watch = Watch()
    statistics = calibrated(net, material.train, [net.whole(), *members]) \
        if ranks.is_first else {}
    wall_s, cpu_s = watch.lap()
    epochs = {number: phase.epochs for number, phase in enumerate(recipe.phases)}
    return Trained(net, statistics, TrainingLog(
        task.name, seed, recipe, ledger.phases(epochs), wall_s, cpu_s, material.scaling,
        material.train.identity, device, torch.get_num_threads(), versions()))


def calibrated(net: Supernet, train: Batches, variants: Iterable[Variant],
               known: Optional[Statistics] = None
               ) -> Dict[str, Tuple[torch.Tensor, torch.Tensor]]:
    """
    Measure the statistics of variants on unvaried training inputs.

    :param known: statistics that need not be measured again
    """
    inputs = train.unvaried(CALIBRATION_INPUTS // CALIBRATION_BATCH, CALIBRATION_BATCH, 0)
    return calibrate(net, variants, inputs, known)


def shown_variants(net: Supernet) -> Tuple[Variant, ...]:
    """
    Choose some variants to calibrate and show where none are listed.

    The whole network, it narrower, each form in its mildest way, and each earlier exit.
    """
    structure, sampler = net.structure, Sampler(net, (1, 2, 3, 4, 5, 6))
    last = len(structure.exits) - 1
    found: List[Variant] = [net.whole()]
    for ratio in WIDTHS:
        narrow = (OperatorChoice('channel', (('ratio', ratio),)),)
        found.append(Variant(tuple(
            narrow if offers else () for offers in sampler.offers.get('channel', ())), last))
    found += [sampler.alone(name) for name in sampler.operators if name != 'channel']
    found += [Variant(net.whole().stages[:structure.exits[k]], k) for k in range(last)]
    return tuple(dict.fromkeys(v for v in found if v.stages))


def versions() -> Dict[str, str]:
    """Name the versions of what computes here."""
    return {'python': platform.python_version(), 'torch': str(torch.__version__),
            'numpy': np.__version__, 'machine': platform.machine()}
