# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
The task `campus7`: which data, which network, which front, and how it is measured.

Here the campus (scenes), `elastic` (training) and `bundle` (writing) meet.
"""
from __future__ import annotations

import hashlib
import os
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Sequence, Tuple

import cv2
import numpy as np
from numpy.typing import NDArray

from crowdhmt_ros.bundle.materialise import materialise
from crowdhmt_ros.bundle.reader import Bundle, open_bundle
from crowdhmt_ros.bundle.reopen import description_of, family_of
from crowdhmt_ros.bundle.writer import Description, write_bundle
from crowdhmt_ros.campus.scene import CLASSES, independent_scene
from crowdhmt_ros.cli.crossings import measure_crossings, prepared, thin
from crowdhmt_ros.elastic.stage_shapes import Backbone, residual_backbone
from crowdhmt_ros.elastic.data import PHOTO_WEIGHTS, TEST_FILES, TRAIN_FILES, Images
from crowdhmt_ros.elastic.training import Cycle, Normalisation, Recipe, uniform
from crowdhmt_ros.graph.family import Family, FamilyGraph
from crowdhmt_ros.graph.split import last_output
from crowdhmt_ros.types import InputSpec, Variant

EDGE = 64
TRAIN_BANDS = ('noon', 'afternoon')
TEST_BANDS = ('noon', 'afternoon', 'dusk')
TRAIN_SCENE_SEED = 71001
TEST_SCENE_SEED = 71002
NORMALISATION = Normalisation()
CUT_AFTER_STAGES = (1, 2)
"""Where a variant with later stages may be split, see docs/decisions/0007-cuts.md."""

Progress = Callable[[int, int], None]
"""Called with (done, total)."""


@dataclass(frozen=True)
class Amounts:
    """
    How much data.

    :param photos_per_epoch: images
    :param scenes_per_epoch: images
    :param train_scenes: rendered once, per band of `TRAIN_BANDS`
    :param test_scenes: per band of `TEST_BANDS`
    :param test_photo_limit: per test file, 0 for all
    :param crossing_scenes: of the test scenes, to measure what crosses to a peer
    """

    photos_per_epoch: int = 16000
    scenes_per_epoch: int = 8000
    train_scenes: int = 7000
    test_scenes: int = 6006
    test_photo_limit: int = 0
    crossing_scenes: int = 1001


FULL = (Amounts(), Recipe())
QUICK = (Amounts(2560, 1536, 1050, 3003, crossing_scenes=280),
         Recipe((Cycle(3, 0.03, ((0.0, 40), (0.6, 64))),)))


def backbone() -> Backbone:
    """Describe the largest network."""
    return residual_backbone(len(CLASSES))


def front() -> Dict[str, Variant]:
    """Name the variants of the front, richest first: width in %, depth, exit."""
    net = backbone()
    return {
        'w100d2': uniform(net, 1.0, 2),
        'w075d2': uniform(net, 0.75, 2),
        'w050d2': uniform(net, 0.5, 2),
        'w050d1': uniform(net, 0.5, 1),
        'w038d1': uniform(net, 0.375, 1),
        'w038d1e0': uniform(net, 0.375, 1, 0),
    }


def _render(work: Tuple[int, str, int, int]) -> Tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Render scenes start..stop of a band as the robot's network sees them."""
    seed, band, start, stop = work
    pixels = np.empty((stop - start, EDGE, EDGE, 3), np.uint8)
    labels = np.empty(stop - start, np.int64)
    for row, index in enumerate(range(start, stop)):
        image, labels[row] = independent_scene(seed, index, band)
        resized = cv2.resize(image, (EDGE, EDGE), interpolation=cv2.INTER_AREA)
        pixels[row] = cv2.cvtColor(resized, cv2.COLOR_BGR2RGB)
    return pixels, labels


def _renderer_digest() -> str:
    """Name the renderer by pictures, so that a cache never outlives a change of it."""
    digest = hashlib.sha256()
    for band in TEST_BANDS:
        digest.update(_render((1, band, 0, 4 * len(CLASSES)))[0].tobytes())
    return digest.hexdigest()[:16]


