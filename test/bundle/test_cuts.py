# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What a manifest says of cuts and of what crosses them."""
import pytest

from crowdhmt_ros.bundle.manifest import load_manifest
from crowdhmt_ros.bundle.reader import Bundle
from crowdhmt_ros.errors import BundleError


def with_a_cut(manifest):
    """Add a head and a tail of the wide variant at one cut, in the file of the narrow one."""
    manifest['cuts'] = [{'cut_id': 'c1', 'tensors': [
        {'name': 'r', 'dtype': 'float16', 'shape': [1, 8, 32, 32]}]}]
    for role, crossing in (('head', 'outputs'), ('tail', 'inputs')):
        path = 'graphs/%s.onnx' % role
        manifest['files'].append(dict(manifest['files'][0], path=path))
        manifest['segments'].append({
            **manifest['segments'][0], 'segment_id': 'wide/%s' % role, 'role': role,
            'file': path, 'cut_id': 'c1', crossing: manifest['cuts'][0]['tensors']})
    manifest['crossings'] = [
        {'variant_id': 'wide', 'cut_id': cut_id, 'codec': codec, 'bytes_mean': 2000.5,
         'accuracy_drop': drop, 'count': 3000}
        for cut_id, codec, drop in (
            ('', 'jpeg', 0.01), ('c1', 'fp16', 0.0), ('c1', 'int8', -0.001))]


def test_cuts_and_the_segments_at_them_are_read(copy):
    copy.edit(with_a_cut)
    manifest = load_manifest(copy.directory)
    (tensor,) = manifest.cuts['c1'].tensors
    assert (tensor.name, tensor.dtype, tensor.shape) == ('r', 'float16', (1, 8, 32, 32))
    assert manifest.segments['wide/tail'].cut_id == 'c1'
    bundle = Bundle(copy.directory, manifest)
    assert bundle.segment_for('wide', 'head', cut_id='c1') == 'wide/head'
    assert bundle.segment_for('wide') == 'wide/whole'
    for wrong in ({'role': 'head'}, {'role': 'head', 'cut_id': 'c2'}, {'cut_id': 'c1'}):
        with pytest.raises(BundleError, match='segment of variant'):
            bundle.segment_for('wide', **wrong)


def test_crossings_are_read(copy):
    assert Bundle(copy.directory, load_manifest(copy.directory)).crossings == ()
    copy.edit(with_a_cut)
    frame, _, packed = Bundle(copy.directory, load_manifest(copy.directory)).crossings
    assert (frame.variant_id, frame.cut_id, frame.codec) == ('wide', '', 'jpeg')
    assert (frame.bytes_mean, frame.accuracy_drop, frame.count) == (2000.5, 0.01, 3000)
    assert (packed.cut_id, packed.codec, packed.accuracy_drop) == ('c1', 'int8', -0.001)


def test_heads_are_offered_in_the_order_of_the_front(copy):
    copy.edit(with_a_cut)
    bundle = Bundle(copy.directory, load_manifest(copy.directory))
    heads = bundle.heads(memory_modes=('lean',))
    assert [h.placement.segments[0].segment_id for h in heads] == ['wide/head']
    assert (heads[0].engine.threads, heads[0].engine.memory_mode) == (1, 'lean')


def part(manifest, role):
    return next(s for s in manifest['segments'] if s['role'] == role)


def crossing(manifest, index=0):
    return manifest['crossings'][index]


