# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Part of the training bench: the shipped bundle on real photos, and its scenes beside earlier ones.

Photos are answered anew. Scenes are told as the manifest has them, which `crowdhmt bench robot`
holds against fresh ones; what they must not fall below is committed in campus7_before.yaml.
"""
from __future__ import annotations

from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping

import yaml

from benchmarks._training_claims import held
from crowdhmt_ros.bundle.materialise import default_cache_dir
from crowdhmt_ros.bundle.reader import Bundle, open_bundle
from crowdhmt_ros.cli import campus7
from crowdhmt_ros.cli.campus7_bundle import measure
from crowdhmt_ros.cli.figures import HIGHER, Figure, inform
from crowdhmt_ros.datasets.campus_photos import TEST_FILES
from crowdhmt_ros.errors import DataError

NAME, PHOTOS = 'campus7', 'photos'
BEFORE = Path(__file__).resolve().parent / 'campus7_before.yaml'
QUICK_PHOTOS = 70
Accuracies = Mapping[str, Mapping[str, float]]
"""variant_id -> condition -> ratio of right answers."""


def campus7_figures(data: Path, *, quick: bool = False,
                    say: Callable[[str], None] = lambda line: None) -> List[Figure]:
    """
    Judge the shipped bundle.

    :param data: folder with the photos; without them the photos' accuracies are not measured
    :param quick: some photos
    :raises DataError: the photos or the figures from before cannot be read
    """
    bundle = open_bundle(NAME)
    logged = {v: bundle.accuracy(v) for v in bundle.manifest.front}
    anew: Accuracies = {}
    if all((data / name).exists() for name, _ in TEST_FILES):
        photos = campus7.photos(data, train=False, limit=QUICK_PHOTOS if quick else 0)
        say('%s: %d variants answer %d photos' % (NAME, len(logged), len(photos.labels)))
        found = measure(bundle.directory, {PHOTOS: photos}, default_cache_dir(),
                        lambda done, total: None)
        anew = {v: {c: value for c, (value, _) in of.items()} for v, of in found.items()}
    return figures_of(ends_of(bundle), logged, anew, read_before())


def ends_of(bundle: Bundle) -> Dict[str, str]:
    """Name the richest and the leanest variant."""
    macs = {v: bundle.macs(v) for v in bundle.manifest.front}
    return {'richest': max(macs, key=lambda v: macs[v]),
            'leanest': min(macs, key=lambda v: macs[v])}


def read_before(path: Path = BEFORE) -> Dict[str, Dict[str, float]]:
    """
    Read what the bundle reached before.

    :raises DataError: the file is missing or damaged
    """
    try:
        said: Any = yaml.safe_load(path.read_text('utf-8'))
        return {str(v): {str(c): float(a) for c, a in of.items()}
                for v, of in said['accuracy'].items()}
    except (OSError, yaml.YAMLError, LookupError, TypeError, ValueError, AttributeError) as error:
        raise DataError('%s cannot be read (%s); take it from the repository'
                        % (path, error)) from error


def figures_of(ends: Mapping[str, str], logged: Accuracies, anew: Accuracies, before: Accuracies
               ) -> List[Figure]:
    """
    Return the figures.

    :param ends: 'richest' and 'leanest' -> variant_id
    :param logged: as the manifest has it
    :param anew: photos answered now; empty where there are none
    :param before: what was reached earlier
    """
    return [*(_photos(end, v, logged, anew) for end, v in ends.items()),
            *(_scenes(band, ends, logged, before) for band in campus7.TEST_BANDS),
            _worst(logged, before)]


def _photos(end: str, variant: str, logged: Accuracies, anew: Accuracies) -> Figure:
    manifest = logged[variant][PHOTOS]
    how = '%s, balanced accuracy on real test photos, ' % variant
    if not anew:
        return held('%s_photos_%s' % (NAME, end), manifest, also=False,
                    how=how + 'as the manifest says: not answered anew, as --data has no %s' % (
                        ' and '.join(name for name, _ in TEST_FILES)))
    value = anew[variant][PHOTOS]
    return held('%s_photos_%s' % (NAME, end), value,
                how=how + 'answered anew; the manifest says %.4f (%+.2f points)' % (
                    manifest, 100 * (value - manifest)))


def _scenes(band: str, ends: Mapping[str, str], logged: Accuracies, before: Accuracies) -> Figure:
    change = {v: _change_pt(v, 'scenes/' + band, logged, before) for v in ends.values()}
    return held('%s_scenes_change_pt/%s' % (NAME, band), min(change.values()),
                how='points gained on rendered scenes since the recipe before, the lesser of '
                'richest and leanest: ' + ', '.join('%s %+.2f' % item for item in change.items()))


def _worst(logged: Accuracies, before: Accuracies) -> Figure:
    change = {'%s %s' % (v, c): _change_pt(v, c, logged, before)
              for v in logged for c in before.get(v, {}) if c != PHOTOS}
    least = min(change, key=lambda name: change[name])
    return inform(NAME + '_scenes_change_pt', change[least], better=HIGHER,
                  how='likewise, least of all variants and bands: %s; mean %+.2f' % (
                      least, sum(change.values()) / len(change)))


def _change_pt(variant: str, condition: str, logged: Accuracies, before: Accuracies) -> float:
    try:
        return 100 * (logged[variant][condition] - before[variant][condition])
    except KeyError as error:
        raise DataError('%s or its manifest has no %s of %s; write it anew' % (
            BEFORE.name, condition, variant)) from error
