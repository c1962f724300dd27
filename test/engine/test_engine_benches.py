# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The benches of the choice of engines: how they judge, and that their children work."""
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def test_ours_is_compared_round_by_round_with_each_peer(monkeypatch):
    pytest.importorskip('torch', reason='torch is not installed (extra train)')
    pytest.importorskip('onnx', reason='onnx is not installed (extra train)')
    monkeypatch.syspath_prepend(str(ROOT))
    from benchmarks import _engine_peers as peers
    found = peers.Measured({'ours': [1.0, 8.0, 2.0, 50.0], 'onnxruntime': [2.0, 16.0, 4.0, 100.0],
                            'ncnn': [1.0, 10.0]})
    assert peers.ratios(found) == {'onnxruntime': (0.5, 0.5), 'ncnn': (0.9, 1.0)}
    figure = peers._figure('fp32_vs_best_peer/resnet18', found, 1)
    assert figure.value == pytest.approx(0.9)
    assert figure.holds
    assert 'best peer ncnn' in figure.how
    assert peers._figure('x', found, 2).target is None


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
