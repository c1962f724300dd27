# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The bench as a user runs it; --quick shows that it works, its figures are no claims."""
import json
import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.ros


def bench(tmp_path, *words, timeout_s=280):
    pytest.importorskip('crowdhmt_ros.msg', reason='the messages are not built')
    out = tmp_path / 'figures.json'
    environment = dict(os.environ, TMPDIR=str(tmp_path))  # a lock of its own
    environment.setdefault('CROWDHMT_CACHE', str(tmp_path / 'cache'))
    done = subprocess.run(
        [sys.executable, '-m', 'crowdhmt_ros.cli.main', 'bench', 'robot', '--quick', '--json',
         str(out), *words], env=environment, text=True, capture_output=True, timeout=timeout_s,
        check=False)
    assert done.returncode in (0, 1), done.stdout + done.stderr
    content = json.loads(out.read_text())
    assert content['bench'] == 'robot'
    assert content['machine']['quick'] is True
    return {f['key']: f for f in content['figures']}, done


def test_the_switch_part_gives_its_figure(tmp_path):
    figures, done = bench(tmp_path, '--only', 'switch')
    figure = figures['switch_resident_us']
    # Other tests may run beside this one: what the figure is, is for the bench on a quiet machine.
    assert 0.0 < figure['value'] < 50_000.0
    assert figure['holds'] is (figure['value'] <= 200.0)
    assert 'switch_resident_us' in done.stdout


@pytest.mark.slow
def test_every_part_gives_its_figures(tmp_path):
    figures, _ = bench(tmp_path, timeout_s=900)
    wanted = {'frames_lost', 'late_ratio', 'switch_gap_frames_max', 'plans_distinct',
              'best_static_violations_ratio', 'budget_violation_ratio', 'photos_accuracy_rich',
              'photos_accuracy_lean', 'photos_accuracy_gap', 'accuracy_live_gap_pt',
              'node_overhead_ratio', 'switch_resident_us'}
    assert wanted <= set(figures)
    assert figures['frames_lost']['value'] == 0
