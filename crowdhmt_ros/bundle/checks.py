# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
What must hold between the parts of a manifest, one check a function.

Each check is a generator of findings; none raises, so that all problems can be told at once.
Sizes are compared as Python integers before anything is allocated.
"""
from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import Iterable, Iterator, List, Optional, Sequence, Tuple

from crowdhmt_ros.bundle.entries import (
    FLOATS,
    IMAGE_CLASSIFICATION,
    ITEM_BYTES,
    Manifest,
    Recipe,
    SegmentEntry,
    VariantEntry,
    element_count,
)
from crowdhmt_ros.types import EarlyExit
from crowdhmt_ros.types.candidates import STEP_ROLES

ALIGNMENT_BYTES = 64
MAX_FILE_BYTES = 1 << 30
MAX_AXES = 8
_SHA256 = re.compile('[0-9a-f]{64}')


def manifest_problems(manifest: Manifest) -> List[str]:
    """
    Return every contradiction within a manifest whose fields have the right types.

    :param manifest: as parsed
    :returns: findings, empty when the manifest can be trusted to address its files
    """
    found: List[str] = []
    for check in (_files, _classes_and_input, _bands, _tensors, _recipes, _segments, _cuts,
                  _variants, _crossings, _early_exits, _precisions):
        found.extend(check(manifest))
    return found


def path_problem(path: str) -> Optional[str]:
    """
    Tell why a path from a manifest may not be opened.

    :param path: as written in the manifest
    :returns: the reason, or None for a plain relative path inside the bundle
    """
    parts = PurePosixPath(path).parts
    if (not parts or path.startswith('/') or '\\' in path or '\0' in path or ':' in path
            or any(p == '..' or p.startswith('~') for p in parts)
            or str(PurePosixPath(path)) != path):
        return 'the path %.80r may not leave the bundle: use plain relative names' % path
    return None


def overlaps(spans: Iterable[Tuple[int, int, str]]) -> Iterator[str]:
    """
    Name neighbours among half-open byte ranges that overlap.

    :param spans: (first byte, end byte, name)
    """
    reach, holder = 0, ''
    for first, end, name in sorted(s for s in spans if s[1] > s[0]):
        if first < reach:
            yield '%s overlaps %s' % (name, holder)
        if end > reach:
            reach, holder = end, name


def _files(manifest: Manifest) -> Iterator[str]:
    for entry in manifest.files:
        problem = path_problem(entry.path)
        if problem:
            yield problem
        if entry.size_bytes > MAX_FILE_BYTES:
            yield '%s claims %d bytes, more than %d' % (
                entry.path, entry.size_bytes, MAX_FILE_BYTES)
        if not _SHA256.fullmatch(entry.sha256):
            yield '%s has no proper sha256' % entry.path
    names = [entry.path for entry in manifest.files]
    if len(set(names)) != len(names):
        yield 'files holds a path more than once'
    if 'weights.bin' not in names:
        yield 'files lacks weights.bin'
    name = manifest.initialisers_file
    if '/' in name or not name.endswith('.bin') or path_problem(name):
        yield 'initialisers.file %.80r must be a plain name that ends in .bin' % name
    if manifest.initialisers_bytes > MAX_FILE_BYTES:
        yield 'initialisers claim %d bytes, more than %d' % (
            manifest.initialisers_bytes, MAX_FILE_BYTES)


def _classes_and_input(manifest: Manifest) -> Iterator[str]:
    is_image = manifest.task == IMAGE_CLASSIFICATION
    if len(set(manifest.classes)) != len(manifest.classes) or (
            is_image and not manifest.classes):
        yield 'classes must be distinct and at least one'
    spec = manifest.input
    if any(value <= 0.0 for value in spec.std):
        yield 'input.std must be above 0'
    if not is_image:
        yield from _channels(manifest)
    elif len(spec.shape) != 4 or spec.shape[:2] != (1, 3) or max(spec.shape) > 4096:
        yield 'input.shape is %r, expected [1, 3, height, width] up to 4096' % (spec.shape,)


def _channels(manifest: Manifest) -> Iterator[str]:
    """Normalisation of another task: per channel (the second axis), or none."""
    spec = manifest.input
    if not spec.shape:
        yield 'input.shape must have an axis'
        return
    channels = spec.shape[min(1, len(spec.shape) - 1)]
    for name, values in (('mean', spec.mean), ('std', spec.std)):
        if len(values) not in (0, channels):
            yield 'input.%s has %d numbers, expected %d or none' % (name, len(values), channels)


def _bands(manifest: Manifest) -> Iterator[str]:
    bands = sorted(manifest.luminance_bands.values())
    if not bands and manifest.task != IMAGE_CLASSIFICATION:
        return
    edges = [0.0] + [high for _, high in bands]
    joined = all(abs(low - edge) < 1e-9 and low < high
                 for (low, high), edge in zip(bands, edges))
    if not bands or not joined or abs(edges[-1] - 1.0) > 1e-9:
        yield 'luminance_bands must be disjoint and cover 0..1'


def _tensors(manifest: Manifest) -> Iterator[str]:
    size_bytes = {entry.path: entry.size_bytes for entry in manifest.files}.get('weights.bin', 0)
    for tensor in manifest.tensors.values():
        place = 'tensor %s' % tensor.name
        wanted = element_count(tensor.shape) * ITEM_BYTES[tensor.dtype]
        if len(tensor.shape) > MAX_AXES or wanted != tensor.size_bytes:
            yield '%s takes %d bytes by its shape, bytes says %d' % (
                place, wanted, tensor.size_bytes)
        if tensor.offset + tensor.size_bytes > size_bytes:
            yield '%s ends beyond weights.bin' % place
    yield from overlaps((t.offset, t.offset + t.size_bytes, 'tensor %s' % t.name)
                        for t in manifest.tensors.values())


def _recipes(manifest: Manifest) -> Iterator[str]:
    for index, recipe in enumerate(manifest.recipes):
        for finding in _recipe(manifest, recipe):
            yield 'recipe %d: %s' % (index, finding)
    yield from overlaps((r.offset, r.offset + r.size_bytes, 'recipe %d' % i)
                        for i, r in enumerate(manifest.recipes))


def _recipe(manifest: Manifest, recipe: Recipe) -> Iterator[str]:
    if recipe.offset % ALIGNMENT_BYTES:
        yield 'offset %d is no multiple of %d' % (recipe.offset, ALIGNMENT_BYTES)
    if recipe.offset + recipe.size_bytes > manifest.initialisers_bytes:
        yield 'it ends beyond the initialisers'
    if not _SHA256.fullmatch(recipe.sha256):
        yield 'it has no proper sha256'
    source = manifest.tensors.get(recipe.tensor)
    if source is None:
        yield 'tensor %.80r is not in the store' % recipe.tensor
    elif (len(recipe.slices) != len(source.shape)
          or any(not 0 <= start < stop <= extent
                 for (start, stop), extent in zip(recipe.slices, source.shape))):
        yield 'slices %r lie outside of tensor %s %r' % (
            recipe.slices, source.name, source.shape)
    if tuple(stop - start for start, stop in recipe.slices) != recipe.shape:
        yield 'shape %r does not follow from slices %r' % (recipe.shape, recipe.slices)
    if source is not None and recipe.dtype not in FLOATS and (
            recipe.scale is not None or recipe.dtype != source.dtype):
        yield 'dtype %s needs a tensor of that type and no scale' % recipe.dtype
    if recipe.scale is not None:
        yield from _scale(manifest, recipe)


def _scale(manifest: Manifest, recipe: Recipe) -> Iterator[str]:
    scale = manifest.tensors.get(recipe.scale or '')
    if scale is None:
        yield 'scale %.80r is not in the store' % recipe.scale
    elif recipe.scale_axis >= len(recipe.shape):
        yield 'scale_axis %d is none of its axes' % recipe.scale_axis
    elif scale.dtype != 'float32' or scale.shape != (recipe.shape[recipe.scale_axis],):
        yield 'scale %s is %s %r, expected float32 (%d,)' % (
            scale.name, scale.dtype, scale.shape, recipe.shape[recipe.scale_axis])


def _segments(manifest: Manifest) -> Iterator[str]:
    paths = {entry.path for entry in manifest.files}
    names = set()
    for segment in manifest.segments.values():
        place = 'segment %s' % segment.segment_id
        name = PurePosixPath(segment.file).name
        if segment.file not in paths:
            yield '%s: %.80r is not in files' % (place, segment.file)
        if not name.endswith('.onnx') or name in names:
            yield '%s: %.80r must be a unique name that ends in .onnx' % (place, segment.file)
        names.add(name)
        if segment.variant_id not in manifest.variants:
            yield '%s: variant %.80r does not exist' % (place, segment.variant_id)
        if any(index >= len(manifest.recipes) for index in segment.recipes):
            yield '%s: it names a recipe that does not exist' % place
        if not segment.inputs or not segment.outputs:
            yield '%s: it needs inputs and outputs' % place
        if segment.cut_id and segment.cut_id not in manifest.cuts:
            yield '%s: cut %.80r does not exist' % (place, segment.cut_id)
        elif segment.role in ('head', 'tail', 'piece'):
            yield from _part(manifest, segment)
        if segment.role == 'whole' and manifest.task == IMAGE_CLASSIFICATION:
            yield from _whole(manifest, segment)
    keys = [segment.key for segment in manifest.segments.values()]
    for key in sorted(k for k in set(keys) if keys.count(k) > 1):
        yield ('segments hold variant %s as %s with fusion set %s and cut %s more than once%s'
               % (*key[:3], key[3] or 'none', '' if key[4] == 'fp32' else ' in ' + key[4]))


def _whole(manifest: Manifest, segment: SegmentEntry) -> Iterator[str]:
    """Scores come first; what else a whole model gives is for others than the camera."""
    spec = manifest.input
    wanted = (spec.name, spec.dtype, spec.shape)
    if [(i.name, i.dtype, i.shape) for i in segment.inputs] != [wanted]:
        yield 'segment %s: a whole model takes exactly the input %s' % (
            segment.segment_id, wanted)
    shapes = [(o.dtype, o.shape) for o in segment.outputs]
    if shapes[:1] != [('float32', (1, len(manifest.classes)))]:
        yield 'segment %s: a whole model gives float32 (1, %d) first, one score a class' % (
            segment.segment_id, len(manifest.classes))


def _part(manifest: Manifest, segment: SegmentEntry) -> Iterator[str]:
    """
    A head ends and a tail begins with what crosses the cut, in the same order.

    Behind what crosses, a head gives the outputs of the whole that its tail does not give.
    """
    place = 'segment %s' % segment.segment_id
    if not segment.cut_id:
        yield '%s: a %s needs a cut_id' % (place, segment.role)
        return
    crossing = manifest.cuts[segment.cut_id].tensors
    if segment.role == 'piece':
        if not set(segment.inputs) <= set(crossing):
            yield '%s: the piece takes other tensors than cut %s holds' % (place, segment.cut_id)
        return
    found, side = ((segment.outputs[:len(crossing)], 'gives') if segment.role == 'head'
                   else (segment.inputs, 'takes'))
    if found != crossing:
        yield '%s: the %s %s other tensors than cut %s holds' % (
            place, segment.role, side, segment.cut_id)
    role = 'tail' if segment.role == 'head' else 'head'
    other = [s for s in manifest.segments.values()
             if s.key == (segment.variant_id, role, *segment.key[2:])]
    if not other:
        yield '%s: it has no %s' % (place, role)
    for whole in manifest.segments.values():
        if other and whole.key == (segment.variant_id, 'whole', segment.fusion_set, '',
                                   segment.precision) and (
                not _has_outer_tensors(segment, other[0], whole)):
            yield '%s: its outer tensors are not those of %s' % (place, whole.segment_id)


def _has_outer_tensors(segment: SegmentEntry, other: SegmentEntry, whole: SegmentEntry) -> bool:
    """Tell whether head and tail take and give together what the whole does, nothing twice."""
    if segment.role == 'head':
        return segment.inputs == whole.inputs and set(
            segment.outputs[len(other.inputs):]) <= set(whole.outputs)
    given = set(other.outputs)
    return segment.outputs == tuple(o for o in whole.outputs if o not in given)


def _crossings(manifest: Manifest) -> Iterator[str]:
    keys = set()
    heads = {(s.variant_id, s.cut_id) for s in manifest.segments.values() if s.role == 'head'}
    for index, figure in enumerate(manifest.crossings):
        key = (figure.variant_id, figure.cut_id, figure.codec)
        if figure.variant_id not in manifest.variants:
            yield 'crossings[%d]: variant %.80r does not exist' % (index, figure.variant_id)
        elif figure.cut_id and key[:2] not in heads:
            yield 'crossings[%d]: variant %s has no head at cut %.80r' % (index, *key[:2])
        if key in keys:
            yield 'crossings[%d]: variant %s, cut %s, codec %s come more than once' % (
                index, key[0], key[1] or 'none', key[2])
        keys.add(key)


def _cuts(manifest: Manifest) -> Iterator[str]:
    for cut in manifest.cuts.values():
        if not cut.tensors:
            yield 'cut %s: it needs tensors' % cut.cut_id


def _variants(manifest: Manifest) -> Iterator[str]:
    whole = {s.variant_id for s in manifest.segments.values()
             if s.key[1:] == ('whole', 'none', '', 'fp32')}
    if not manifest.front or len(set(manifest.front)) != len(manifest.front):
        yield 'front must name distinct variants, at least one'
    for variant_id in manifest.front:
        if variant_id not in manifest.variants:
            yield 'front: variant %.80r does not exist' % variant_id
        elif variant_id not in whole:
            yield 'front: variant %s has no whole segment without fusion or cut' % variant_id


def _early_exits(manifest: Manifest) -> Iterator[str]:
    steps = {(s.variant_id, s.role, s.cut_id): s for s in manifest.segments.values()
             if s.role in STEP_ROLES}
    for name, entry in manifest.variants.items():
        exits = entry.early_exits
        for finding in _order(entry):
            yield 'variant %s: %s' % (name, finding)
        missing = [key for key in _steps(name, exits) if steps.pop(key, None) is None]
        for _, role, cut_id in missing:
            yield 'variant %s answers early but has no %s segment at cut %.80r' % (
                name, role, cut_id)
        if exits and not missing:
            yield from _chain(manifest, name, exits)
    for variant_id, role, cut_id in steps:
        yield 'variant %.80s has the %s segment at cut %.80s, which no early exit of it names' % (
            variant_id, role, cut_id or 'none')
    for index, figure in enumerate(manifest.crossings):
        if (figure.variant_id in manifest.variants
                and manifest.variants[figure.variant_id].early_exits):
            yield 'crossings[%d]: variant %s answers early, so it is not shared with peers' % (
                index, figure.variant_id)


def _precisions(manifest: Manifest) -> Iterator[str]:
    """A graph of a lower precision says what it costs, and stands beside the plain ones."""
    plain = {s.key[:4] for s in manifest.segments.values() if s.precision == 'fp32'}
    for segment in manifest.segments.values():
        place = 'segment %s' % segment.segment_id
        if segment.precision not in ('fp32', 'int8'):
            yield '%s: precision is %.40r, a graph is fp32 or int8' % (place, segment.precision)
        elif segment.precision == 'int8' and segment.key[:4] not in plain:
            yield '%s: there is no fp32 segment of the same' % place
        entry = manifest.variants.get(segment.variant_id)
        if segment.precision == 'int8' and entry is not None and not any(
                p.precision == 'int8' and not p.engine for p in entry.precisions):
            yield '%s: variant %s does not say what int8 costs' % (place, segment.variant_id)
    for name, entry in manifest.variants.items():
        keys = [(p.precision, p.engine) for p in entry.precisions]
        if len(set(keys)) != len(keys):
            yield 'variant %s: precisions holds one more than once' % name


def _steps(variant_id: str, exits: Sequence[EarlyExit]) -> List[Tuple[str, str, str]]:
    if not exits:
        return []
    return [*((variant_id, 'exit', e.cut_id) for e in exits),
            (variant_id, 'end', exits[-1].cut_id)]


def _order(entry: VariantEntry) -> Iterator[str]:
    """Exits come in order before the last one, and leave it a share of the answers."""
    exits = entry.early_exits
    numbers = [e.exit_index for e in exits]
    if sorted(set(numbers)) != numbers or (numbers and numbers[-1] >= entry.variant.exit_index):
        yield 'early_exits must name exits below %d, ascending' % entry.variant.exit_index
    if not all(e.threshold < 1.0 for e in exits):
        yield 'a threshold of an early exit must lie below 1, leave out what never answers'
    if sum(e.ratio for e in exits) > 1.0 + 1e-9:
        yield 'the ratios of early_exits must not exceed 1 together'


def _chain(manifest: Manifest, variant_id: str, exits: Sequence[EarlyExit]) -> Iterator[str]:
    """Each step takes what the one before leaves over, and gives scores first."""
    segments = {s.key: s for s in manifest.segments.values()}
    whole = segments.get((variant_id, 'whole', 'none', '', 'fp32'))
    if whole is None or not whole.outputs:
        yield 'variant %s answers early but has no whole segment' % variant_id
        return
    takes, scores = whole.inputs, whole.outputs[0]
    for _, role, cut_id in _steps(variant_id, exits):
        step = segments.get((variant_id, role, 'none', cut_id, 'fp32'))
        cut = manifest.cuts.get(cut_id)
        if step is None or cut is None or not step.outputs:
            yield 'variant %s: its %s segment at cut %.80r cannot be run' % (
                variant_id, role, cut_id)
            return
        gives = step.outputs[0]
        if (gives.dtype, gives.shape) != ('float32', scores.shape) or len(scores.shape) != 2:
            yield 'segment %s: an early exit gives float32 %r first' % (
                step.segment_id, scores.shape)
        leaves = cut.tensors if role == 'exit' else ()
        if step.inputs != takes or step.outputs[1:] != leaves:
            yield 'segment %s does not go on from the step before it' % step.segment_id
        takes = leaves