def scenes(seed: int, band: str, count: int, cache: Path, progress: Progress) -> Images:
    """
    Render a balanced set of independent scenes, or take it from the cache.

    :param seed: names the set
    :param band: light band
    :param count: scenes
    :param cache: folder for rendered sets
    :param progress: called with (done, total)
    """
    path = cache / ('scenes-%s-%d-%s-%d.npz' % (_renderer_digest(), seed, band, count))
    if path.exists():
        with np.load(path) as archive:
            return Images(archive['pixels'], archive['labels'])
    chunk = 250
    work = [(seed, band, i, min(i + chunk, count)) for i in range(0, count, chunk)]
    parts: List[Tuple[NDArray[np.uint8], NDArray[np.int64]]] = []
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        for part in pool.map(_render, work):
            parts.append(part)
            progress(len(parts), len(work))
    images = Images(np.concatenate([p for p, _ in parts]), np.concatenate([y for _, y in parts]))
    cache.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix('.part.npz')
    np.savez(beside, pixels=images.pixels, labels=images.labels)
    os.replace(beside, path)
    return images


def luminance(images: Images) -> NDArray[np.float64]:
    """Mean grey of each image, 0..1."""
    return np.array([cv2.cvtColor(p, cv2.COLOR_RGB2GRAY).mean() / 255.0 for p in images.pixels])


def _border(darker: NDArray[np.float64], brighter: NDArray[np.float64]) -> float:
    """Brightness that tells two bands apart with the fewest mistakes."""
    steps = np.linspace(0.0, 1.0, 1001)[1:-1]
    wrong = [np.mean(darker >= s) + np.mean(brighter < s) for s in steps]
    best = np.flatnonzero(np.isclose(wrong, np.min(wrong)))
    return float(round(steps[best].mean(), 3))


def luminance_bands(sets: Mapping[str, Images]) -> Dict[str, Tuple[float, float]]:
    """
    Divide 0..1 among the light bands, with the fewest mistakes on single scenes.

    Brightness parts dusk from day. Noon and afternoon overlap widely, so their border alone
    names neither: who uses the bands smooths and errs to the darker side
    (`nodes.feedback_window.ConditionRule`).
    """
    values = {band: luminance(images) for band, images in sets.items()}
    low = _border(values['dusk'], values['afternoon'])
    high = max(low + 0.001, _border(values['afternoon'], values['noon']))
    return {'noon': (high, 1.0), 'afternoon': (low, high), 'dusk': (0.0, low)}


def input_spec() -> InputSpec:
    """Describe the input of every whole graph."""
    n = NORMALISATION
    return InputSpec('image', 'float32', (1, 3, EDGE, EDGE), 'rgb', 'area', n.scale, n.mean, n.std)


def _answers(path: str, images: Images) -> NDArray[np.int64]:
    """Run a materialised graph as the robot does, one image at a time."""
    import onnxruntime
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=['CPUExecutionProvider'])
    spec = input_spec()
    answers = np.empty(len(images.labels), np.int64)
    for i, pixels in enumerate(images.pixels):
        answers[i] = int(session.run(None, {spec.name: prepared(pixels, spec)})[0].argmax())
    return answers


def balanced_accuracy(answers: NDArray[np.int64], labels: NDArray[np.int64]) -> float:
    """Mean over the classes of the ratio of right answers."""
    return float(np.mean([np.mean(answers[labels == c] == c) for c in np.unique(labels)]))


def measure(directory: Path, sets: Mapping[str, Images], cache: Path, progress: Progress
            ) -> Dict[str, Dict[str, Tuple[float, int]]]:
    """
    Measure every variant of a bundle through ONNX Runtime.

    :param directory: the bundle
    :param sets: condition -> images; 'photos' is balanced over the classes, scenes are so drawn
    :param cache: folder for the materialised graphs
    :returns: variant_id -> condition -> (accuracy, count)
    """
    bundle = open_bundle(directory)
    segments = materialise(bundle, cache)
    work = [(v, segments[bundle.segment_for(v)].path, condition)
            for v in bundle.manifest.front for condition in sets]
    found: Dict[str, Dict[str, Tuple[float, int]]] = {v: {} for v in bundle.manifest.front}
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        answered = pool.map(lambda w: _answers(w[1], sets[w[2]]), work)
        for done, ((variant_id, _, condition), answers) in enumerate(zip(work, answered)):
            labels = sets[condition].labels
            value = (balanced_accuracy(answers, labels) if condition == 'photos'
                     else float(np.mean(answers == labels)))
            found[variant_id][condition] = (value, len(labels))
            progress(done + 1, len(work))
    return found


