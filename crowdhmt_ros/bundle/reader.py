# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Open a bundle: every byte checked before anything of it is used.

A bundle is named by its directory or by the name of one that ships with the package
(`crowdhmt_ros/bundles/NAME`).
"""
from __future__ import annotations

import hashlib
import logging
from dataclasses import replace
from pathlib import Path
from typing import Dict, Iterator, List, Mapping, Optional, Sequence, Tuple, Union

from crowdhmt_ros.bundle.entries import (
    CrossingFigure,
    FileEntry,
    Manifest,
    PrecisionFigure,
    SegmentEntry,
    VariantEntry,
)
from crowdhmt_ros.bundle.manifest import WEIGHTS_NAME, listed, load_manifest
from crowdhmt_ros.errors import BundleError
from crowdhmt_ros.types import (
    Candidate,
    EarlyExit,
    EngineOptions,
    InputSpec,
    LayerCost,
    Placement,
    SegmentPlacement,
    engine_named,
)

SHIPPED = Path(__file__).resolve().parent.parent / 'bundles'
"""Where the bundles lie that ship with the package."""
_CHUNK_BYTES = 1 << 20
_log = logging.getLogger(__name__)


class Bundle:
    """
    A verified bundle: what its manifest says, by the words of the planner.

    :param directory: where its files lie
    :param manifest: checked manifest; the files' digests were compared by `open_bundle`
    """

    def __init__(self, directory: Path, manifest: Manifest) -> None:
        self.directory = directory
        self.manifest = manifest
        self._segments: Dict[Tuple[str, str, str, str, str], SegmentEntry] = {
            s.key: s for s in manifest.segments.values()}

    @property
    def sha256(self) -> str:
        """Digest of the manifest, which names every other digest."""
        return self.manifest.sha256

    @property
    def classes(self) -> Tuple[str, ...]:
        """Class names in the order of the scores."""
        return self.manifest.classes

    @property
    def input(self) -> InputSpec:
        """What every whole model of the bundle takes."""
        return self.manifest.input

    @property
    def weights_path(self) -> Path:
        """The store of the family's tensors."""
        return self.directory / WEIGHTS_NAME

    def file_sha256(self, path: str) -> str:
        """
        Return the digest of one file of the bundle.

        :param path: as in the manifest
        :raises BundleError: when the bundle has no such file
        """
        for entry in self.manifest.files:
            if entry.path == path:
                return entry.sha256
        raise BundleError('bundle %s has no file %r' % (self.manifest.name, path))

    def variant(self, variant_id: str) -> VariantEntry:
        """
        Return one variant.

        :raises BundleError: when the bundle has no such variant
        """
        try:
            return self.manifest.variants[variant_id]
        except KeyError:
            raise BundleError('bundle %s has no variant %r, it has %s' % (
                self.manifest.name, variant_id, ', '.join(self.manifest.front))) from None

    def segment(self, segment_id: str) -> SegmentEntry:
        """
        Return one segment.

        :raises BundleError: when the bundle has no such segment
        """
        try:
            return self.manifest.segments[segment_id]
        except KeyError:
            raise BundleError('bundle %s has no segment %r' % (
                self.manifest.name, segment_id)) from None

    def accuracy(self, variant_id: str, precision: str = 'fp32', engine: str = ''
                 ) -> Mapping[str, float]:
        """
        Return condition -> ratio of right answers of one variant.

        A lower precision that is known by its agreement alone is taken to answer wrongly
        wherever it does not agree.

        :param precision: of the engine
        :param engine: name of the backend, for precisions that engines make by themselves
        :returns: empty where nothing is known of the precision
        """
        entry = self.variant(variant_id)
        plain = {name: figure.value for name, figure in entry.accuracy.items()}
        if precision in ('fp32', entry.variant.precision):
            return plain
        found = self.precision_figure(variant_id, precision, engine)
        if found is None:
            return {}
        if found.accuracy:
            return {name: figure.value for name, figure in found.accuracy.items()}
        if found.agreement is None:
            return {}
        return {name: max(0.0, value + found.agreement - 1.0) for name, value in plain.items()}

    def precision_figure(self, variant_id: str, precision: str, engine: str = ''
                         ) -> Optional[PrecisionFigure]:
        """
        Return what a lower precision costs, None where it was not measured.

        :param engine: name of the backend; what a graph says itself holds on any
        """
        figures = {p.engine: p for p in self.variant(variant_id).precisions
                   if p.precision == precision}
        return figures.get(engine) or figures.get('')

    def macs(self, variant_id: str) -> int:
        """Return the multiply-accumulates of one frame."""
        return self.variant(variant_id).macs

    def layer_costs(self, segment_id: str) -> Tuple[LayerCost, ...]:
        """Return the work of one segment layer by layer."""
        return self.segment(segment_id).layers

    def segment_for(self, variant_id: str, role: str = 'whole', *, fusion_set: str = 'none',
                    cut_id: str = '', precision: str = 'fp32') -> str:
        """
        Return the name of the prebuilt graph of a variant.

        :param cut_id: the cut that it begins or ends at, '' for none
        :param precision: of the engine; 'bf16' and 'fp16' are made of the graph in fp32, and a
            network that came in whole numbers has one graph only
        :raises BundleError: when the bundle has none such
        """
        graph = 'fp32'
        if precision == 'int8' and self.variant(variant_id).variant.precision != 'int8':
            graph = 'int8'
        try:
            return self._segments[(variant_id, role, fusion_set, cut_id, graph)].segment_id
        except KeyError:
            raise BundleError('bundle %s has no %s segment of variant %r with fusion set %r%s%s'
                              % (self.manifest.name, role, variant_id, fusion_set,
                                 ' at cut %r' % cut_id if cut_id else '',
                                 ' in int8' if graph == 'int8' else '')) from None

    @property
    def crossings(self) -> Tuple[CrossingFigure, ...]:
        """What was measured of the ways to a peer, empty for a bundle without."""
        return self.manifest.crossings

    def heads(self, threads: Sequence[int] = (1,),
              memory_modes: Sequence[str] = ('fast', 'lean')) -> Tuple[Candidate, ...]:
        """
        Return every way to run a head of a variant of the front on this machine, unfused in fp32.

        :param threads: intra-operator thread counts to offer
        :param memory_modes: of 'fast' and 'lean'
        :returns: candidates with the head alone, in the order of the front, then of the cuts. One
            that gives outputs of the whole beside what crosses is left out: with a peer's
            answer alone the whole's would not be complete
        """
        return tuple(
            Candidate(s.variant_id, self.variant(s.variant_id).variant,
                      Placement((SegmentPlacement('head', s.segment_id),)),
                      EngineOptions(threads=t, memory_mode=mode))
            for variant_id in self.manifest.front for s in self.manifest.segments.values()
            if s.role == 'head' and s.variant_id == variant_id and s.fusion_set == 'none'
            and s.precision == 'fp32'
            and s.outputs == self.manifest.cuts[s.cut_id].tensors
            for mode in memory_modes for t in threads)

    def candidates(self, threads: Sequence[int] = (1, 2),
                   memory_modes: Sequence[str] = ('fast', 'lean'), *,
                   all_fusions: bool = False, all_precisions: bool = False
                   ) -> Tuple[Candidate, ...]:
        """
        Return every way to run a variant of the front on this machine.

        :param threads: intra-operator thread counts to offer
        :param memory_modes: of 'fast' and 'lean'
        :param all_fusions: offer the fused forms of each variant too, which pay where the engine
            fuses nothing itself
        :param all_precisions: offer the forms in whole numbers, too
        :returns: richest variant first, then by fusion set, precision, memory mode and threads
        """
        return tuple(self._candidate(variant_id, replace(form, threads=t, memory_mode=mode))
                     for variant_id in self.manifest.front
                     for form in self._forms(variant_id, all_fusions, all_precisions)
                     for mode in memory_modes for t in threads)

    def candidate_named(self, candidate_id: str) -> Optional[Candidate]:
        """
        Return the candidate with a name, whatever engine options that says.

        No message carries the engine options of a fallback.

        :returns: None where there is none
        """
        for candidate in self.candidates((1,), ('fast',), all_fusions=True, all_precisions=True):
            prefix = '%s/%s/' % (candidate.variant_id, candidate.placement.name)
            options = engine_named(candidate_id[len(prefix):]) \
                if candidate_id.startswith(prefix) else None
            if options is not None and (options.graph_precision, options.fusion_set) == (
                    candidate.engine.precision, candidate.engine.fusion_set):
                return replace(candidate, engine=options)
        return None

    def _forms(self, variant_id: str, all_fusions: bool, all_precisions: bool
               ) -> List[EngineOptions]:
        sets = self.fusion_sets(variant_id) if all_fusions else ('none',)
        kinds = self.precisions(variant_id)[1:] if all_precisions else ()
        return [*(EngineOptions(fusion_set=s) for s in sets),
                *(EngineOptions(precision=p) for p in kinds)]

    def precisions(self, variant_id: str) -> Tuple[str, ...]:
        """
        Return the precisions in which a variant has graphs, 'fp32' first.

        :raises BundleError: when the bundle has no such variant
        """
        role = 'exit' if self.early_exits(variant_id) else 'whole'
        return tuple(dict.fromkeys(['fp32', *(
            s.precision for s in self.manifest.segments.values()
            if s.variant_id == variant_id and s.role == role)]))

    def fusion_sets(self, variant_id: str) -> Tuple[str, ...]:
        """
        Return the fusion sets in which a variant may run here, 'none' first.

        :raises BundleError: when the bundle has no such variant
        """
        role = 'exit' if self.early_exits(variant_id) else 'whole'
        return tuple(dict.fromkeys(['none', *(
            s.fusion_set for s in self.manifest.segments.values()
            if s.variant_id == variant_id and s.role == role)]))

    def _candidate(self, variant_id: str, options: EngineOptions) -> Candidate:
        entry = self.variant(variant_id)
        exits = entry.early_exits
        steps = [('exit', e.cut_id) for e in exits] + [('end', e.cut_id) for e in exits[-1:]]
        return Candidate(variant_id, entry.variant, Placement(tuple(
            SegmentPlacement(role, self.segment_for(
                variant_id, role, fusion_set=options.fusion_set, cut_id=cut_id,
                precision=options.precision))
            for role, cut_id in steps or [('whole', '')])), options)

    def early_exits(self, variant_id: str) -> Tuple[EarlyExit, ...]:
        """Return where a variant may answer early, empty where its exit is fixed."""
        return self.variant(variant_id).early_exits


