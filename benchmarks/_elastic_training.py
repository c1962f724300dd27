# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
The training frame held to its word: killed runs, and processes that train as one.

Both parts train a small family in processes of their own; as a program this module is one of
these processes.
"""
from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Dict, List, Optional

import numpy as np
import torch
from torch import nn

from crowdhmt_ros.elastic.make_elastic import make_elastic
from crowdhmt_ros.elastic.supernet import Supernet
from crowdhmt_ros.elastic.teaching.batches import MemoryBatches
from crowdhmt_ros.elastic.teaching.ranks import ranks_from_environment
from crowdhmt_ros.elastic.teaching.recipe import ETAS, PhaseRecipe, Recipe
from crowdhmt_ros.elastic.teaching.trainer import Trainer

KILLS = 5
EDGE, CLASSES, IMAGES, BATCH = 8, 4, 96, 16
RANK_STEPS = 20
LATEST_KILL_S = 0.03
"""After a step was reported, the kill comes within this time."""
_RECIPE = Recipe(tuple(PhaseRecipe(name, 2, 0.05) for name in ETAS), BATCH,
                 transformation_batches=2)


def small_family(seed: int = 1) -> Supernet:
    """Make a family of two stages with an exit between them; every operator applies."""
    torch.manual_seed(seed)
    layers = [*_convolution(3, 16), nn.MaxPool2d(2), *_convolution(16, 16), *_convolution(16, 16),
              nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, CLASSES)]
    return make_elastic(nn.Sequential(*layers), torch.zeros(2, 3, EDGE, EDGE)).net


def _convolution(inputs: int, outputs: int) -> List[nn.Module]:
    return [nn.Conv2d(inputs, outputs, 3, 1, 1), nn.BatchNorm2d(outputs), nn.ReLU()]


def small_batches(count: int = IMAGES) -> MemoryBatches:
    """Make noise whose mean colour tells the class."""
    rng = np.random.default_rng(2)
    labels = rng.integers(0, CLASSES, count)
    colours = rng.normal(size=(CLASSES, 3, 1, 1))
    images = rng.normal(size=(count, 3, EDGE, EDGE)) + colours[labels]
    return MemoryBatches(images.astype(np.float32), labels, vary=_noisy, variation='noise')


def _noisy(images: Any, edge: int, rngs: Any) -> Any:
    return np.stack([image + 0.1 * rng.standard_normal(image.shape, np.float32)
                     for image, rng in zip(images, rngs)])


def killed_run_identical(seed: Optional[int] = None) -> Dict[str, Any]:
    """
    Kill a training five times at random moments, and compare its end with an uninterrupted one.

    :param seed: of the moments, None for other ones each time
    :returns: 'identical', at which steps it was killed, and how many tensors were compared
    """
    drawn = random.Random(seed).randrange(2 ** 31) if seed is None else seed
    with tempfile.TemporaryDirectory() as folder:
        _program(['killed', folder, str(drawn)])
        whole, killed = (torch.load(Path(folder) / name, weights_only=True)
                         for name in ('whole.pt', 'killed.pt'))
        steps = (Path(folder) / 'steps').read_text(encoding='utf-8').split()
    same = [torch.equal(value, killed['net'][name]) for name, value in whole['net'].items()]
    return {'identical': all(same) and len(steps) == KILLS and len(same) == len(killed['net']),
            'killed_after_steps': [int(s) for s in steps], 'tensors': len(same),
            'kill_seed': drawn}


def ranks_agree() -> Dict[str, Any]:
    """
    Train in two gloo processes under torchrun, and in one with the doubled batch.

    :returns: 'max_relative_diff' over all shared tensors (largest difference over largest
        magnitude), and how many steps were done
    """
    with tempfile.TemporaryDirectory() as folder:
        _program(['ranks', folder], processes=2)
        alone, joint, moved = (
            torch.load(Path(folder) / name, weights_only=True)['net']
            for name in ('alone.pt', 'joint.pt', 'start.pt'))
    differences = {name: float((value - joint[name]).abs().max() / value.abs().max())
                   for name, value in alone.items()}
    return {'max_relative_diff': max(differences.values()), 'steps': RANK_STEPS,
            'worst': max(differences, key=lambda name: differences[name]),
            'tensors_trained': sum(not torch.equal(moved[n], v) for n, v in alone.items())}


def _program(words: List[str], processes: int = 1) -> None:
    """Run this module as a program, on one thread, under torchrun where it takes several."""
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    launcher = [] if processes == 1 else [
        '-m', 'torch.distributed.run', '--nproc_per_node', str(processes),
        '--master_addr', '127.0.0.1', '--master_port', str(port)]
    subprocess.run(
        [sys.executable, *launcher, '-m', 'benchmarks._elastic_training', *words],
        check=True, timeout=300, cwd=Path(__file__).resolve().parents[1],
        env={**os.environ, 'OMP_NUM_THREADS': '1', 'MKL_NUM_THREADS': '1'})


def _killed(folder: Path, seed: int) -> None:
    """Train once to the end; train again in processes that are killed, until it is done too."""
    net, batches, rng = small_family(), small_batches(), random.Random(seed)
    _finish(_child(net, batches, folder / 'whole.pt'))
    steps = []
    for _ in range(KILLS):
        child, reports = _child(net, batches, folder / 'killed.pt')
        wanted = rng.randint(2, len(ETAS) * 2 * batches.steps(BATCH) // (KILLS + 1))
        for _ in range(wanted):
            os.read(reports, 1)
        time.sleep(rng.uniform(0.0, LATEST_KILL_S))
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        os.close(reports)
        if os.WIFSIGNALED(status):
            steps.append(wanted)
    _finish(_child(net, batches, folder / 'killed.pt'))
    (folder / 'steps').write_text(' '.join(map(str, steps)), encoding='utf-8')


def _child(net: Supernet, batches: MemoryBatches, path: Path) -> Any:
    """Fork a process that trains; it writes a byte for each step."""
    reports, said = os.pipe()
    child = os.fork()
    if child:
        os.close(said)
        return child, reports
    os.close(reports)
    trainer = Trainer(net, _RECIPE, batches, seed=3, checkpoint_path=path, checkpoint_steps=2)
    trainer.resume()
    trainer.run(lambda progress: _say(said))
    os._exit(0)


def _say(to: int) -> None:
    os.write(to, b'.')


def _finish(run: Any) -> None:
    child, reports = run
    while os.read(reports, 4096):
        pass
    os.close(reports)
    _, status = os.waitpid(child, 0)
    if status:
        raise RuntimeError('the training ended with status %d' % status)


def _ranks(folder: Path) -> None:
    """Train together; the first rank then trains alone, with the same batches undivided."""
    net, batches = small_family(), small_batches(BATCH * RANK_STEPS)
    start = {name: value.clone() for name, value in net.state_dict().items()}
    recipe = Recipe((PhaseRecipe('joint', 1, 0.05, variants=2),), BATCH)
    ranks = ranks_from_environment()
    Trainer(net, recipe, batches, seed=3, ranks=ranks, checkpoint_path=folder / 'joint.pt').run()
    torch.distributed.destroy_process_group()
    if ranks.is_first:
        torch.save({'net': start}, folder / 'start.pt')
        net.load_state_dict(start)
        Trainer(net, recipe, batches, seed=3, checkpoint_path=folder / 'alone.pt').run()


if __name__ == '__main__':
    torch.set_num_threads(1)
    if sys.argv[1] == 'killed':
        _killed(Path(sys.argv[2]), int(sys.argv[3]))
    else:
        _ranks(Path(sys.argv[2]))