def provenance(command: str, seed: int, amounts: Amounts, recipe: Recipe) -> Dict[str, Any]:
    """Say how to make the bundle again."""
    return {
        'command': command, 'seed': seed,
        'recipe': asdict(recipe),
        'data': {
            **asdict(amounts),
            'photos': 'CIFAR-10 and CIFAR-100 (Krizhevsky, 2009)',
            'photo_files': {
                'train': [name for name, _ in TRAIN_FILES],
                'test': [name for name, _ in TEST_FILES]},
            'photo_classes': {
                name: {c: list(s) for c, s in mapping.items()} for name, mapping in TRAIN_FILES},
            'photo_weights': dict(PHOTO_WEIGHTS),
            'scenes': {'train_seed': TRAIN_SCENE_SEED, 'train_bands': list(TRAIN_BANDS),
                       'test_seed': TEST_SCENE_SEED, 'renderer': _renderer_digest()}}}


def with_cuts(family: Family) -> Family:
    """Return the family with a cut after each stage of `CUT_AFTER_STAGES` that has a next one."""
    return Family(family.tensors, tuple(replace(g, cuts=_cuts(g)) for g in family.graphs))


def _cuts(graph: FamilyGraph) -> Dict[str, Tuple[str, ...]]:
    stages = {node.name.split('.')[1] for node in graph.model.graph.node
              if node.name.startswith('/stages.')}
    return {'%s-after%d' % (graph.variant_id, stage):
            (last_output(graph.model, '/stages.%d.' % stage),)
            for stage in CUT_AFTER_STAGES if str(stage + 1) in stages}


def write_measured(
        family: Family, directory: Path, sets: Mapping[str, Images], *, cache: Path,
        origin: Mapping[str, Any], progress: Progress, crossing_scenes: int) -> str:
    """
    Write the bundle with its cuts, measure it, and write it again with what was measured.

    :param sets: condition -> test images, with a set for each light band
    :param origin: provenance
    :param crossing_scenes: of each light band
    :returns: sha256 of the manifest
    """
    plain = Description('campus7', 'image_classification', tuple(CLASSES), input_spec(),
                        luminance_bands(_by_band(sets)), {}, origin)
    unmeasured = cache / 'unmeasured-campus7'
    write_bundle(with_cuts(family), plain, unmeasured)
    accuracy = measure(unmeasured, sets, cache / 'measured', progress)
    return _write_crossings(family, replace(plain, accuracy=accuracy), directory, sets,
                            cache=cache, progress=progress, count=crossing_scenes)


def write_cuts(bundle: Bundle, directory: Path, sets: Mapping[str, Images], *, cache: Path,
               progress: Progress, crossing_scenes: int) -> str:
    """
    Write a bundle again with its cuts; weights, whole graphs and accuracies stay as they are.

    :param bundle: of this task
    :param directory: of the new bundle, may be that of the old one
    :param sets: 'scenes/' and light band -> test scenes
    :param crossing_scenes: of each light band
    :returns: sha256 of the manifest
    """
    origin = {**bundle.manifest.provenance}
    origin['data'] = {**dict(origin['data']),  # type: ignore[call-overload]
                      'crossing_scenes': crossing_scenes}
    return _write_crossings(
        family_of(bundle), replace(description_of(bundle), provenance=origin, crossings=()),
        directory, sets, cache=cache, progress=progress, count=crossing_scenes)


def _by_band(sets: Mapping[str, Images]) -> Dict[str, Images]:
    return {c.split('/')[1]: s for c, s in sets.items() if c.startswith('scenes/')}


def _write_crossings(family: Family, description: Description, directory: Path,
                     sets: Mapping[str, Images], *, cache: Path, progress: Progress, count: int
                     ) -> str:
    """Write with cuts, measure what crosses them, and write again with that."""
    family, unmeasured = with_cuts(family), cache / 'unmeasured-campus7'
    write_bundle(family, description, unmeasured)
    scenes_of = {band: thin(images, count) for band, images in _by_band(sets).items()}
    crossings = measure_crossings(open_bundle(unmeasured), scenes_of, cache / 'measured', progress)
    return write_bundle(family, replace(description, crossings=crossings), directory)


def table(directory: Path) -> Sequence[Sequence[str]]:
    """Rows of (variant, MMAC, accuracy per condition) of a bundle, headings first."""
    manifest = open_bundle(directory).manifest
    conditions = list(next(iter(manifest.variants.values())).accuracy)
    rows: List[List[str]] = [['variant', 'MMAC', *conditions]]
    for variant_id in manifest.front:
        entry = manifest.variants[variant_id]
        rows.append([variant_id, '%.1f' % (entry.macs / 1e6)]
                    + ['%.3f' % entry.accuracy[c].value for c in conditions])
    return rows
