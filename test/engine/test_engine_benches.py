# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The benches of the choice of engines: how they judge, and that their children work."""
import json
import subprocess
import sys
from pathlib import Path

import pytest

from crowdhmt_ros.types import EngineOptions

ROOT = Path(__file__).resolve().parents[2]


def test_ours_is_compared_round_by_round_with_each_peer(monkeypatch):
    pytest.importorskip('torch', reason='torch is not installed (extra train)')
    pytest.importorskip('onnx', reason='onnx is not installed (extra train)')
    monkeypatch.syspath_prepend(str(ROOT))
    from benchmarks import _engine_peers as peers
    found = peers.Measured(EngineOptions())
    found.rounds = [{'ours': s, 'ours again': s, 'onnxruntime': 2 * s}
                    for s in (1.0, 8.0, 2.0, 5.0)]
    for row, ncnn in zip(found.rounds, (1.0, 8.1)):
        row['ncnn'] = ncnn
    told = {name: each.ratio for name, each in found.ratios().items()}
    assert (told['onnxruntime'].value, told['onnxruntime'].pairs) == (0.5, 4)
    assert (told['ncnn'].value, told['ncnn'].pairs) == (pytest.approx(0.9938, abs=1e-4), 2)
    figure = peers._figure('fp32_vs_best_peer/resnet18', found, 1)
    assert figure.value == told['ncnn'].value
    assert figure.holds
    assert 'best peer ncnn' in figure.how
    assert peers._figure('x', found, 2).target is None


def test_a_peer_within_the_bound_by_a_wide_control_alone_does_not_count(monkeypatch):
    pytest.importorskip('torch', reason='torch is not installed (extra train)')
    pytest.importorskip('onnx', reason='onnx is not installed (extra train)')
    monkeypatch.syspath_prepend(str(ROOT))
    from benchmarks import _engine_peers as peers
    found = peers.Measured(EngineOptions())
    found.rounds = [{'ours': 1.0, 'ours again': again, 'ncnn': 1.0} for again in (0.9, 1.1) * 9]
    figure = peers._figure('fp32_vs_best_peer/resnet18', found, 1)
    assert figure.value == 1.0
    assert figure.holds is False
    assert 'inconclusive' in figure.how


def test_a_robot_runs_without_the_extras():
    done = subprocess.run(
        [sys.executable, '-m', 'benchmarks._engine_absent_child',
         json.dumps({'blocked': ['openvino', 'ncnn', 'torch'], 'frames': 3})],
        capture_output=True, text=True, timeout=300, check=False, cwd=str(ROOT))
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.strip().splitlines()[-1])
    assert told['answered'] == told['frames'] == 3
    assert told['engines'] == ['onnxruntime']
    assert len(told['gains']) == 3
