# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Latencies of variants; what is tested is the bookkeeping, not this machine's speed."""
import pytest
import torch
from torch import nn

from crowdhmt_ros.elastic.make_elastic import make_elastic
from crowdhmt_ros.elastic.transformation import calibrate
from crowdhmt_ros.errors import ConfigError, ExportError
from crowdhmt_ros.tasks.latency import latencies, measured, session_of, undisturbed_s


def small():
    torch.manual_seed(0)
    return make_elastic(nn.Sequential(
        nn.Conv2d(3, 16, 3, 1, 1), nn.BatchNorm2d(16), nn.ReLU(), nn.AdaptiveAvgPool2d(1),
        nn.Flatten(), nn.Linear(16, 4)), torch.zeros(2, 3, 8, 8)).net


def test_a_session_answers_as_the_network_does():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten()).eval()
    x = torch.randn(1, 3, 8, 8)
    assert torch.allclose(torch.from_numpy(session_of(net, x)()[0]), net(x), atol=1e-5)


def test_every_variant_gets_a_positive_time():
    net = small()
    variants = {'full': net.whole()}
    statistics = calibrate(net, variants.values(), [torch.randn(8, 3, 8, 8)])
    found = latencies(net, variants, statistics, torch.zeros(1, 3, 8, 8), rounds=2)
    assert list(found) == ['full']
    assert found['full'] > 0.0


def test_missing_statistics_are_an_error():
    net = small()
    with pytest.raises(ExportError, match='calibrate'):
        latencies(net, {'full': net.whole()}, {}, torch.zeros(1, 3, 8, 8), rounds=1)


def test_each_session_is_run_in_every_round():
    counts = {'a': 0, 'b': 0}

    def run(name):
        counts[name] += 1

    found = measured({name: lambda name=name: run(name) for name in counts}, rounds=3)
    assert set(found) == {'a', 'b'}
    assert min(counts.values()) >= 3 * 2


def test_no_rounds_are_refused():
    with pytest.raises(ConfigError, match='at least 1'):
        measured({}, rounds=0)


def test_turns_that_were_interrupted_do_not_count():
    turns = [(0.010, 1.0)] * 6 + [(0.025, 0.4)] * 20
    assert undisturbed_s(turns) == pytest.approx(0.010)


def test_processor_time_stands_in_where_all_turns_were_interrupted():
    assert undisturbed_s([(0.020, 0.5)] * 9) == pytest.approx(0.010)


def test_few_turns_make_a_median_too():
    assert undisturbed_s([(0.010, 1.0), (0.030, 1.0)]) == pytest.approx(0.020)
