# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
import ctypes
import json
import subprocess
import sys

import pytest

from crowdhmt_ros.engine import trim as module
from crowdhmt_ros.engine.trim import share_arena, trim

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


ARENAS = """
import ctypes, threading
from crowdhmt_ros.engine.trim import share_arena

print(share_arena())
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
threads = [threading.Thread(target=libc.malloc, args=(1000,)) for _ in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
libc.malloc_stats()
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), 'malloc_trim'), reason='another C library')
def test_threads_share_one_arena():
    done = subprocess.run([sys.executable, '-c', ARENAS], capture_output=True, check=True,
                          text=True)
    assert done.stdout.strip() == 'True'
    assert done.stderr.count('Arena ') == 1


def test_another_c_library_is_left_alone(monkeypatch):
    monkeypatch.setattr(module.ctypes, 'CDLL', lambda name: object())
    module._function.cache_clear()
    assert not trim()
    assert not share_arena()
    module._function.cache_clear()
