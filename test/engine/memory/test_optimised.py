# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import onnxruntime
import pytest

from crowdhmt_ros.bundle.materialise import materialise
from crowdhmt_ros.engine.backends.mapped import LEAST_RELEASE, is_supported
from crowdhmt_ros.engine.memory import optimised
from crowdhmt_ros.engine.memory.optimised import (
    cache_key,
    instruction_set,
    optimised_graph,
    rewriting_bytes,
)
from crowdhmt_ros.engine.memory.room import RoomError
from crowdhmt_ros.errors import BackendError
from crowdhmt_ros.types import EngineOptions

OPTIONS = EngineOptions(memory_mode='mapped')
pytestmark = pytest.mark.skipif(not is_supported(onnxruntime.__version__),
                                reason='needs ONNX Runtime %d.%d' % LEAST_RELEASE)


@pytest.fixture
def segment(bundle, tmp_path):
    return materialise(bundle, tmp_path, ['wide/whole'])['wide/whole']


@pytest.fixture
def made(monkeypatch):
    """Count how often a graph is rewritten."""
    calls = []
    original = optimised._rewritten

    def counted(segment, folder):
        calls.append(segment.segment_id)
        return original(segment, folder)
    monkeypatch.setattr(optimised, '_rewritten', counted)
    return calls


def test_a_graph_is_rewritten_once_and_every_tensor_known(segment, made):
    first = optimised_graph(segment, OPTIONS, '1')
    assert optimised_graph(segment, OPTIONS, '1') == first
    assert made == ['wide/whole']
    assert Path(first.graph_path).parent.parent == Path(segment.path).parent / 'optimised'
    assert first.tensors[segment.outputs[0].name] == segment.outputs[0]
    assert all(min(spec.shape) > 0 for spec in first.tensors.values())


def damaged_graph(segment, kept):
    os.truncate(kept.graph_path, 10)


def damaged_weights(segment, kept):
    with open(kept.weights_path, 'ab') as stream:
        stream.write(b'x')


def lost_weights(segment, kept):
    os.unlink(kept.weights_path)


def bad_stamp(segment, kept):
    (Path(kept.graph_path).parent / 'complete.json').write_text('{"source": 3')


def newer_source(segment, kept):
    os.utime(segment.path, ns=(1, 1))


def newer_source_weights(segment, kept):
    for path in Path(segment.path).parent.glob('*.bin'):
        os.utime(path, ns=(1, 1))


@pytest.mark.parametrize('spoil', [damaged_graph, damaged_weights, lost_weights, bad_stamp,
                                   newer_source, newer_source_weights])
def test_what_is_stale_or_damaged_is_made_again(segment, made, spoil):
    kept = optimised_graph(segment, OPTIONS, '1')
    spoil(segment, kept)
    again = optimised_graph(segment, OPTIONS, '1')
    assert len(made) == 2
    assert again.tensors == kept.tensors
    assert optimised_graph(segment, OPTIONS, '1') == again
    assert len(made) == 2


def test_the_key_names_all_that_changes_the_result():
    key = cache_key('a', '1', 'avx2', OPTIONS)
    others = [cache_key('b', '1', 'avx2', OPTIONS), cache_key('a', '2', 'avx2', OPTIONS),
              cache_key('a', '1', 'neon', OPTIONS),
              cache_key('a', '1', 'avx2', replace(OPTIONS, fusion_set='all'))]
    assert len({key, *others}) == 5
    same = replace(OPTIONS, threads=2, spinning=True, memory_mode='streamed')
    assert cache_key('a', '1', 'avx2', same) == key


def test_the_instruction_set_names_the_machine():
    assert instruction_set() == instruction_set()
    assert len(instruction_set().split()) > 1


def test_many_at_once_make_it_once(segment, made):
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda _: optimised_graph(segment, OPTIONS, '1'), range(4)))
    assert len(set(map(str, found))) == 1
    assert len(made) == 1


def test_processes_that_start_together_all_get_it(segment, bundle):
    code = ('import sys; from crowdhmt_ros.engine.memory.optimised import optimised_graph\n'
            'from crowdhmt_ros.types import EngineOptions, Segment\n'
            's = Segment("s", sys.argv[1], sys.argv[2], (), ())\n'
            'print(optimised_graph(s, EngineOptions(), "1").graph_path)')
    command = [sys.executable, '-c', code, segment.sha256, segment.path]
    root = Path(__file__).parents[3]
    running = [subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE) for _ in range(3)]
    paths = {process.communicate(timeout=120)[0] for process in running}
    assert [process.returncode for process in running] == [0, 0, 0]
    assert len(paths) == 1


def test_nothing_is_rewritten_where_there_is_too_little_memory_until_there_is_more(
        segment, made, monkeypatch):
    heavy = replace(segment, weight_bytes=100 << 20)
    needed = rewriting_bytes(heavy)
    assert needed > 4 * heavy.weight_bytes
    monkeypatch.setattr(optimised, 'free_bytes', lambda: needed - 1)
    with pytest.raises(RoomError, match=r'takes about 440 MB of memory and 439 are left: make'):
        optimised_graph(heavy, OPTIONS, '1')
    assert made == []
    monkeypatch.setattr(optimised, 'free_bytes', lambda: needed)
    kept = optimised_graph(heavy, OPTIONS, '1')
    monkeypatch.setattr(optimised, 'free_bytes', lambda: 0)
    assert optimised_graph(heavy, OPTIONS, '1') == kept
    assert len(made) == 1


def test_a_graph_that_the_engine_refuses_is_told_in_one_line(segment):
    Path(segment.path).write_bytes(Path(segment.path).read_bytes().replace(b'Conv', b'Cnov'))
    with pytest.raises(BackendError, match='cannot be rewritten') as caught:
        optimised_graph(segment, OPTIONS, '1')
    assert '\n' not in str(caught.value)
    assert [p.name for p in (Path(segment.path).parent / 'optimised').iterdir()
            if not p.name.endswith('.lock')] == []


def test_a_cache_that_cannot_be_written_is_told(segment):
    folder = Path(segment.path).parent / 'optimised'
    folder.write_text('in the way')
    with pytest.raises(BackendError, match='cannot be kept'):
        optimised_graph(segment, OPTIONS, '1')


def test_lost_weights_of_the_segment_are_told(segment):
    data = next(Path(segment.path).parent.glob('*.bin'))
    if not optimised._source_marks(segment).keys() - {Path(segment.path).name}:
        pytest.skip('the tiny bundle keeps its weights in the graph')
    data.unlink()
    with pytest.raises(BackendError, match='materialise the bundle again'):
        optimised_graph(segment, OPTIONS, '1')


def test_what_killed_processes_left_goes_when_the_next_one_opens_the_cache(segment):
    kept = optimised_graph(segment, OPTIONS, '1')
    folder = Path(kept.graph_path).parent
    for name in ('.own-abc', '.new-abc'):
        (folder.parent / name).mkdir()
        os.link(kept.weights_path, str(folder.parent / name / 'rewritten.bin'))
    with optimised.linked(kept) as own:
        assert optimised_graph(segment, OPTIONS, '1') == kept
        assert Path(own.weights_path).exists()
    assert [path.name for path in folder.parent.glob('.*')] == []
    assert os.stat(kept.weights_path).st_nlink == 1
