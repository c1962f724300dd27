# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
The robot side runs with the libraries of the Python 3.8 era, which JetPack 5 has.

A robot's Python 3.8 is seldom at hand, so the era's versions run on this Python, or the oldest
that install on it.
"""
import os
import re
import sys

import pytest

from .environments import ROOT, clean_environment, environment_with, run

# Python minor version -> onnxruntime, numpy; the first line is the era's own.
FLOORS = {
    (3, 11): ('1.19.2', '1.24.4'),
    (3, 12): ('1.19.2', '1.26.4'),
    (3, 13): ('1.20.1', '2.1.3'),
    (3, 14): ('1.24.1', '2.3.5'),
}
OPENCV = {'1': '4.5.5.64', '2': '4.10.0.84'}
"""Major version of numpy -> version of opencv-python-headless."""
SELECTION = ('bundle', 'engine', 'planner', 'profiling', 'resources', 'vision', 'campus',
             'offload', 'test_loop.py', 'test_executor.py')


def floor_requirements():
    fitting = [minor for minor in FLOORS if minor >= sys.version_info[:2]]
    onnxruntime, numpy = FLOORS[min(fitting) if fitting else max(FLOORS)]
    return [f'onnxruntime=={onnxruntime}', f'numpy=={numpy}',
            f'opencv-python-headless=={OPENCV[numpy[0]]}', 'psutil', 'pyyaml', 'pytest',
            'pytest-timeout', 'hypothesis', 'pyzmq', 'cryptography', 'zstandard']


@pytest.mark.timeout(900)
def test_robot_side_passes_with_the_oldest_engine_and_numpy():
    folder = environment_with('floor', floor_requirements())
    selection = [f'test/{name}' for name in SELECTION if (ROOT / 'test' / name).exists()]
    done = run(
        [folder / 'bin' / 'python', '-m', 'pytest', '-q', '-p', 'no:cacheprovider',
         '-m', 'not slow and not ros', *selection],
        env=clean_environment(folder, OMP_NUM_THREADS='2', **{
            name: value for name, value in os.environ.items() if name.startswith('CROWDHMT_')}),
        cwd=ROOT, timeout_s=840, check=False)
    assert done.returncode == 0, done.stdout[-6000:]
    passed = re.search(r'(\d+) passed', done.stdout)
    assert passed is not None, done.stdout[-2000:]
    assert int(passed.group(1)) > 50, done.stdout[-2000:]
