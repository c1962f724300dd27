# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
import json

import pytest

from crowdhmt_ros.bundle.manifest import load_manifest
from crowdhmt_ros.bundle.reader import open_bundle
from crowdhmt_ros.errors import BundleError


def refusal(copy, match=None):
    """Return the message of the refusal; it must be one line."""
    with pytest.raises(BundleError, match=match) as caught:
        load_manifest(copy.directory)
    assert '\n' not in str(caught.value)
    return str(caught.value)


def test_tiny_manifest_is_read_whole(tiny_path):
    manifest = load_manifest(tiny_path)
    assert manifest.classes == ('pedestrian', 'bicycle', 'car', 'other')
    assert manifest.front == ('wide', 'narrow')
    assert manifest.input.shape == (1, 3, 64, 64)
    narrow = manifest.variants['narrow']
    assert narrow.variant.exit_index == 0
    assert narrow.variant.stages[0][0].parameters == (('ratio', 0.5),)
    assert narrow.accuracy['photos'].count == 3000
    assert len(manifest.sha256) == 64


@pytest.mark.parametrize('text', ['', '{', '[]', '"x"', 'NaN', '{"format": NaN}', '[' * 100000,
                                  '{"format": "crowdhmt-bundle"', '\x00\x01'])
def test_malformed_json_is_refused_in_one_line(copy, text):
    copy.write_text(text)
    assert 'no bundle' in refusal(copy)


def test_bytes_that_are_no_text_are_refused(copy):
    (copy.directory / 'manifest.json').write_bytes(b'\xff\xfe\x00{')
    refusal(copy, 'not JSON')


@pytest.mark.parametrize('version', [2, 99])
def test_newer_format_says_which_version_is_read_and_to_update(copy, version):
    copy.edit(lambda m: m.update(format_version=version, surprising='field'))
    message = refusal(copy, 'reads version 1')
    assert str(version) in message
    assert 'update crowdhmt_ros' in message


@pytest.mark.parametrize('version', [0, None, '1', 1.5, True])
def test_other_versions_are_refused(copy, version):
    copy.edit(lambda m: m.update(format_version=version))
    refusal(copy, 'reads version 1')


def test_other_format_is_refused(copy):
    copy.edit(lambda m: m.update(format='zip'))
    refusal(copy, "'zip'")


def test_changed_manifest_is_refused(copy):
    path = copy.directory / 'manifest.json'
    path.write_bytes(path.read_bytes().replace(b'0.95', b'0.99'))
    refusal(copy, 'manifest.json was changed')


@pytest.mark.parametrize('name', ['manifest.json', 'manifest.json.sha256'])
def test_missing_manifest_or_digest_is_refused(copy, name):
    (copy.directory / name).unlink()
    refusal(copy, name)


def test_all_problems_come_at_once(copy):
    def change(manifest):
        manifest['name'] = 7
        manifest['input']['mean'] = [0.1]
        del manifest['segments'][1]['variant_id']
        manifest['initialisers']['recipes'][0]['slices'] = 'all'
    copy.edit(change)
    message = refusal(copy)
    for part in ('name is 7', 'input: mean has 1', 'segments[1]: variant_id is missing',
                 'recipes[0]: slices'):
        assert part in message


def test_a_flood_of_problems_is_cut_short(copy):
    copy.edit(lambda m: m.update(files=[{} for _ in range(1000)]))
    message = refusal(copy)
    assert 'more' in message
    assert len(message) < 4000


def recipe(manifest, index=0):
    return manifest['initialisers']['recipes'][index]


