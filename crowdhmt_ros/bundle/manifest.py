# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
The manifest of a bundle, format version 1: what it holds, checked as a whole.

`load_manifest` answers with a manifest in which every name resolves, every range lies inside
its tensor and its file, nothing overlaps and no size is absurd, or raises one BundleError
that lists every problem. The bytes of the other files are `reader`'s concern.
"""
from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Dict, List, Mapping, NoReturn, Tuple, Union

from crowdhmt_ros.bundle import checks
from crowdhmt_ros.bundle.entries import (
    FRAME_CODECS,
    IMAGE_CLASSIFICATION,
    ITEM_BYTES,
    TENSOR_CODECS,
    Accuracy,
    CrossingFigure,
    Cut,
    FileEntry,
    Manifest,
    PrecisionFigure,
    Recipe,
    SegmentEntry,
    StoreTensor,
    VariantEntry,
)
from crowdhmt_ros.bundle.fields import Fields, is_number, is_text
from crowdhmt_ros.errors import BundleError, all_problems
from crowdhmt_ros.types import (
    PRECISIONS,
    EarlyExit,
    InputSpec,
    LayerCost,
    OperatorChoice,
    ParameterValue,
    TensorSpec,
    Variant,
)
from crowdhmt_ros.types.candidates import STEP_ROLES
from crowdhmt_ros.types.models import RESIZES

FORMAT = 'crowdhmt-bundle'
FORMAT_VERSION = 1
MANIFEST_NAME = 'manifest.json'
DIGEST_NAME = 'manifest.json.sha256'
WEIGHTS_NAME = 'weights.bin'
MAX_MANIFEST_BYTES = 64 << 20
MAX_PROBLEMS = 20
STORED_TYPES = tuple(ITEM_BYTES)
CROSSING_TYPES = (*STORED_TYPES, 'float64', 'int64', 'bool')
MAX_CROSSING_BYTES = 1 << 28


def load_manifest(directory: Union[str, Path]) -> Manifest:
    """
    Read and check the manifest of the bundle in a directory.

    :param directory: the bundle
    :returns: the manifest, every cross reference resolved
    :raises BundleError: listing every problem found
    """
    folder = Path(directory)
    content = _read(folder / MANIFEST_NAME)
    digest = hashlib.sha256(content).hexdigest()
    raw = _parse(content, folder)
    _check_version(raw, folder)
    problems: List[str] = []
    declared = _read(folder / DIGEST_NAME).decode('ascii', 'replace').strip()
    if declared != digest:
        problems.append('%s was changed: its sha256 is %s, %s says %s'
                        % (MANIFEST_NAME, digest[:12], DIGEST_NAME, declared[:12] or 'nothing'))
    manifest = _manifest(Fields(raw, '', problems), digest)
    if not problems:
        problems.extend(checks.manifest_problems(manifest))
    if problems:
        raise BundleError('%s cannot be used: %s; get the bundle again' % (
            folder, listed(problems)))
    return manifest


def listed(problems: List[str]) -> str:
    """Join problems into one line, cut short after `MAX_PROBLEMS` of them."""
    shown = problems[:MAX_PROBLEMS]
    if len(problems) > len(shown):
        shown.append('and %d more' % (len(problems) - len(shown)))
    return all_problems(' '.join(p.split()) for p in shown)


def _read(path: Path) -> bytes:
    try:
        with open(path, 'rb') as stream:
            content = stream.read(MAX_MANIFEST_BYTES + 1)
    except OSError as error:
        raise BundleError('%s is no bundle: %s cannot be read (%s); name a directory that '
                          '`crowdhmt train` wrote' % (path.parent, path.name, error.strerror)
                          ) from error
    if len(content) > MAX_MANIFEST_BYTES:
        raise BundleError('%s is larger than %d bytes and is no manifest' % (
            path, MAX_MANIFEST_BYTES))
    return content


def _not_a_number(text: str) -> NoReturn:
    raise ValueError('%s is no number' % text)


def _parse(content: bytes, folder: Path) -> Dict[str, Any]:
    try:
        raw = json.loads(content.decode('utf-8'), parse_constant=_not_a_number)
    except (ValueError, RecursionError) as error:
        raise BundleError('%s is no bundle: %s is not JSON (%s); get the bundle again'
                          % (folder, MANIFEST_NAME, ' '.join(str(error).split()))) from error
    if not isinstance(raw, dict):
        raise BundleError('%s is no bundle: %s holds no object' % (folder, MANIFEST_NAME))
    return raw


def _check_version(raw: Mapping[str, Any], folder: Path) -> None:
    if raw.get('format') != FORMAT:
        raise BundleError('%s is no bundle: format is %.40r, expected %r'
                          % (folder, raw.get('format'), FORMAT))
    version = raw.get('format_version')
    if version != FORMAT_VERSION or isinstance(version, bool):
        mend = ('update crowdhmt_ros' if isinstance(version, int) and version > FORMAT_VERSION
                else 'write the bundle again')
        raise BundleError('%s has format version %.40r, this package reads version %d: %s'
                          % (folder, version, FORMAT_VERSION, mend))


def _manifest(top: Fields, digest: str) -> Manifest:
    initialisers = top.object('initialisers')
    segments = tuple(_segment(f) for f in top.objects('segments'))
    variants = tuple(_variant(f) for f in top.objects('variants'))
    tensors = tuple(_tensor(f) for f in top.objects('tensors'))
    cuts = tuple(_cut(f) for f in top.optional_objects('cuts'))
    _unique(top, 'segments', [s.segment_id for s in segments])
    _unique(top, 'variants', [v.variant_id for v in variants])
    _unique(top, 'tensors', [t.name for t in tensors])
    _unique(top, 'cuts', [c.cut_id for c in cuts])
    task = top.text('task')
    return Manifest(
        sha256=digest,
        name=top.text('name'),
        task=task,
        classes=top.texts('classes'),
        input=_input(top.object('input'), task == IMAGE_CLASSIFICATION),
        luminance_bands=_bands(top.object('luminance_bands')),
        files=tuple(FileEntry(f.text('path'), f.integer('bytes'), f.text('sha256'))
                    for f in top.objects('files')),
        tensors={t.name: t for t in tensors},
        initialisers_file=initialisers.text('file'),
        initialisers_bytes=initialisers.integer('bytes'),
        recipes=tuple(_recipe(f) for f in initialisers.objects('recipes')),
        segments={s.segment_id: s for s in segments},
        variants={v.variant_id: v for v in variants},
        front=top.texts('front'),
        provenance=dict(top.object('provenance').value),
        cuts={c.cut_id: c for c in cuts},
        crossings=tuple(_crossing(f) for f in top.optional_objects('crossings')),
    )


def _unique(top: Fields, key: str, names: List[str]) -> None:
    for name in sorted({n for n in names if names.count(n) > 1} if len(set(names)) != len(names)
                       else ()):
        top.note('%s holds %r more than once' % (key, name))


def _input(fields: Fields, is_image: bool) -> InputSpec:
    return InputSpec(
        name=fields.text('name'),
        dtype=fields.text('dtype', ('float32',) if is_image else CROSSING_TYPES),
        shape=fields.integers('shape', 1),
        color=fields.text('color', ('rgb',) if is_image else None),
        resize=fields.text('resize', RESIZES if is_image else None),
        scale=fields.number('scale', 1e-9, 1e9),
        mean=fields.numbers('mean', 3 if is_image else None),
        std=fields.numbers('std', 3 if is_image else None))


def _bands(fields: Fields) -> Mapping[str, Tuple[float, float]]:
    pairs = {name: fields.numbers(name, 2) for name in fields.value}
    return {name: (pair[0], pair[1]) for name, pair in pairs.items()}


def _tensor(fields: Fields) -> StoreTensor:
    return StoreTensor(
        fields.text('name'), fields.text('dtype', STORED_TYPES),
        fields.integers('shape'), fields.integer('offset'), fields.integer('bytes'))


def _recipe(fields: Fields) -> Recipe:
    return Recipe(
        offset=fields.integer('offset'), shape=fields.integers('shape'),
        dtype=fields.text('dtype', STORED_TYPES),
        tensor=fields.text('tensor'), slices=_slices(fields),
        scale=fields.optional_text('scale'), scale_axis=fields.integer('scale_axis', 0, 7),
        sha256=fields.text('sha256'))


def _slices(fields: Fields) -> Tuple[Tuple[int, int], ...]:
    found: List[Tuple[int, int]] = []
    for pair in fields.array('slices'):
        if (not isinstance(pair, list) or len(pair) != 2
                or not all(isinstance(v, int) and not isinstance(v, bool) for v in pair)):
            fields.note('slices must hold [start, stop] pairs of integers')
            return ()
        found.append((pair[0], pair[1]))
    return tuple(found)


def _specs(fields: Fields, key: str) -> Tuple[TensorSpec, ...]:
    return tuple(
        TensorSpec(f.text('name'), f.text('dtype', CROSSING_TYPES), f.integers('shape', 1))
        for f in fields.objects(key))


def _segment(fields: Fields) -> SegmentEntry:
    return SegmentEntry(
        segment_id=fields.text('segment_id'), file=fields.text('file'),
        role=fields.text('role', ('whole', 'head', 'tail', 'piece', *STEP_ROLES)),
        variant_id=fields.text('variant_id'), fusion_set=fields.text('fusion_set'),
        opset=fields.integer('opset', 1), ir_version=fields.integer('ir_version', 1),
        inputs=_specs(fields, 'inputs'), outputs=_specs(fields, 'outputs'),
        recipes=fields.integers('recipes'),
        layers=tuple(_layer(f) for f in fields.objects('layers')),
        cut_id=fields.optional_text('cut_id') or '',
        precision=fields.optional_text('precision') or 'fp32')


def _cut(fields: Fields) -> Cut:
    return Cut(fields.text('cut_id'), _specs(fields, 'tensors'))


def _crossing(fields: Fields) -> CrossingFigure:
    cut_id = '' if fields.value.get('cut_id', '') == '' else fields.text('cut_id')
    return CrossingFigure(
        variant_id=fields.text('variant_id'), cut_id=cut_id,
        codec=fields.text('codec', TENSOR_CODECS if cut_id else FRAME_CODECS),
        bytes_mean=fields.number('bytes_mean', 1.0, MAX_CROSSING_BYTES),
        accuracy_drop=fields.number('accuracy_drop', -1.0, 1.0),
        count=fields.integer('count', 1))


def _layer(fields: Fields) -> LayerCost:
    return LayerCost(
        fields.text('name'), fields.text('operator'), fields.integer('macs'),
        fields.integer('input_words'), fields.integer('weight_words'),
        fields.integer('output_words'))


def _variant(fields: Fields) -> VariantEntry:
    return VariantEntry(
        variant_id=fields.text('variant_id'),
        variant=Variant(_stages(fields), fields.integer('exit_index', 0, 1000),
                        fields.text('precision', PRECISIONS)),
        macs=fields.integer('macs', 1), parameters=fields.integer('parameters'),
        accuracy=_accuracy(fields),
        early_exits=tuple(_early(f) for f in fields.optional_objects('early_exits')),
        precisions=tuple(_precision(f) for f in fields.optional_objects('precisions')))


def _accuracy(fields: Fields) -> Dict[str, Accuracy]:
    accuracy = fields.object('accuracy')
    figures = {name: accuracy.object(name) for name in accuracy.value}
    return {name: Accuracy(f.number('value', 0.0, 1.0), f.integer('count', 1))
            for name, f in figures.items()}


def _precision(fields: Fields) -> PrecisionFigure:
    agreement = (None if fields.value.get('agreement') is None
                 else fields.number('agreement', 0.0, 1.0))
    return PrecisionFigure(
        precision=fields.text('precision', PRECISIONS[1:]),
        engine='' if fields.value.get('engine', '') == '' else fields.text('engine'),
        output_error=fields.number('output_error', 0.0),
        largest_error=fields.number('largest_error', 0.0),
        agreement=agreement, count=fields.integer('count', 1), accuracy=_accuracy(fields),
        kept=fields.integer('kept'))


def _early(fields: Fields) -> EarlyExit:
    return EarlyExit(
        exit_index=fields.integer('exit_index', 0, 1000), cut_id=fields.text('cut_id'),
        threshold=fields.number('threshold', 0.0, 1.0),
        temperature=fields.number('temperature', 1e-3, 1e3),
        ratio=fields.number('ratio', 0.0, 1.0))


def _stages(fields: Fields) -> Tuple[Tuple[OperatorChoice, ...], ...]:
    stages: List[Tuple[OperatorChoice, ...]] = []
    for index, stage in enumerate(fields.array('stages')):
        place = '%s.stages[%d]' % (fields.where, index)
        if not isinstance(stage, list):
            fields.note('stages[%d] is not an array' % index)
            continue
        stages.append(tuple(_operator(Fields(item, place, fields.problems)) for item in stage))
    return tuple(stages)


def _operator(fields: Fields) -> OperatorChoice:
    given = fields.object('parameters').value
    pairs: List[Tuple[str, ParameterValue]] = []
    for name in sorted(given):
        value = given[name]
        if isinstance(value, (int, float, str)) and (is_number(value) or is_text(value)):
            pairs.append((name, value))
        else:
            fields.note('parameter %s is %.40r, expected a number or a text' % (name, value))
    return OperatorChoice(fields.text('operator'), tuple(pairs))
