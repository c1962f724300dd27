# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What the way to a peer costs in bytes and in accuracy, measured on scenes held back. Offline."""
from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Sequence, Tuple

import numpy as np
from numpy.typing import NDArray

from crowdhmt_ros.bundle.entries import CrossingFigure
from crowdhmt_ros.bundle.materialise import materialise
from crowdhmt_ros.bundle.reader import Bundle
from crowdhmt_ros.elastic.teaching.images import Images
from crowdhmt_ros.offload.codec import decode, decode_image, encode, encode_image
from crowdhmt_ros.types import InputSpec, Segment

FRAME, WHOLE = ('', 'jpeg'), ('', '')
"""(cut_id, codec) of the frame itself as a JPEG picture; of the model that stays here."""
CODECS = ('fp16', 'int8')

Progress = Callable[[int, int], None]
_Counts = Dict[Tuple[str, str], Tuple[int, int]]
"""(cut_id, codec) -> (right answers, bytes)."""


def prepared(pixels: NDArray[np.uint8], spec: InputSpec) -> NDArray[np.float32]:
    """
    Return what the network takes.

    :param pixels: (height, width, 3) red-green-blue, as large as the network's input
    """
    mean, std = (np.array(v, np.float32).reshape(1, 3, 1, 1) for v in (spec.mean, spec.std))
    planes = pixels.transpose(2, 0, 1)[None].astype(np.float32)
    return np.ascontiguousarray((planes * np.float32(spec.scale) - mean) / std)


def thin(images: Images, count: int) -> Images:
    """Return the first `count` images, which are balanced where the set is drawn in turns."""
    return Images(images.pixels[:count], images.labels[:count])


@dataclass(frozen=True, eq=False)
class _Graphs:
    """Every compiled part of one variant."""

    spec: InputSpec
    whole: Any
    parts: Mapping[str, Tuple[Any, Any, Segment]]

    def count(self, images: Images) -> _Counts:
        """Answer every image in every way."""
        found: _Counts = {}
        for pixels, label in zip(images.pixels, images.labels):
            for way, (answer, sent) in self._answers(pixels).items():
                right, total = found.get(way, (0, 0))
                found[way] = (right + int(answer == label), total + sent)
        return found

    def _answers(self, pixels: NDArray[np.uint8]) -> Dict[Tuple[str, str], Tuple[int, int]]:
        x = prepared(pixels, self.spec)
        picture = encode_image(np.ascontiguousarray(pixels[..., ::-1]))
        received = decode_image(picture, *pixels.shape[:2])[..., ::-1]
        answers = {WHOLE: (_best(self.whole, [x]), 0),
                   FRAME: (_best(self.whole, [prepared(received, self.spec)]), len(picture))}
        for cut_id, (head, tail, segment) in self.parts.items():
            tensors = head.run(None, {self.spec.name: x})
            for codec in CODECS:
                payload = encode(codec, tensors)
                answers[cut_id, codec] = (
                    _best(tail, decode(codec, payload, segment.outputs)), len(payload))
        return answers


def _best(session: Any, tensors: Sequence[NDArray[np.float32]]) -> int:
    names = [i.name for i in session.get_inputs()]
    return int(session.run(None, dict(zip(names, tensors)))[0].argmax())


def _session(path: str) -> Any:
    import onnxruntime
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options, providers=['CPUExecutionProvider'])


def _graphs(bundle: Bundle, variant_id: str, segments: Mapping[str, Segment]) -> _Graphs:
    parts = {}
    for entry in bundle.manifest.segments.values():
        if (entry.variant_id, entry.role, entry.fusion_set, entry.precision) == (
                variant_id, 'head', 'none', 'fp32'):
            head = segments[entry.segment_id]
            tail = segments[bundle.segment_for(variant_id, 'tail', cut_id=entry.cut_id)]
            parts[entry.cut_id] = (_session(head.path), _session(tail.path), head)
    return _Graphs(bundle.input, _session(segments[bundle.segment_for(variant_id)].path), parts)


def measure_crossings(bundle: Bundle, sets: Mapping[str, Images], cache: Path,
                      progress: Progress) -> Tuple[CrossingFigure, ...]:
    """
    Measure every way to a peer: the frame as a JPEG picture, each cut under each codec.

    The loss of accuracy is the difference to the uncut model on the very same scenes.

    :param bundle: with its cuts
    :param sets: light band -> scenes, equally many each
    :param cache: folder for the materialised graphs
    :returns: per variant of the front the frame first, then its cuts in the order of the bundle
    """
    segments = materialise(bundle, cache)
    work = [(variant_id, images) for variant_id in bundle.manifest.front
            for images in sets.values()]
    found: List[CrossingFigure] = []
    counted: Dict[str, List[_Counts]] = {}
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        answers = pool.map(lambda w: _graphs(bundle, w[0], segments).count(w[1]), work)
        for done, ((variant_id, _), counts) in enumerate(zip(work, answers)):
            counted.setdefault(variant_id, []).append(counts)
            progress(done + 1, len(work))
    count = sum(len(images.labels) for images in sets.values())
    for variant_id, parts in counted.items():
        found.extend(_figures(variant_id, parts, count))
    return tuple(found)


def _figures(variant_id: str, parts: Sequence[_Counts], count: int) -> List[CrossingFigure]:
    uncut = sum(counts[WHOLE][0] for counts in parts)
    found = []
    for way in (w for w in parts[0] if w != WHOLE):
        right, sent = (sum(counts[way][i] for counts in parts) for i in (0, 1))
        found.append(CrossingFigure(
            variant_id, way[0], way[1], sent / count, (uncut - right) / count, count))
    return found