CONTRADICTIONS = {
    'slice beyond its tensor': (
        lambda m: recipe(m)['slices'][0].__setitem__(1, 9), 'recipe 0: slices'),
    'negative slice': (lambda m: recipe(m)['slices'][0].__setitem__(0, -1), 'recipe 0: slices'),
    'slice turned round': (
        lambda m: recipe(m).update(slices=[[8, 0], [0, 3], [0, 3], [0, 3]]), 'recipe 0: slices'),
    'too few slices': (lambda m: recipe(m)['slices'].pop(), 'recipe 0: slices'),
    'shape that does not follow': (
        lambda m: recipe(m).update(shape=[8, 3, 3, 2]), 'recipe 0: shape'),
    'unknown tensor': (lambda m: recipe(m).update(tensor='other'), "tensor 'other'"),
    'unknown scale': (lambda m: recipe(m).update(scale='other'), "scale 'other'"),
    'scale of another length': (
        lambda m: recipe(m).update(scale='scale.narrow'), 'expected float32 \\(8,\\)'),
    'scale on no axis': (lambda m: recipe(m).update(scale_axis=5), 'scale_axis 5'),
    'unaligned offset': (lambda m: recipe(m, 1).update(offset=870), 'no multiple of 64'),
    'recipe beyond the file': (
        lambda m: m['initialisers'].update(bytes=64), 'beyond the initialisers'),
    'recipes that overlap': (lambda m: recipe(m, 1).update(offset=0), 'overlaps recipe'),
    'tensors that overlap': (
        lambda m: m['tensors'][1].update(offset=0), 'overlaps tensor'),
    'tensor beyond the store': (
        lambda m: m['tensors'][0].update(offset=100000), 'ends beyond weights.bin'),
    'tensor of another length': (lambda m: m['tensors'][0].update(bytes=4), 'bytes says 4'),
    'gigantic tensor': (
        lambda m: m['tensors'][0].update(shape=[1 << 40, 1 << 40]), 'takes'),
    'gigantic initialisers': (
        lambda m: m['initialisers'].update(bytes=(1 << 30) + 1), 'more than 1073741824'),
    'gigantic file': (lambda m: m['files'][0].update(bytes=1 << 40), 'more than 1073741824'),
    'path to the parent': (
        lambda m: m['files'][0].update(path='../x.onnx'), 'may not leave'),
    'path through a folder to the parent': (
        lambda m: m['files'][0].update(path='graphs/../../x.onnx'), 'may not leave'),
    'absolute path': (lambda m: m['files'][0].update(path='/etc/passwd'), 'may not leave'),
    'path with backslashes': (
        lambda m: m['files'][0].update(path='..\\\\x'), 'may not leave'),
    'initialisers elsewhere': (
        lambda m: m['initialisers'].update(file='../initialisers.bin'), 'plain name'),
    'segment file that is not listed': (
        lambda m: m['segments'][0].update(file='../../x.onnx'), 'is not in files'),
    'same file twice': (lambda m: m['files'].append(m['files'][0]), 'more than once'),
    'no weights': (lambda m: m['files'].pop(), 'lacks weights.bin'),
    'improper digest': (lambda m: m['files'][0].update(sha256='zz'), 'no proper sha256'),
    'unknown recipe': (lambda m: m['segments'][0].update(recipes=[99]), 'does not exist'),
    'segment of no variant': (
        lambda m: m['segments'][0].update(variant_id='other'), "variant 'other'"),
    'front of no variant': (lambda m: m['front'].append('other'), "variant 'other'"),
    'front without a whole segment': (
        lambda m: m['segments'][0].update(role='head'), 'no whole segment'),
    'two segments of one key': (
        lambda m: m['segments'].append(dict(m['segments'][0], segment_id='x', file='x.onnx')),
        'variant wide as whole with fusion set none and cut none more than once'),
    'unknown cut': (lambda m: m['segments'][0].update(cut_id='c3'), "cut 'c3' does not exist"),
    'cut without tensors': (
        lambda m: m.update(cuts=[{'cut_id': 'c1', 'tensors': []}]), 'cut c1: it needs tensors'),
    'two cuts of one name': (
        lambda m: m.update(cuts=[{'cut_id': 'c1', 'tensors': []}] * 2), 'more than once'),
    'tensor of unknown type': (
        lambda m: m['segments'][0]['inputs'][0].update(dtype='float9'), "dtype is 'float9'"),
    'whole numbers from floats': (
        lambda m: recipe(m, 1).update(dtype='int32'), 'dtype int32 needs a tensor of that type'),
    'empty mean': (lambda m: m['input'].update(mean=[]), 'mean has 0 numbers, expected 3'),
    'no classes': (lambda m: m.update(classes=[]), 'classes must be distinct'),
    'no bands': (lambda m: m.update(luminance_bands={}), 'luminance_bands'),
    'empty front': (lambda m: m.update(front=[]), 'front must name'),
    'two segments of one name': (
        lambda m: m['segments'][1].update(segment_id='wide/whole'), 'more than once'),
    'model of other input': (
        lambda m: m['segments'][0]['inputs'][0].update(shape=[1, 3, 32, 32]), 'the input'),
    'model of other classes': (
        lambda m: m['segments'][0]['outputs'][0].update(shape=[1, 7]), 'one score a class'),
    'input of no image': (lambda m: m['input'].update(shape=[1, 1, 64, 64]), 'input.shape'),
    'std of zero': (lambda m: m['input'].update(std=[0.2, 0.0, 0.2]), 'input.std'),
    'bands with a gap': (
        lambda m: m['luminance_bands'].update(noon=[0.6, 1.0]), 'luminance_bands'),
    'bands that overlap': (
        lambda m: m['luminance_bands'].update(noon=[0.4, 1.0]), 'luminance_bands'),
    'accuracy beyond one': (
        lambda m: m['variants'][0]['accuracy']['photos'].update(value=1.2), 'value is 1.2'),
    'true as a number': (lambda m: m['variants'][0].update(macs=True), 'macs is True'),
    'parameter that is a list': (
        lambda m: m['variants'][0]['stages'][0][0]['parameters'].update(ratio=[1]),
        'parameter ratio'),
}