def open_bundle(path_or_name: Union[str, Path]) -> Bundle:
    """
    Open a bundle and compare every file with its digest.

    :param path_or_name: a directory, or the name of a bundle that ships with the package
    :returns: the bundle, safe to use
    :raises BundleError: one line with every problem, or why there is no bundle
    """
    directory = _resolve(path_or_name)
    manifest = load_manifest(directory)
    problems = [found for entry in manifest.files for found in _file_problems(directory, entry)]
    if problems:
        raise BundleError('%s is damaged: %s; get the bundle again' % (
            directory, listed(problems)))
    _log.debug('bundle %s %s opened from %s', manifest.name, manifest.sha256[:16], directory)
    return Bundle(directory, manifest)


def shipped_names() -> Tuple[str, ...]:
    """Return the names of the bundles that ship with the package."""
    if not SHIPPED.is_dir():
        return ()
    return tuple(sorted(p.parent.name for p in SHIPPED.glob('*/manifest.json')))


def _resolve(path_or_name: Union[str, Path]) -> Path:
    text = str(path_or_name)
    given = Path(text).expanduser()
    shipped = SHIPPED / text
    if text and not given.is_dir() and given.name == text and shipped.is_dir():
        return shipped
    if not text or not given.is_dir():
        raise BundleError('there is no bundle %r: name a directory, or one that ships with the '
                          'package (%s)' % (text, ', '.join(shipped_names()) or 'none here'))
    return given.absolute()


def _file_problems(directory: Path, entry: FileEntry) -> Iterator[str]:
    path = directory / entry.path
    try:
        size_bytes = path.stat().st_size
        if size_bytes != entry.size_bytes:
            yield '%s has %d bytes, expected %d' % (entry.path, size_bytes, entry.size_bytes)
        elif file_sha256(path) != entry.sha256:
            yield '%s was changed: its sha256 does not match' % entry.path
    except FileNotFoundError:
        yield '%s is missing' % entry.path
    except OSError as error:
        yield '%s cannot be read (%s)' % (entry.path, error.strerror)


def file_sha256(path: Path) -> str:
    """
    Return the sha256 of a file, hexadecimal.

    :raises OSError: when it cannot be read
    """
    digest = hashlib.sha256()
    with open(path, 'rb') as stream:
        for chunk in iter(lambda: stream.read(_CHUNK_BYTES), b''):
            digest.update(chunk)
    return digest.hexdigest()
