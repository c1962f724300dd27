# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
import ctypes
import json
import subprocess
import sys

import pytest

from crowdhmt_ros.engine import trim as module
from crowdhmt_ros.engine.trim import trim

FREED = """
import ctypes, json, re
from pathlib import Path
from crowdhmt_ros.engine.trim import trim

def private_mb():
    return int(re.search(r'RssAnon:\\s+(\\d+)', Path('/proc/self/status').read_text())[1]) / 1024

libc = ctypes.CDLL(None)
libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
blocks = [libc.malloc(100000) for _ in range(400)]  # each too small for pages of its own
for block in blocks:
    ctypes.memset(block, 1, 100000)
for block in blocks[:-1]:
    libc.free(block)
before = private_mb()
print(json.dumps([trim(), before - private_mb()]))
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), 'malloc_trim'), reason='another C library')
def test_memory_freed_below_what_is_in_use_goes_back():
    done = subprocess.run([sys.executable, '-c', FREED], capture_output=True, check=True,
                          text=True)
    can, given_back_mb = json.loads(done.stdout)
    assert can
    assert given_back_mb > 30.0


def test_another_c_library_is_left_alone(monkeypatch):
    monkeypatch.setattr(module.ctypes, 'CDLL', lambda name: object())
    module._malloc_trim.cache_clear()
    assert not trim()
    module._malloc_trim.cache_clear()
