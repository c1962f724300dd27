# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
A fresh process that prepares camera frames in turns: the robot's way beside the usual one.

Everything runs in one thread, and its own processor time counts: who else is on the machine does
not lengthen it by taking the core away.
"""
from __future__ import annotations

import ctypes
import gc
import json
import resource
import sys
import time
import tracemalloc
from functools import partial
from typing import Any, Callable, Dict, List, Mapping, Sequence, Tuple

import cv2
import numpy as np

from benchmarks.timing import interleave
from crowdhmt_ros.campus.scene import LIGHT_BANDS, render, scene_at
from crowdhmt_ros.types import InputSpec
from crowdhmt_ros.vision.image_codec import decode_compressed
from crowdhmt_ros.vision.preprocess import Preprocessor

HEIGHT, WIDTH, EDGE = 480, 640, 224
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
FLAGS = {'area': cv2.INTER_AREA, 'linear': cv2.INTER_LINEAR}
FRAMES, SEED, WARM, TOGETHER = 6, 60606, 5, 4
QUALITY = 90
LEAST_BYTES = 4096
"""Python's own small objects lie below, any buffer of a frame far above."""
Way = Callable[[Any], Any]


def frames() -> List[np.ndarray]:
    """Return rendered camera frames, sensor noise and all."""
    return [np.ascontiguousarray(render(scene_at(SEED, i, LIGHT_BANDS[i % len(LIGHT_BANDS)]),
                                        WIDTH, HEIGHT)) for i in range(FRAMES)]


def usual(how: str, *, colours_last: bool = False) -> Way:
    """
    Return the preprocessing as it is usually written.

    :param how: key of `FLAGS`
    :param colours_last: swap the colours of the small image, not of the frame
    """
    mean, std = np.array(MEAN, np.float32), np.array(STD, np.float32)
    flag = FLAGS[how]

    def prepare(image: np.ndarray) -> np.ndarray:
        rgb = image if colours_last else cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
        small = cv2.resize(rgb, (EDGE, EDGE), interpolation=flag)
        if colours_last:
            small = cv2.cvtColor(small, cv2.COLOR_BGR2RGB)
        x = small.astype(np.float32) / 255.0
        x = (x - mean) / std
        return np.ascontiguousarray(x.transpose(2, 0, 1)[None])
    return prepare


def spec(how: str) -> InputSpec:
    """Return what the model expects."""
    return InputSpec('image', 'float32', (1, 3, EDGE, EDGE), 'rgb', how, 1 / 255, MEAN, STD)


def robots(how: str) -> Tuple[Way, np.ndarray]:
    """Return the robot's preprocessing and the tensor that it writes."""
    preprocessor, out = Preprocessor(spec(how)), np.zeros((1, 3, EDGE, EDGE), np.float32)
    return lambda image: preprocessor.into(image, out), out


def resize_alone(how: str) -> Way:
    """Return cv2's resizing into memory that is kept."""
    small = np.zeros((EDGE, EDGE, 3), np.uint8)
    return lambda image: cv2.resize(image, (EDGE, EDGE), dst=small, interpolation=FLAGS[how])


def timed(way: Way, images: Sequence[Any]) -> Callable[[], float]:
    """Return a function that prepares some frames and returns the processor seconds of one."""
    turn = [0]

    def measure() -> float:
        turn[0] += 1
        chosen = [images[(turn[0] + i) % len(images)] for i in range(TOGETHER)]
        start_s = time.thread_time()
        for image in chosen:
            way(image)
        return (time.thread_time() - start_s) / TOGETHER
    for image in list(images)[:WARM]:
        way(image)
    return measure


def speed(how: str, pairs: int) -> Dict[str, Any]:
    """Return seconds of (robot, usual), of other pairs, and how far the tensors are apart."""
    images = frames()
    ours, _ = robots(how)
    mine = timed(ours, images)
    others = {'usual': usual(how), 'again': robots(how)[0],
              'colours_last': usual(how, colours_last=True), 'resize_alone': resize_alone(how),
              'linear_alone': resize_alone('linear')}
    return {'pairs': {name: interleave(mine, timed(way, images), pairs)
                      for name, way in others.items()},
            'apart': apart(how, images)}


