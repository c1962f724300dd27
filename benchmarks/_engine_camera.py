# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
The camera path: a frame of 640 x 480 to the tensor of a model, beside the way it is usually done.

Usual is cvtColor, resize, / 255, - mean, / std, transpose, ascontiguousarray. Both sides resize
once by area and once bilinear, and both ratios are claimed. Ours by area is an approximation of
cv2's, up to a few levels of 255 apart, as stated beside it; bilinear it is the same.
"""
from __future__ import annotations

import functools
from typing import Any, Dict, List, Mapping

import numpy as np

from benchmarks import parts
from benchmarks.timing import (
    Compared,
    Ratio,
    claim_ratio,
    gathered,
    in_fresh_process,
    median_ratio,
)
from crowdhmt_ros.cli.figures import HIGHER, LOWER, Figure, claim, inform

SPEEDUP, ALLOCATIONS, JPEG = 'camera_path_speedup', 'camera_path_allocations', 'jpeg_speedup'
CLAIMS: parts.Claims = {SPEEDUP: (3.5, HIGHER), ALLOCATIONS: (0.0, LOWER)}
CHILD = 'benchmarks._engine_camera_child'
WAYS = ('area', 'linear')
PROCESSES, MOST_PROCESSES, PAIRS, FRAMES = 5, 12, 60, 1000
QUICK_PROCESSES, QUICK_PAIRS, QUICK_FRAMES = 2, 15, 100
FAULTS_AT_MOST, HEAP_AT_MOST = 0.01, 4096
"""Pages touched for the first time, per frame, and bytes by which the heap may grow over all."""
EDGES = (224, 64)


def figures(quick: bool) -> List[Figure]:
    """Measure the part."""
    frames = QUICK_FRAMES if quick else FRAMES
    return [*_speed(quick), *parts.tried((ALLOCATIONS,), CLAIMS, lambda: _allocations(frames)),
            *_jpeg(quick)]


def _children(quick: bool, request: Mapping[str, Any]) -> List[Dict[str, Any]]:
    return [_child(quick, request) for _ in range(QUICK_PROCESSES if quick else PROCESSES)]


def _child(quick: bool, request: Mapping[str, Any]) -> Dict[str, Any]:
    found: Dict[str, Any] = in_fresh_process(
        CHILD, {**request, 'pairs': QUICK_PAIRS if quick else PAIRS})
    return found


def _ratio(found: List[Dict[str, Any]], name: str) -> Ratio:
    return median_ratio([pair for each in found for pair in each['pairs'][name]])


def _ours_ms(found: List[Dict[str, Any]], name: str) -> float:
    return 1e3 * float(np.median([ours for each in found for ours, _ in each['pairs'][name]]))


def _timed(quick: bool, how: str) -> List[Dict[str, Any]]:
    return [_child(quick, {'what': 'speed', 'how': how})]


def _speed(quick: bool) -> List[Figure]:
    found = {how: gathered(
        functools.partial(_timed, quick, how), lambda runs: _ratio(list(runs), 'again'),
        least=QUICK_PROCESSES if quick else PROCESSES,
        most=QUICK_PROCESSES if quick else MOST_PROCESSES) for how in WAYS}
    ratios = {how: _ratio(found[how], 'usual') for how in WAYS}
    told = [claim_ratio(SPEEDUP, {how: Compared(ratios[how], _ratio(found[how], 'again'))
                                  for how in WAYS}, 3.5, better=HIGHER, how=(
        'usual over ours, 640x480 to 1x3x224x224, one thread, its processor time, interleaved, '
        'fresh processes; resized bilinear to the same values, by area to values at most %.1f of '
        '255 levels apart' % found['area'][0]['apart']['max']))]
    for how in WAYS:
        runs, apart = found[how], found[how][0]['apart']
        told += [
            inform(SPEEDUP + '/' + how, ratios[how].value, better=HIGHER, how=(
                'ours %.3f ms; tensors apart by %.3f of 255 levels on average, p99 %.2f, at most '
                '%.2f' % (_ours_ms(runs, 'usual'), apart['mean'], apart['p99'], apart['max']))),
            inform(SPEEDUP + '/%s/colours_last' % how, _ratio(runs, 'colours_last').value,
                   better=HIGHER, how='likewise, where the usual way resizes before cvtColor'),
            inform('camera_path_vs_resize/' + how, 1 / _ratio(runs, 'resize_alone').value,
                   how='ours over cv2.resize alone, the same way of resizing')]
    return [*told, inform(
        'camera_path_vs_resize/area_to_linear', 1 / _ratio(found['area'], 'linear_alone').value,
        how='ours by area over cv2.resize alone, bilinear')]


def _allocations(frames: int) -> List[Figure]:
    found = {how: in_fresh_process(CHILD, {'what': 'allocations', 'how': how, 'count': frames})
             for how in WAYS}
    worst = {key: max(f[key] for f in found.values()) for key in found['area']}
    return [
        claim(ALLOCATIONS, worst['frames'] / frames, 0.0, better=LOWER,
              also=(worst['faults'] / frames <= FAULTS_AT_MOST
                    and worst['heap_bytes'] <= HEAP_AT_MOST),
              how='buffers taken per frame (tracemalloc), %d frames each by area and bilinear; '
              'heap in use %+d bytes after all of them (mallinfo2), %d page faults; what cv2 '
              'takes for its lines it gives back within the call' % (
                  frames, worst['heap_bytes'], worst['faults'])),
        inform(ALLOCATIONS + '/small_bytes', worst['small_bytes'],
               how="Python's own short-lived objects, at most at a time"),
        inform(ALLOCATIONS + '/usual_bytes', worst['usual_bytes'],
               how='what the usual way takes for a frame, at most at a time')]


def _jpeg(quick: bool) -> List[Figure]:
    told = []
    for edge in EDGES:
        found = _children(quick, {'what': 'jpeg', 'edge': edge})
        size = '%dx%d' % tuple(found[0]['size'])
        told += [
            inform(JPEG + '/decode/%d' % edge, _ratio(found, 'decode').value, better=HIGHER,
                   how='640x480 decoded in full over decoded as %s, for a model of %d pixels'
                   % (size, edge)),
            inform(JPEG + '/whole/%d' % edge, _ratio(found, 'whole').value, better=HIGHER,
                   how='likewise with the preprocessing by area, which takes %.3f ms together; '
                   'tensors apart by %.2f of 255 levels on average' % (
                       _ours_ms(found, 'whole'), found[0]['mean']))]
    return told