OTHER = [{'name': 'r', 'dtype': 'float32', 'shape': [1, 8, 32, 31]}]
MALFORMED_CUTS = {
    'head that gives something else': (
        lambda m: part(m, 'head').update(outputs=OTHER), 'head gives other tensors than cut c1'),
    'tail that takes something else': (
        lambda m: part(m, 'tail').update(inputs=OTHER), 'tail takes other tensors than cut c1'),
    'head of another input': (
        lambda m: part(m, 'head').update(inputs=OTHER), 'not those of wide/whole'),
    'tail of other scores': (
        lambda m: part(m, 'tail').update(outputs=OTHER), 'not those of wide/whole'),
    'head of no cut': (lambda m: part(m, 'head').pop('cut_id'), 'a head needs a cut_id'),
    'head without tail': (
        lambda m: m['segments'].remove(part(m, 'tail')), 'wide/head: it has no tail'),
    'tail without head': (
        lambda m: m['segments'].remove(part(m, 'head')), 'wide/tail: it has no head'),
    'crossing of an unknown variant': (
        lambda m: crossing(m).update(variant_id='vast'), "variant 'vast' does not exist"),
    "crossing at another variant's cut": (
        lambda m: crossing(m, 1).update(variant_id='narrow'), "no head at cut 'c1'"),
    'crossing at no cut': (lambda m: crossing(m, 1).update(cut_id='c9'), "no head at cut 'c9'"),
    'crossing twice': (
        lambda m: m['crossings'].append(crossing(m)), 'cut none, codec jpeg come more than once'),
    'picture of a cut': (lambda m: crossing(m, 1).update(codec='jpeg'), 'codec is'),
    'frame as numbers': (lambda m: crossing(m).update(codec='int8'), 'codec is'),
    'unknown codec': (lambda m: crossing(m, 1).update(codec='zip'), 'codec is'),
    'crossing without a size': (lambda m: crossing(m).pop('bytes_mean'), 'bytes_mean is missing'),
    'crossing of no bytes': (lambda m: crossing(m).update(bytes_mean=0), 'bytes_mean is 0'),
    'gigantic crossing': (lambda m: crossing(m).update(bytes_mean=1e12), 'bytes_mean is'),
    'loss above all': (lambda m: crossing(m).update(accuracy_drop=1.5), 'accuracy_drop is 1.5'),
    'measured on nothing': (lambda m: crossing(m).update(count=0), 'count is 0'),
    'cut_id that is null': (lambda m: crossing(m).update(cut_id=None), 'cut_id is None'),
    'crossings that are no list': (lambda m: m.update(crossings={}), 'crossings is'),
    'crossing that is no object': (lambda m: m.update(crossings=[7]), 'is not an object'),
}


@pytest.mark.parametrize('case', sorted(MALFORMED_CUTS))
def test_malformed_cut_or_crossing_is_named(copy, case):
    change, match = MALFORMED_CUTS[case]
    copy.edit(with_a_cut)
    load_manifest(copy.directory)
    copy.edit(change)
    with pytest.raises(BundleError, match=match) as caught:
        load_manifest(copy.directory)
    assert '\n' not in str(caught.value)


def with_an_early_output(manifest):
    """Let the whole give one more output, which the head computes."""
    with_a_cut(manifest)
    early = {'name': 'early', 'dtype': 'int64', 'shape': [1, 3]}
    whole = manifest['segments'][0]
    whole['outputs'] = [*whole['outputs'], early]
    part(manifest, 'head')['outputs'] = [*manifest['cuts'][0]['tensors'], early]


def test_a_head_may_give_outputs_of_the_whole_behind_what_crosses(copy):
    copy.edit(with_an_early_output)
    head = load_manifest(copy.directory).segments['wide/head']
    assert [(o.name, o.dtype) for o in head.outputs] == [('r', 'float16'), ('early', 'int64')]


@pytest.mark.parametrize(('role', 'extra'), [
    ('head', {'name': 'strange', 'dtype': 'int64', 'shape': [1, 3]}),
    ('tail', {'name': 'early', 'dtype': 'int64', 'shape': [1, 3]}),
])
def test_head_and_tail_give_each_output_of_the_whole_once(copy, role, extra):
    copy.edit(with_an_early_output)
    copy.edit(lambda m: part(m, role)['outputs'].append(extra))
    with pytest.raises(BundleError, match='not those of wide/whole'):
        load_manifest(copy.directory)


def test_an_output_that_neither_half_gives_is_missed(copy):
    copy.edit(with_an_early_output)
    copy.edit(lambda m: part(m, 'head')['outputs'].pop())
    with pytest.raises(BundleError, match='not those of wide/whole'):
        load_manifest(copy.directory)


def test_a_piece_takes_what_crosses_its_cut(copy):
    def with_a_piece(manifest):
        with_a_cut(manifest)
        manifest['files'].append(dict(manifest['files'][0], path='graphs/piece.onnx'))
        manifest['segments'].append({
            **part(manifest, 'tail'), 'segment_id': 'wide/piece', 'role': 'piece',
            'file': 'graphs/piece.onnx', 'outputs': OTHER})
    copy.edit(with_a_piece)
    assert load_manifest(copy.directory).segments['wide/piece'].cut_id == 'c1'
    copy.edit(lambda m: part(m, 'piece').update(inputs=OTHER))
    with pytest.raises(BundleError, match='the piece takes other tensors than cut c1'):
        load_manifest(copy.directory)
