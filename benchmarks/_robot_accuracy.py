# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Accuracy through the robot's own path (frame, tensor, executor) against the manifest."""
from __future__ import annotations

import os
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, Sequence, Tuple

import cv2
import numpy as np

from crowdhmt_ros.bundle.materialise import default_cache_dir, materialise
from crowdhmt_ros.bundle.reader import Bundle, open_bundle
from crowdhmt_ros.campus.scene import independent_scene
from crowdhmt_ros.cli.figures import HIGHER, LOWER, Figure, claim, inform
from crowdhmt_ros.engine.backends import make_backend
from crowdhmt_ros.engine.pool import Pool
from crowdhmt_ros.executor import Executor
from crowdhmt_ros.types import Candidate
from crowdhmt_ros.vision.frame import Frame
from crowdhmt_ros.vision.preprocess import Preprocessor

BANDS = ('noon', 'afternoon', 'dusk')
LIVE_SEED = 90210
"""Must differ from the seeds in the manifest's provenance; checked below."""
SCENES, QUICK_SCENES = 6000, 70
QUICK_PHOTOS = 20
CHUNK = 250
FRAME_RATE_HZ = 10.0


class Answerer:
    """
    The robot's path from a frame to a class, one variant at a time.

    :param bundle: opened
    """

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle
        self.candidates: Dict[str, Candidate] = {
            c.variant_id: c for c in bundle.candidates((1,), ('lean',))}
        segments = materialise(bundle, default_cache_dir())
        self._pool = Pool(make_backend('onnxruntime'), segments)
        self._executor = Executor(bundle.classes, Preprocessor(bundle.input))

    def answer(self, variant_id: str, image: np.ndarray) -> int:
        """Return the class index of an image (H, W, 3) blue-green-red."""
        candidate = self.candidates[variant_id]
        self._executor.switch(candidate, self._pool.prepare(candidate), 1)
        frame = Frame(image=image, stamp_ns=0, frame_id='', received_s=time.monotonic(),
                      domain='scenes', truth=None)
        return self._executor.infer(frame).best

    def close(self) -> None:
        """Let go of the engines."""
        self._pool.close()


def count_right(work: Tuple[str, int, str, int, int]) -> Dict[str, int]:
    """Render scenes start..stop of a band and count right answers per variant."""
    bundle_name, seed, band, start, stop = work
    cv2.setNumThreads(1)
    answerer = Answerer(open_bundle(bundle_name))
    right = dict.fromkeys(answerer.candidates, 0)
    for index in range(start, stop):
        image, label = independent_scene(seed, index, band)
        for variant_id in right:
            right[variant_id] += answerer.answer(variant_id, image) == label
    answerer.close()
    return right


def live_accuracy(bundle: Bundle, bundle_name: str, scenes: int
                  ) -> Tuple[Dict[str, Dict[str, float]], float]:
    """
    Measure every variant on scenes that nothing was fitted to.

    :returns: band -> variant_id -> ratio; answers a second
    """
    materialise(bundle, default_cache_dir())
    found: Dict[str, Dict[str, float]] = {}
    started_s = time.monotonic()
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        for band in BANDS:
            work = [(bundle_name, LIVE_SEED, band, i, min(i + CHUNK, scenes))
                    for i in range(0, scenes, CHUNK)]
            counts = list(pool.map(count_right, work))
            found[band] = {v: sum(c[v] for c in counts) / scenes for v in counts[0]}
    answers = scenes * len(BANDS) * len(bundle.manifest.front)
    return found, answers / (time.monotonic() - started_s)


