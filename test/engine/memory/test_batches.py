# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from crowdhmt_ros.engine.backend import make_buffers
from crowdhmt_ros.engine.backends.onnxruntime import OnnxRuntimeBackend
from crowdhmt_ros.engine.memory.batches import BatchExecutable, part_of
from crowdhmt_ros.errors import BackendError
from crowdhmt_ros.types import EngineOptions, TensorSpec

MB = 1 << 20


@pytest.mark.parametrize(('batch', 'room', 'part'), [
    (16, 64 * MB, 16), (16, 63 * MB, 8), (16, 4 * MB, 1), (16, 0, 1), (12, 20 * MB, 4), (1, 0, 1)])
def test_as_many_at_once_as_the_room_allows(batch, room, part):
    assert part_of(batch, 4 * MB, room) == part


def test_a_batch_is_answered_as_its_images_are(segments):
    segment = next(s for name, s in sorted(segments.items()) if name.endswith('whole'))
    one = OnnxRuntimeBackend().compile(segment, EngineOptions())
    batch = BatchExecutable(one, 3)
    assert batch.inputs[0].shape == (3, *one.inputs[0].shape[1:])
    images = np.random.default_rng(0).standard_normal(batch.inputs[0].shape).astype(np.float32)
    found, alone = make_buffers(batch.outputs), make_buffers(one.outputs)
    batch.run((images,), found)
    for index in range(3):
        one.run((images[index:index + 1],), alone)
        np.testing.assert_array_equal(found[0][index:index + 1], alone[0])
    with pytest.raises(BackendError, match='expects'):
        batch.run((images[:2],), found)


def test_an_executable_without_a_batch_cannot_be_split():
    class Scalar:
        inputs = outputs = (TensorSpec('x', 'float32', ()),)
        memory_bytes = 0
    with pytest.raises(BackendError, match='no batch'):
        BatchExecutable(Scalar(), 2)
