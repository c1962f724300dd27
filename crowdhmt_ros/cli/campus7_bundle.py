# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The bundle of the task `campus7`: measured through ONNX Runtime, cut, written."""
from __future__ import annotations

import os
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

import cv2
import numpy as np
from numpy.typing import NDArray

from crowdhmt_ros.bundle.materialise import materialise
from crowdhmt_ros.bundle.reader import Bundle, open_bundle
from crowdhmt_ros.bundle.reopen import description_of, family_of
from crowdhmt_ros.bundle.writer import Description, write_bundle
from crowdhmt_ros.campus.scene import CLASSES
from crowdhmt_ros.cli import campus7
from crowdhmt_ros.cli.crossings import measure_crossings, prepared, thin
from crowdhmt_ros.datasets.campus_photos import PHOTO_WEIGHTS, TEST_FILES, TRAIN_FILES
from crowdhmt_ros.elastic.teaching.images import Images
from crowdhmt_ros.elastic.teaching.recipe import Recipe
from crowdhmt_ros.errors import ExportError
from crowdhmt_ros.graph.family import Family, FamilyGraph

CUT_AFTER_STAGES = (1, 2)
"""Where a variant with later stages may be split, see docs/decisions/0007-cuts.md."""
STAGE = re.compile(r'stages[._](\d+)[._]')
"""The number of its stage in the name of an operator."""
Accuracy = Mapping[str, Mapping[str, Tuple[float, int]]]
"""variant_id -> condition -> (accuracy, count)."""
Progress = campus7.Progress


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


def _answers(path: str, images: Images) -> NDArray[np.int64]:
    """Run a materialised graph as the robot does, one image at a time."""
    import onnxruntime
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=['CPUExecutionProvider'])
    spec = campus7.input_spec()
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


def provenance(command: str, seed: int, amounts: campus7.Amounts, recipe: Recipe, *,
               features: Optional[Recipe] = None, start: str = '') -> Dict[str, Any]:
    """
    Say how to make the bundle again.

    :param features: recipe of the features that training started from, None for none
    :param start: sha256 of the family that training started from, '' for none
    """
    return {
        'command': command, 'seed': seed,
        **({'start_sha256': start} if start else {}),
        **({'features': asdict(features)} if features else {}),
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
            'scenes': {
                'train_seed': campus7.TRAIN_SCENE_SEED,
                'train_bands': list(campus7.TRAIN_BANDS),
                'test_seed': campus7.TEST_SCENE_SEED,
                'renderer': campus7.renderer_digest()}}}


def with_cuts(family: Family) -> Family:
    """Return the family with a cut after each stage of `CUT_AFTER_STAGES` that has a next one."""
    return Family(family.tensors, tuple(replace(g, cuts=_cuts(g)) for g in family.graphs))


def _cuts(graph: FamilyGraph) -> Dict[str, Tuple[str, ...]]:
    """
    Cut behind the last operator of a stage, which is its border.

    :raises ExportError: the graph does not name its stages
    """
    last: Dict[int, str] = {}
    for node in graph.model.graph.node:
        found = STAGE.search(node.name)
        if found:
            last[int(found.group(1))] = node.output[0]
    if not last:
        raise ExportError('no operator of %s names its stage' % graph.variant_id)
    return {'%s-after%d' % (graph.variant_id, stage): (last[stage],)
            for stage in CUT_AFTER_STAGES if stage + 1 in last}


def measured(family: Family, sets: Mapping[str, Images], *, cache: Path, progress: Progress
             ) -> Tuple[Accuracy, Dict[str, int]]:
    """
    Measure every variant of a family.

    :param sets: condition -> test images, with a set for each light band
    :returns: accuracies, and multiply-accumulates of each variant
    """
    unmeasured = cache / 'unmeasured-campus7'
    write_bundle(family, _plain(sets, {}), unmeasured)
    accuracy = measure(unmeasured, sets, cache / 'measured', progress)
    bundle = open_bundle(unmeasured)
    return accuracy, {v: bundle.macs(v) for v in bundle.manifest.front}


def _plain(sets: Mapping[str, Images], origin: Mapping[str, Any]) -> Description:
    return Description('campus7', 'image_classification', tuple(CLASSES), campus7.input_spec(),
                       luminance_bands(_by_band(sets)), {}, origin)


def write_measured(
        family: Family, accuracy: Accuracy, directory: Path, sets: Mapping[str, Images], *,
        cache: Path, origin: Mapping[str, Any], progress: Progress, crossing_scenes: int) -> str:
    """
    Write the bundle with its cuts and with what was measured.

    :param accuracy: of these variants
    :param sets: condition -> test images, with a set for each light band
    :param origin: provenance
    :param crossing_scenes: of each light band
    :returns: sha256 of the manifest
    """
    description = replace(_plain(sets, origin), accuracy=accuracy)
    return _write_crossings(family, description, directory, sets, cache=cache,
                            progress=progress, count=crossing_scenes)


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


def table(accuracy: Accuracy, macs: Mapping[str, int]) -> Sequence[Sequence[str]]:
    """Rows of (variant, MMAC, accuracy per condition), headings first."""
    conditions = list(next(iter(accuracy.values())))
    rows: List[List[str]] = [['variant', 'MMAC', *(c.split('/')[-1] for c in conditions)]]
    for name in sorted(macs, key=lambda v: -macs[v]):
        rows.append([name, '%.1f' % (macs[name] / 1e6),
                     *('%.3f' % accuracy[name][c][0] for c in conditions)])
    return rows