def live_figures(bundle: Bundle, bundle_name: str, *, quick: bool) -> List[Figure]:
    """Return the gap between the manifest and fresh scenes, worst first and one by one."""
    scenes = QUICK_SCENES if quick else SCENES
    made_with = str(bundle.manifest.provenance.get('data', {}).get('scenes', {}))
    assert str(LIVE_SEED) not in made_with, 'the live scenes must be new to the manifest'
    found, rate_hz = live_accuracy(bundle, bundle_name, scenes)
    gaps = {(band, v): 100 * (ratio - bundle.accuracy(v)['scenes/' + band])
            for band, ratios in found.items() for v, ratio in ratios.items()}
    worst = max(gaps, key=lambda key: abs(gaps[key]))
    how = 'largest |live - manifest|, %d variants x 3 bands, %d new scenes each; worst %s, %s' % (
        len(bundle.manifest.front), scenes, worst[1], worst[0])
    figures = [claim('accuracy_live_gap_pt', abs(gaps[worst]), 2.0, better=LOWER, how=how,
                     also=scenes >= 2000 and rate_hz > FRAME_RATE_HZ)]
    figures += [inform('accuracy_live_gap_pt/%s/%s' % key, gap,
                       how='live %.4f minus manifest' % found[key[0]][key[1]])
                for key, gap in gaps.items()]
    return [*figures, inform('accuracy_live_rate_hz', rate_hz, better=HIGHER,
                             how='answers a second, rendering included; real time is 10')]


def photos(folder: Path, sources: Mapping[str, Any], classes: Sequence[str], limit: int
           ) -> Iterator[Tuple[np.ndarray, int]]:
    """Yield (image blue-green-red, class index) of the test photos that the manifest names."""
    train, test = sources['photo_files']['train'], sources['photo_files']['test']
    for train_name, name in zip(train, test):
        mapping = sources['photo_classes'][train_name]
        with np.load(folder / name, allow_pickle=False) as archive:
            blob, offsets, labels = archive['blob'], archive['offsets'], archive['y']
            names = [str(c) for c in archive['classes']]
        index_of = {names.index(n): classes.index(c) for c, ns in mapping.items() for n in ns}
        wanted = [i for i, y in enumerate(labels) if int(y) in index_of]
        for i in wanted[::max(1, len(wanted) // limit)] if limit else wanted:
            image = cv2.imdecode(blob[int(offsets[i]):int(offsets[i + 1])], cv2.IMREAD_COLOR)
            yield image, index_of[int(labels[i])]


def photo_accuracy(bundle: Bundle, folder: Path, limit: int) -> Tuple[Dict[str, float], int]:
    """Return variant_id -> balanced accuracy on the test photos, and their number."""
    answerer = Answerer(bundle)
    hits: Dict[str, Dict[int, List[bool]]] = {v: {} for v in answerer.candidates}
    count = 0
    for image, label in photos(folder, bundle.manifest.provenance['data'], bundle.classes, limit):
        count += 1
        for variant_id, per_class in hits.items():
            per_class.setdefault(label, []).append(answerer.answer(variant_id, image) == label)
    answerer.close()
    return {v: float(np.mean([np.mean(h) for h in per_class.values()]))
            for v, per_class in hits.items()}, count


def photo_figures(bundle: Bundle, *, quick: bool) -> List[Figure]:
    """Return the accuracy of the richest and the leanest variant on real photos."""
    front = bundle.manifest.front
    rich, lean = front[0], front[-1]
    keys = (('photos_accuracy_rich', 0.80), ('photos_accuracy_lean', 0.70),
            ('photos_accuracy_gap', 0.03))
    folder = os.environ.get('CROWDHMT_DATA')
    if not folder:
        return [claim(key, None, target, better=HIGHER, how='not measured: set CROWDHMT_DATA to '
                      'the folder with the photo archives') for key, target in keys]
    found, count = photo_accuracy(bundle, Path(folder), QUICK_PHOTOS if quick else 0)
    values = (found[rich], found[lean], found[rich] - found[lean])
    hows = ('%s, balanced over the classes, %d test photos' % (rich, count),
            '%s, the same photos' % lean, '%s minus %s' % (rich, lean))
    figures = [claim(key, value, target, better=HIGHER, how=how)
               for (key, target), value, how in zip(keys, values, hows)]
    figures += [inform('photos_accuracy/' + v, ratio, better=HIGHER, how='manifest %.4f' %
                       bundle.accuracy(v)['photos']) for v, ratio in found.items()]
    return figures
