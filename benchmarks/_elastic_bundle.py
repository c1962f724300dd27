# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
A front of sixteen as a bundle: how long it takes, what is shared, and whether it answers alike.

The network is ResNet18 for 32 pixels, untrained: none of the three figures depends on what it has
learnt. Its forms are derived from, and its normalisations calibrated on, random images.
"""
from __future__ import annotations

import contextlib
import io
import json
import tempfile
import time
from pathlib import Path
from typing import Dict, List, Mapping, NamedTuple, Sequence, Tuple

import cv2
import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray

from crowdhmt_ros.bundle.materialise import materialise
from crowdhmt_ros.bundle.reader import Bundle, open_bundle
from crowdhmt_ros.cli import build
from crowdhmt_ros.cli.figures import LOWER, Figure, claim, inform
from crowdhmt_ros.cli.front_file import FORMAT, FORMAT_VERSION
from crowdhmt_ros.cli.main import build_parser
from crowdhmt_ros.elastic.norms import FixedNorms
from crowdhmt_ros.elastic.operators.asymmetric import asymmetric
from crowdhmt_ros.elastic.operators.channel import channel
from crowdhmt_ros.elastic.operators.depth import depth
from crowdhmt_ros.elastic.operators.fire import fire
from crowdhmt_ros.elastic.operators.ghost import ghost
from crowdhmt_ros.elastic.operators.scale import scale
from crowdhmt_ros.elastic.operators.sparse import sparse
from crowdhmt_ros.elastic.operators.svd import svd
from crowdhmt_ros.elastic.store import Reference, elastic_of, save_family
from crowdhmt_ros.elastic.transformation import transform
from crowdhmt_ros.types import OperatorChoice, Segment, Variant, variant_to_json

CLAIMS = {'build_s': (120, LOWER), 'weight_sharing_ratio': (0.35, LOWER),
          'export_max_abs_diff': (1e-4, LOWER)}
CLASSES, EDGE, WIDTH, QUICK_WIDTH, QUICK_EVERY = 10, 32, 64, 16, 5
EXITS = (1, 2, 3)
CALIBRATION, FORMED_ON, INPUTS = 256, 128, 3
Arrays = Dict[str, NDArray[np.float32]]


def _alike(*choices: OperatorChoice) -> Variant:
    """Describe a variant whose four stages are alike."""
    return Variant((choices,) * 4, len(EXITS))


def _each(*stages: Tuple[OperatorChoice, ...]) -> Variant:
    """Describe a variant stage by stage; fewer than four answer at the exit behind the last."""
    return Variant(stages, len(stages) - 1)


FRONT = (
    _alike(),
    _each((), (), (), (scale(stride=2),)),
    _each((svd(0.5),), (svd(0.5),), (svd(0.5),), ()),
    _alike(svd(0.5)),
    _each((depth(1),), (depth(1),), (depth(1),), ()),
    _each((channel(0.75),), (channel(0.75), depth(1)), (channel(0.75), depth(1)),
          (channel(0.75),)),
    _alike(depth(1)),
    _alike(channel(0.75), ghost()),
    _alike(sparse(2)),
    _each((channel(0.5),), (channel(0.5),), (channel(0.5),)),
    _alike(fire(0.25)),
    _each((channel(0.75), scale(stride=2)), (channel(0.75),), (channel(0.75),),
          (channel(0.75),)),
    _each((channel(0.5),), (channel(0.5),)),
    _alike(asymmetric()),
    _alike(channel(0.5), depth(1)),
    _alike(channel(0.25)))
"""Spread over the logarithm of the operations, from the whole network to a sixteenth of it."""


class _Parts(NamedTuple):
    """Differences of one variant."""

    whole: float
    halves: float
    cuts: int
    scale: float


def bundle_figures(quick: bool = False) -> List[Figure]:
    """
    Build the bundle as `crowdhmt build` does, open it and run all of it.

    :param quick: a narrow network and a few of the variants
    """
    front = FRONT[::QUICK_EVERY] if quick else FRONT
    with tempfile.TemporaryDirectory(prefix='crowdhmt-bench-') as name:
        folder = Path(name)
        words = _prepare(folder, front, QUICK_WIDTH if quick else WIDTH)
        arguments = build_parser('build').parse_args(words)
        began_s, used_s = time.monotonic(), time.process_time()
        with contextlib.redirect_stdout(io.StringIO()):
            built = build.build(arguments)
        build_s, used_s = time.monotonic() - began_s, time.process_time() - used_s
        bundle = open_bundle(folder / 'bundle')
        return [*_counts(bundle, built, (build_s, used_s), _spread(built, front)),
                _difference(bundle, built, materialise(bundle, folder / 'cache'))]


def _prepare(folder: Path, front: Sequence[Variant], width: int) -> List[str]:
    """Write family, front and images; returns the words of the command."""
    rng = np.random.default_rng(0)
    images = [cv2.resize(rng.integers(0, 256, (6, 6, 3), np.uint8), (EDGE, EDGE),
                         interpolation=cv2.INTER_CUBIC) for _ in range(CALIBRATION)]
    coded = [cv2.imencode('.png', image)[1].tobytes() for image in images]
    np.savez(folder / 'images.npz', blob=np.frombuffer(b''.join(coded), np.uint8),
             offsets=np.cumsum([0, *map(len, coded)]),
             y=(np.arange(CALIBRATION) % CLASSES).astype(np.uint8),
             classes=np.array(['class %d' % i for i in range(CLASSES)]))
    torch.manual_seed(0)
    backbone = Reference('resnet18', CLASSES, {'width': width, 'edge': EDGE})
    net = elastic_of(backbone, EXITS)
    pixels = torch.from_numpy(np.stack(images[:FORMED_ON])).permute(0, 3, 1, 2) / 255.0
    transform(net, [(pixels - 0.45) / 0.25])
    save_family(net, folder / 'family.pt', backbone=backbone)
    (folder / 'front.json').write_text(json.dumps({
        'format': FORMAT, 'format_version': FORMAT_VERSION,
        'front': [variant_to_json(v) for v in front]}), encoding='utf-8')
    return ['build', str(folder / 'family.pt'), str(folder / 'front.json'), '--data',
            str(folder / 'images.npz'), '--split', 'all', '--out', str(folder / 'bundle'),
            '--calibration', str(CALIBRATION), '--threads', '2']


def _spread(built: build.Built, front: Sequence[Variant]) -> str:
    macs = [built.net.plan(v).macs for v in front]
    etas = 'all six eta' if front is FRONT else 'some of them'
    return '%d variants of ResNet18 at %d pixels from 1 to 1/%.0f of its operations, %s' % (
        len(front), EDGE, max(macs) / min(macs), etas)


def _counts(bundle: Bundle, built: build.Built, took_s: Tuple[float, float], what: str
            ) -> List[Figure]:
    manifest = bundle.manifest
    own = sum(bundle.variant(name).parameters for name in manifest.front)
    elements = sum(int(np.prod(t.shape)) for t in manifest.tensors.values())
    stored = bundle.weights_path.stat().st_size
    files = sum(f.size_bytes for f in manifest.files)
    return [
        claim('build_s', took_s[0], 120, better=LOWER,
              how='family to written and validated bundle, as crowdhmt build, 2 threads, %.0f s '
              'of processor time: %s; %d cuts, each checked' % (
                  took_s[1], what, len(manifest.cuts))),
        claim('weight_sharing_ratio', elements / own, 0.35, better=LOWER,
              how='%.2f M elements in the store over %.2f M that the variants would have of '
              'their own; %.1f MB (float16, biases and scales float32) over %.1f MB in float32, '
              '%.1f MB in float16' % (elements / 1e6, own / 1e6, stored / 1e6, 4 * own / 1e6,
                                      2 * own / 1e6)),
        inform('bundle_bytes', files, how='whole bundle: weights %d, graphs of %d parts and '
               'manifest the rest' % (stored, len(manifest.segments))),
        inform('build_nodes_ratio', built.exported.nodes[1] / built.exported.nodes[0],
               how='operators behind the simplification over those that PyTorch exported, '
               '%d of %d; %d notes' % (built.exported.nodes[1], built.exported.nodes[0],
                                       len(built.exported.notes)))]


def _difference(bundle: Bundle, built: build.Built, segments: Mapping[str, Segment]) -> Figure:
    """Compare every variant, and every head and tail, with the supernet in PyTorch."""
    draw = torch.Generator().manual_seed(1)
    inputs = [torch.randn(1, 3, EDGE, EDGE, generator=draw) for _ in range(INPUTS)]
    found = {name: _variant(bundle, built, name, segments, inputs)
             for name in bundle.manifest.front}
    worst = max(max(p.whole, p.halves) for p in found.values())
    cuts = sum(p.cuts for p in found.values())
    return claim(
        'export_max_abs_diff', worst, 1e-4, better=LOWER,
        also=cuts == len(bundle.manifest.cuts) > 0,
        how='absolute, on %d random inputs; largest outputs of a variant %.2g to %.2g, as they '
        'come: %d variants, supernet in PyTorch against ONNX Runtime on the bundle %.1e; head and '
        'tail against the whole at %d cuts %.1e' % (
            INPUTS, min(p.scale for p in found.values()), max(p.scale for p in found.values()),
            len(found), max(p.whole for p in found.values()), cuts,
            max(p.halves for p in found.values())))


def _variant(bundle: Bundle, built: build.Built, name: str, segments: Mapping[str, Segment],
             inputs: Sequence[torch.Tensor]) -> _Parts:
    norms, variant = FixedNorms(built.statistics), built.members[name].variant
    whole = _session(segments[bundle.segment_for(name)])
    cuts = [c for c in bundle.manifest.cuts if c.startswith(name + '-cut')]
    halves = [[_session(segments[bundle.segment_for(name, role, cut_id=c)])
               for role in ('head', 'tail')] for c in cuts]
    parts = _Parts(0.0, 0.0, len(cuts), 0.0)
    for x in inputs:
        given: Arrays = {bundle.input.name: x.numpy()}
        with torch.no_grad():
            wanted = built.net(x, variant, norms, every_exit=False)[-1].numpy()
        answer = _run(whole, given)
        (output,) = answer
        gaps = [np.abs(answer[output] - _chain(pair, given)[output]).max() for pair in halves]
        parts = _Parts(max(parts.whole, float(np.abs(answer[output] - wanted).max())),
                       max(parts.halves, float(max(gaps, default=0.0))), len(cuts),
                       max(parts.scale, float(np.abs(wanted).max())))
    return parts


def _session(segment: Segment) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(segment.path, options, providers=['CPUExecutionProvider'])


def _run(session: onnxruntime.InferenceSession, given: Arrays) -> Arrays:
    names = [o.name for o in session.get_outputs()]
    return dict(zip(names, session.run(None, {i.name: given[i.name]
                                              for i in session.get_inputs()})))


def _chain(pair: Sequence[onnxruntime.InferenceSession], given: Arrays) -> Arrays:
    known = dict(given)
    for session in pair:
        known.update(_run(session, known))
    return known
