# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A tiny family without an engine: two graphs, made-up counts, a backend that only counts."""
from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
import pytest

from crowdhmt_ros.types import (
    MEASURED,
    Candidate,
    EnergyCoefficients,
    EngineOptions,
    Estimate,
    FrontEntry,
    LayerCost,
    Placement,
    Segment,
    SegmentPlacement,
    TensorSpec,
    Variant,
)


def make_entry(name='v', *, threads=1, accuracy=None, latency_s=0.010, p95_s=0.012,
               memory=5e6, energy_j=0.001, coefficients=None, macs=1000, words=10, mode='fast'):
    candidate = Candidate(name, Variant(((),), 0),
                          Placement((SegmentPlacement('whole', f'{name}.whole'),)),
                          EngineOptions(threads=threads, memory_mode=mode))
    return FrontEntry(candidate, accuracy or {'photos': 0.8}, Estimate(latency_s, p95_s, MEASURED),
                      Estimate(memory, memory, MEASURED), Estimate(energy_j, energy_j), macs,
                      words, coefficients)


class Family:
    """The part of a bundle that calibration uses."""

    sha256 = 'ab' * 32
    names = ('rich', 'lean')

    def candidates(self, threads=(1, 2), memory_modes=('fast', 'lean')):
        return tuple(make_entry(n, threads=t, mode=m).candidate
                     for n in self.names for m in memory_modes for t in threads)

    def heads(self, threads=(1,), memory_modes=('fast', 'lean')):
        return ()

    def accuracy(self, variant_id):
        return {'photos': 0.9 if variant_id == 'rich' else 0.7}

    def macs(self, variant_id):
        return 2_000_000 if variant_id == 'rich' else 200_000

    def layer_costs(self, segment_id):
        words = 10_000 if segment_id.startswith('rich') else 1_000
        return (LayerCost('c', 'Conv', self.macs(segment_id.split('.')[0]), 500, words, 700),)

    def segments(self):
        spec = (TensorSpec('x', 'float32', (1, 4)),)
        return {f'{n}.whole': Segment(f'{n}.whole', n * 4, f'/nowhere/{n}.onnx', spec, spec)
                for n in self.names}


@dataclass(frozen=True)
class Figure:
    """One measured way to a peer."""

    variant_id: str
    cut_id: str
    codec: str
    bytes_mean: float
    accuracy_drop: float = 0.0


class CutFamily(Family):
    """The family with one cut of the rich variant; its head does half the work."""

    HEAD = 'rich.head'

    def __init__(self, weight_bytes=2 << 20):
        self.weight_bytes = weight_bytes
        self.crossings = (Figure('rich', '', 'jpeg', 2000.0, 0.01),
                          Figure('rich', 'c1', 'fp16', 8000.0),
                          Figure('rich', 'c1', 'int8', 3000.0, 0.001),
                          Figure('lean', '', 'jpeg', 2000.0, -0.01))

    def heads(self, threads=(1,), memory_modes=('fast', 'lean')):
        return tuple(Candidate('rich', Variant(((),), 0),
                               Placement((SegmentPlacement('head', self.HEAD),)),
                               EngineOptions(threads=t, memory_mode=m))
                     for m in memory_modes for t in threads)

    def segment_for(self, variant_id, role='whole', *, fusion_set='none', cut_id=''):
        assert bool(cut_id) == (role != 'whole')
        return f'{variant_id}.{role}'

    def layer_costs(self, segment_id):
        if segment_id.endswith(('.head', '.tail')):
            return (LayerCost('c', 'Conv', 1_000_000, 500, 5_000, 700),)
        return super().layer_costs(segment_id)

    def segments(self):
        x, r, scores = (TensorSpec(n, 'float32', (1, e)) for n, e in (('x', 4), ('r', 50),
                                                                     ('s', 7)))
        return {**{n: dataclasses.replace(s, outputs=(scores,))
                   for n, s in super().segments().items()},
                self.HEAD: Segment(self.HEAD, 'head', '/nowhere/h.onnx', (x,), (r,),
                                   self.weight_bytes),
                'rich.tail': Segment('rich.tail', 'tail', '/nowhere/t.onnx', (r,), (scores,))}


class CountingBackend:
    """Runs nothing; its clock advances as the graph would take."""

    name = 'onnxruntime'

    def __init__(self, seconds=None):
        self.now_s, self.compiled, self.runs = 0.0, [], 0
        self.seconds = seconds or {'rich': 0.010, 'lean': 0.001}

    def clock(self):
        return self.now_s

    def compile(self, segment, options):
        self.compiled.append((segment.segment_id, options))
        return _Executable(self, segment)


class _Executable:
    memory_bytes = 7_000_000

    def __init__(self, backend, segment):
        self._backend, self._name = backend, segment.segment_id.split('.')[0]
        self.inputs, self.outputs = segment.inputs, segment.outputs

    def run(self, inputs, outputs):
        assert inputs[0].shape == (1, 4)
        assert inputs[0].dtype == np.float32
        self._backend.now_s += self._backend.seconds[self._name]
        self._backend.runs += 1


@pytest.fixture
def entry():
    return make_entry


@pytest.fixture
def family():
    return Family()


@pytest.fixture
def cut_family():
    return CutFamily()


@pytest.fixture
def engine():
    return CountingBackend()


@pytest.fixture
def coefficients():
    return EnergyCoefficients(1e-9, idle_w=2.0)