def of_another_task(manifest, **input_fields):
    """Make the tiny bundle one that listens to six channels of vibration."""
    manifest.update(task='wear', classes=[], luminance_bands={})
    manifest['input'].update(shape=[1, 6, 200], color='none', resize='none', mean=[], std=[],
                             dtype='int8')
    manifest['input'].update(input_fields)
    for segment in manifest['segments']:
        segment['inputs'] = [{'name': 'image', 'dtype': 'int8', 'shape': [1, 6, 200]}]
        segment['outputs'] = [{'name': 'wear', 'dtype': 'float32', 'shape': [1, 1]},
                              {'name': 'sure', 'dtype': 'float32', 'shape': [1, 1]}]


def test_another_task_is_free_in_input_classes_bands_and_outputs(copy):
    copy.edit(of_another_task)
    manifest = load_manifest(copy.directory)
    assert manifest.input.shape == (1, 6, 200)
    assert (manifest.classes, manifest.luminance_bands, manifest.input.mean) == ((), {}, ())
    assert len(manifest.segments['wide/whole'].outputs) == 2
    assert open_bundle(copy.directory).candidates()


@pytest.mark.parametrize('count', [6, 3])
def test_another_task_is_normalised_per_channel_or_not_at_all(copy, count):
    copy.edit(lambda m: of_another_task(m, mean=[0.5] * count, std=[1.0] * count))
    if count == 6:
        assert load_manifest(copy.directory).input.std == (1.0,) * 6
    else:
        refusal(copy, 'input.mean has 3 numbers, expected 6 or none')


def test_a_whole_model_may_give_more_than_its_scores(copy):
    extra = {'name': 'features', 'dtype': 'float16', 'shape': [1, 8]}
    copy.edit(lambda m: m['segments'][0]['outputs'].append(extra))
    outputs = load_manifest(copy.directory).segments['wide/whole'].outputs
    assert [o.name for o in outputs] == ['logits', 'features']


@pytest.mark.parametrize(('dtype', 'item_bytes'), [
    ('float16', 2), ('float32', 4), ('int8', 1), ('uint8', 1), ('int32', 4)])
def test_each_type_is_sized_by_its_items(copy, dtype, item_bytes):
    def change(manifest):
        tensor = manifest['tensors'][-1]
        tensor.update(dtype=dtype, bytes=item_bytes * tensor['shape'][0])
        for item in manifest['initialisers']['recipes']:
            if item['scale'] == tensor['name']:
                item['scale'] = None
        recipes = manifest['initialisers']['recipes']
        recipes.append(dict(recipes[0], tensor=tensor['name'], dtype=dtype, scale=None,
                            shape=tensor['shape'], slices=[[0, tensor['shape'][0]]],
                            offset=manifest['initialisers']['bytes'] // 64 * 64 + 64))
        manifest['initialisers']['bytes'] = (
            recipes[-1]['offset'] + item_bytes * tensor['shape'][0])
    copy.edit(change)
    manifest = load_manifest(copy.directory)
    assert manifest.recipes[-1].size_bytes == item_bytes * manifest.recipes[-1].shape[0]
    copy.edit(lambda m: m['initialisers'].update(bytes=m['initialisers']['bytes'] - 1))
    refusal(copy, 'beyond the initialisers')


@pytest.mark.parametrize('case', sorted(CONTRADICTIONS))
def test_contradiction_is_named(copy, case):
    change, match = CONTRADICTIONS[case]
    copy.edit(change)
    refusal(copy, match)
    with pytest.raises(BundleError):
        open_bundle(copy.directory)


def test_every_missing_field_is_an_error_and_never_a_crash(copy):
    """Remove each key of the manifest in turn, wherever it lies."""
    whole = json.dumps(copy.manifest)
    for path in key_paths(json.loads(whole)):
        manifest = json.loads(whole)
        place = manifest
        for step in path[:-1]:
            place = place[step]
        del place[path[-1]]
        copy.write_manifest(manifest)
        if path in OPTIONAL or path[-2:-1] in (['parameters'], ['accuracy']) or (
                path[0] == 'provenance' and len(path) > 1):
            load_manifest(copy.directory)
        else:
            refusal(copy)


@pytest.mark.parametrize('junk', [None, -1, 1e400, 'x', [], {}, [[]], True])
def test_every_replaced_field_is_read_or_refused_and_never_a_crash(copy, junk):
    whole = json.dumps(copy.manifest)
    for path in key_paths(json.loads(whole)):
        manifest = json.loads(whole)
        place = manifest
        for step in path[:-1]:
            place = place[step]
        place[path[-1]] = junk
        copy.write_manifest(manifest)
        message = ''
        try:
            load_manifest(copy.directory)
        except BundleError as error:
            message = str(error)
        assert '\n' not in message


OPTIONAL = (['cuts'], ['initialisers', 'recipes', 0, 'scale'])


def key_paths(value, path=()):
    """Yield the place of every key, first items of arrays only."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield [*path, key]
            yield from key_paths(item, (*path, key))
    elif isinstance(value, list) and value:
        yield from key_paths(value[0], (*path, 0))
