# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
import pytest

from crowdhmt_ros.datasets import open_dataset
from crowdhmt_ros.errors import DataError

from . import trees
from .trees import SYNSETS

FLAT = ['ILSVRC2012_val_%08d.JPEG' % k for k in range(6)]


def test_synset_folders_are_the_sorted_classes_with_their_names(tmp_path):
    opened = open_dataset(trees.imagenet(tmp_path), split='train', size=(8, 8))
    assert opened.layout == 'imagenet'
    assert opened.classes == ('tench', 'goldfish', 'great white shark')
    assert opened.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert open_dataset(tmp_path, split='all').labels.tolist() == [0, 0, 1, 1, 2, 2] * 2
    val = open_dataset(tmp_path, split='val', size=(8, 8))
    assert [int(val.item(k)[0][4, 4, 0]) // 80 for k in (0, 2, 4)] == [0, 1, 2]


def test_names_that_two_synsets_share_carry_the_synset(tmp_path):
    trees.imagenet(tmp_path)
    trees.put(tmp_path / 'LOC_synset_mapping.txt', 'n01440764 crane\nn01443537 crane\n')
    assert open_dataset(tmp_path, split='train').classes == (
        'crane (n01440764)', 'crane (n01443537)', 'n01484850')


def test_the_folders_of_the_challenge_download_are_found(tmp_path):
    trees.imagenet(tmp_path / 'ILSVRC' / 'Data' / 'CLS-LOC')
    (tmp_path / 'LOC_synset_mapping.txt').write_text('n01440764 tench\n')
    assert open_dataset(tmp_path, split='val').classes[0] == 'tench'


def _solution(root):
    trees.table(root / 'LOC_val_solution.csv', ('ImageId', 'PredictionString'),
                [(name[:-5], '%s 1 2 3 4' % SYNSETS[k // 2]) for k, name in enumerate(FLAT)])


def _pairs(root):
    trees.put(root / 'val.txt', ''.join('val/%s %d\n' % (n, k // 2) for k, n in enumerate(FLAT)))


def _pairs_of_synsets(root):
    trees.put(root / 'val.txt', ''.join(
        '%s %s\n' % (n, SYNSETS[k // 2]) for k, n in enumerate(FLAT)))


def _synsets(root):
    trees.put(root / 'imagenet_2012_validation_synset_labels.txt', ''.join(
        SYNSETS[k // 2] + '\n' for k in range(6)))


def _numbers(root):
    own_order = (SYNSETS[2], SYNSETS[0], SYNSETS[1])
    trees.put(root / 'devkit' / 'data' / 'ILSVRC2012_validation_ground_truth.txt', ''.join(
        '%d\n' % (own_order.index(SYNSETS[k // 2]) + 1) for k in range(6)))
    trees.put(root / 'synsets.txt', ''.join(s + '\n' for s in own_order))


@pytest.mark.parametrize('lists', [_solution, _pairs, _pairs_of_synsets, _synsets, _numbers])
def test_a_flat_val_takes_its_classes_from_any_of_the_lists(tmp_path, lists):
    lists(trees.imagenet(tmp_path, flat=True))
    opened = open_dataset(tmp_path, split='val', size=(8, 8))
    assert [int(opened.item(k)[0][4, 4, 0]) // 80 for k in (0, 2, 4)] == [0, 1, 2]
    assert opened.labels.tolist() == [0, 0, 1, 1, 2, 2]


def test_images_that_a_list_does_not_name_are_skipped(tmp_path):
    _pairs(trees.imagenet(tmp_path, flat=True))
    trees.edit(tmp_path / 'val.txt', lambda lines: [*lines[1:], 'other.JPEG 0'])
    opened = open_dataset(tmp_path, split='val')
    assert len(opened) == 5
    assert opened.skipped == (('val/' + FLAT[0], 'val.txt does not name it'),
                              ('val/other.JPEG', 'val.txt names it and it is not there'))


def _empty_class(root):
    for path in (root / 'train' / SYNSETS[1]).iterdir():
        path.unlink()


@pytest.mark.parametrize(('lists', 'spoil', 'split', 'told'), [
    (None, _empty_class, 'train', 'class folder train/n01443537 has no images'),
    (None, lambda root: (root / 'train' / 'n09999999').mkdir(), 'val',
     'val misses class n09999999'),
    (None, lambda root: (root / 'train' / 'cats').mkdir(), 'train', 'no synsets: cats'),
    (_pairs, lambda root: (root / 'val.txt').unlink(), 'val', 'val is flat and nothing says'),
    (_pairs, lambda root: trees.edit(root / 'val.txt', lambda lines: [
        lines[0][:-1] + '3', *lines[1:]]), 'val', 'label 3 of ILSVRC.*0.JPEG is out'),
    (_pairs, lambda root: trees.edit(root / 'val.txt', lambda lines: [
        FLAT[0] + ' n00000001', *lines[1:]]), 'val', 'label n00000001 of'),
    (_synsets, lambda root: trees.edit(
        root / 'imagenet_2012_validation_synset_labels.txt', lambda lines: lines[1:]), 'val',
     'has 5 lines for 6 images'),
    (_numbers, lambda root: (root / 'synsets.txt').unlink(), 'val', "kit's own order: put"),
    (_numbers, lambda root: trees.edit(root / 'synsets.txt', lambda lines: lines[1:]), 'val',
     'does not list the 3 synsets'),
    (_solution, lambda root: trees.edit(root / 'LOC_val_solution.csv', lambda lines: [
        'Image,PredictionString', *lines[1:]]), 'val', 'has no column ImageId; its columns'),
], ids=['empty', 'missing', 'strange', 'unlisted', 'range', 'synset', 'count', 'order', 'list',
        'column'])
def test_malformed_layouts_are_one_clear_error(tmp_path, lists, spoil, split, told):
    trees.imagenet(tmp_path, flat=lists is not None)
    if lists:
        lists(tmp_path)
    spoil(tmp_path)
    with pytest.raises(DataError, match=told) as caught:
        open_dataset(tmp_path, split=split)
    assert '\n' not in str(caught.value)


def test_the_test_part_has_no_classes(tmp_path):
    with pytest.raises(DataError, match='no split test; there are all, train, val'):
        open_dataset(trees.imagenet(tmp_path), split='test')


def test_an_empty_root_with_a_list_is_one_clear_error(tmp_path):
    trees.put(tmp_path / 'LOC_synset_mapping.txt', 'n01440764 tench\n')
    with pytest.raises(DataError, match='no split train'):
        open_dataset(tmp_path, split='train')