def apart(how: str, images: Sequence[np.ndarray]) -> Dict[str, float]:
    """Return how far the two tensors are apart, in levels of 255."""
    ours, out = robots(how)
    plain, levels = usual(how), []
    scale = 255.0 * np.array(STD, np.float32).reshape(1, 3, 1, 1)
    for image in images:
        ours(image)
        levels.append(np.abs(plain(image) - out) * scale)
    found = np.stack(levels)
    return {'mean': float(found.mean()), 'p99': float(np.percentile(found, 99)),
            'max': float(found.max())}


def allocations(how: str, count: int) -> Dict[str, Any]:
    """
    Return what preparing frames takes from memory.

    :returns: 'frames' that took any buffer, 'small_bytes' of Python's own objects at most,
        'heap_bytes' that the heap grew by, 'faults' of pages, 'usual_bytes' that the usual way
        takes
    """
    images = frames()
    ours, _ = robots(how)
    for image in images:
        ours(image)
    heap_before, faults_before = _heap_bytes(), _faults()
    for number in range(count):
        ours(images[number % len(images)])
    grown, faults = _heap_bytes() - heap_before, _faults() - faults_before
    peaks = [_peak_bytes(ours, images[number % len(images)], tracing) for number, tracing in
             _traced(count)]
    plain = usual(how)
    usual_bytes = [_peak_bytes(plain, images[0], tracing) for _, tracing in _traced(3)]
    return {'frames': sum(p >= LEAST_BYTES for p in peaks), 'small_bytes': max(peaks),
            'heap_bytes': grown, 'faults': faults, 'usual_bytes': max(usual_bytes)}


def _traced(count: int) -> Any:
    gc.collect()
    tracemalloc.start()
    try:
        for number in range(count):
            yield number, tracemalloc
    finally:
        tracemalloc.stop()


def _peak_bytes(way: Way, image: np.ndarray, tracing: Any) -> int:
    base = tracing.get_traced_memory()[0]
    tracing.reset_peak()
    way(image)
    return int(tracing.get_traced_memory()[1] - base)


def _faults() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


class _MallocInfo(ctypes.Structure):
    """What glibc's mallinfo2 returns."""

    _fields_ = [(name, ctypes.c_size_t) for name in (
        'arena', 'ordblks', 'smblks', 'hblks', 'hblkhd', 'usmblks', 'fsmblks', 'uordblks',
        'fordblks', 'keepcost')]


def _heap_bytes() -> int:
    """Return bytes in use on the C heap, mapped blocks included."""
    ask = ctypes.CDLL(None).mallinfo2
    ask.restype = _MallocInfo
    found = ask()
    return int(found.uordblks + found.hblkhd)


def jpeg(edge: int, pairs: int) -> Dict[str, Any]:
    """Return seconds of (decoded reduced, in full), alone and with the preprocessing."""
    files = [cv2.imencode('.jpg', image, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1].tobytes()
             for image in frames()]
    preprocessor = {reduced: Preprocessor(InputSpec(
        'image', 'float32', (1, 3, edge, edge), 'rgb', 'area', 1 / 255, MEAN, STD))
        for reduced in (True, False)}
    tensors = {r: np.zeros((1, 3, edge, edge), np.float32) for r in (True, False)}

    def decode(content: bytes, reduced: bool) -> np.ndarray:
        return decode_compressed(content, reduced_to=(edge, edge) if reduced else None)

    def whole(content: bytes, reduced: bool) -> None:
        preprocessor[reduced].into(decode(content, reduced), tensors[reduced])
    apart_levels = []
    for content in files:
        for reduced in (True, False):
            whole(content, reduced)
        apart_levels.append(np.abs(tensors[True] - tensors[False])
                            * 255.0 * np.array(STD, np.float32).reshape(1, 3, 1, 1))
    return {'pairs': {name: interleave(timed(partial(way, reduced=True), files),
                                       timed(partial(way, reduced=False), files), pairs)
                      for name, way in (('decode', decode), ('whole', whole))},
            'mean': float(np.mean(apart_levels)),
            'size': list(decode(files[0], True).shape[1::-1])}


TASKS: Mapping[str, Callable[..., Dict[str, Any]]] = {
    'speed': speed, 'allocations': allocations, 'jpeg': jpeg}


if __name__ == '__main__':
    cv2.setNumThreads(1)
    request = json.loads(sys.argv[1])
    print(json.dumps(TASKS[request.pop('what')](**request)))
