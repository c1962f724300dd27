# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Units, inputs and a plain reading of programs for the tests of the operators."""
from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Dict, Optional, Tuple

import torch
import torch.nn.functional as F

from crowdhmt_ros.elastic.operators.macs import whole
from crowdhmt_ros.elastic.operators.operator import Form, UnitShape
from crowdhmt_ros.elastic.steps import Apply, Concat, Part, Program
from crowdhmt_ros.elastic.structure import Block, Stage, Unit

CONVS = {0: None, 1: F.conv1d, 2: F.conv2d}
PLACES = 7


def conv_unit(inputs: int, outputs: int, kernel: Tuple[int, ...], *, stride: int = 1,
              dilation: int = 1, depthwise: bool = False, **fields) -> Unit:
    """Describe a convolution over PLACES places per axis that keeps their number."""
    axes = len(kernel)
    extent = tuple(-(-PLACES // stride) for _ in kernel)
    return Unit('c', 'c', 'conv', inputs, outputs, extent, kernel, (stride,) * axes,
                tuple(dilation * (k - 1) // 2 for k in kernel), (dilation,) * axes,
                inputs if depthwise else 1, **fields)


def linear_unit(inputs: int, outputs: int) -> Unit:
    return Unit('f', 'f', 'linear', inputs, outputs, ())


def norm_unit(channels: int) -> Unit:
    return Unit('n', 'n', 'norm', channels, channels, (PLACES, PLACES), norm='n')


def stage(blocks: int = 1, droppable: int = 0, stride_refused: str = '') -> Stage:
    parts = tuple(Block('', 'b%d' % i, i >= blocks - droppable) for i in range(blocks))
    return Stage(parts, (PLACES, PLACES), 0, 16, stride_refused)


def weight_of(unit: Unit, seed: int = 0) -> torch.Tensor:
    """Draw a weight as He initialisation does."""
    shape = (unit.outputs, unit.inputs // unit.groups, *unit.kernel)
    fan = torch.Size(shape[1:]).numel()
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64) * (2.0 / fan) ** 0.5


def smooth_input(unit: Unit, images: int = 32, seed: int = 1) -> torch.Tensor:
    """Draw features whose channels depend on one another and whose places are alike."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(images, unit.inputs, *(PLACES,) * len(unit.kernel), generator=generator,
                    dtype=torch.float64)
    for axis in range(2, x.ndim):
        x = x + 0.5 * (x.roll(1, axis) + x.roll(-1, axis))
    few = torch.randn(unit.inputs, unit.inputs, generator=generator, dtype=torch.float64)
    few = few * 0.8 ** torch.arange(unit.inputs)
    return torch.einsum('cd,nd...->nc...', few, x)


def moment_of(x: torch.Tensor) -> torch.Tensor:
    flat = x.transpose(0, 1).flatten(1)
    return flat @ flat.T / flat.shape[1]


def own(unit: Unit, weight: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Compute what the unit itself gives."""
    if not unit.kernel:
        return F.linear(x, weight)
    return CONVS[len(unit.kernel)](x, weight, None, unit.stride, unit.padding, unit.dilation,
                                   unit.groups)


def all_tensors(form: Form, unit: Unit, weight: torch.Tensor,
                moment: Optional[torch.Tensor] = None) -> Dict[str, torch.Tensor]:
    return {unit.name + '.weight': weight, **form.tensors(unit, weight, moment)}


def run(program: Program, tensors: Dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    """Read a program; normalisations take the statistics of the batch."""
    def slice_of(part: Optional[Part]) -> Optional[torch.Tensor]:
        if part is None:
            return None
        found = tensors[part.tensor]
        assert all(0 <= a < b <= extent for (a, b), extent in zip(part.slices, found.shape)), part
        assert len(part.slices) == found.ndim
        return found[tuple(slice(a, b) for a, b in part.slices)]

    values = [x]
    for step in program:
        if isinstance(step, Concat):
            values.append(torch.cat([values[i] for i in step.sources], 1))
            continue
        y = values[step.source]
        if isinstance(step, Apply):
            weight, bias = slice_of(step.weight), slice_of(step.bias)
            y = F.linear(y, weight, bias) if not step.stride else CONVS[len(step.stride)](
                y, weight, bias, step.stride, step.padding, step.dilation, step.groups)
        if step.norm is not None:
            y = F.batch_norm(y, None, None, slice_of(step.norm.gain), slice_of(step.norm.shift),
                             True, 0.0, step.norm.epsilon)
        values.append(y)
    return values[-1]


def unexplained(found: torch.Tensor, wanted: torch.Tensor) -> float:
    """Return the share of the outputs' power that is lost."""
    return float((found - wanted).square().sum() / wanted.square().sum())


def narrower(unit: Unit):
    """Yield shapes of a unit: widths, odd ones too, smaller kernels, larger strides."""
    widths = sorted({unit.inputs, unit.inputs * 3 // 4, 5})
    heights = sorted({unit.outputs, unit.outputs * 3 // 4, 13, 1})
    if unit.is_depthwise:
        widths = heights
    kernels = sorted({tuple(min(k, limit) if k % 2 else k for k in unit.kernel)
                      for limit in (1, 3, 7)})
    strides = sorted({tuple(s * f for s in unit.stride) for f in (1, 2)})
    for inputs, outputs, kernel, stride in itertools.product(widths, heights, kernels, strides):
        if not unit.is_depthwise or inputs == outputs:
            yield UnitShape(unit, inputs, outputs, kernel, stride)


def error_of(form: Form, unit: Unit, parameters, moment: Optional[torch.Tensor],
             x: torch.Tensor) -> float:
    """Return what a form loses of a unit's outputs."""
    weight = weight_of(unit)
    tensors = all_tensors(form, unit, weight, moment)
    return unexplained(run(form.program(whole(unit), parameters), tensors, x),
                       own(unit, weight, x))


def random_error(form: Form, unit: Unit, parameters, x: torch.Tensor) -> float:
    """Return what is lost with random tensors in place of derived ones, at the best scale."""
    weight = weight_of(unit)
    tensors = all_tensors(form, unit, weight)
    generator = torch.Generator().manual_seed(3)
    drawn = {name: value if name == unit.name + '.weight' else
             torch.randn(value.shape, generator=generator, dtype=torch.float64)
             for name, value in tensors.items()}
    found, wanted = run(form.program(whole(unit), parameters), drawn, x), own(unit, weight, x)
    scale = (found * wanted).sum() / found.square().sum()
    return unexplained(found * scale, wanted)


def with_norm(unit: Unit) -> Unit:
    return replace(unit, norm='bn', bias=True, epsilon=1e-12)
