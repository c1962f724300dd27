# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
from pathlib import Path

import numpy as np
import pytest

from crowdhmt_ros.datasets import assembling, open_dataset
from crowdhmt_ros.datasets.assembling import Found, finish, part_to_read
from crowdhmt_ros.datasets.dataset import ArrayItems, InputKind
from crowdhmt_ros.datasets.findings import Findings
from crowdhmt_ros.datasets.options import OpenOptions
from crowdhmt_ros.errors import DataError

from . import trees


def found(labels, count=None, **changed):
    values = np.zeros((len(labels) if count is None else count, 2, 1), np.float32)
    return Found(**{'layout': 'made', 'part': 'all', 'kind': InputKind.WINDOW, 'shape': (2, 1),
                    'classes': ('a', 'b'), 'items': ArrayItems(values), 'labels': labels,
                    **changed})


def assemble(this, split='all', **options):
    return finish(this, OpenOptions(split, **options), Findings(Path('place')))


@pytest.mark.parametrize(('this', 'told'), [
    (found([0, 1], count=3), '2 labels for 3 items'),
    (found([]), 'there is nothing in it'),
    (found([0, 2]), 'label 2 of item 1 is out of range, there are 2 classes; no item of class b'),
    (found([-1, 0, 1]), 'label -1 of item 0'),
    (found([0, 1, *[7] * 9]), '9 labels are out of range'),
    (found([0, 0]), 'no item of class b'),
])
def test_labels_must_fit_items_and_classes(this, told):
    with pytest.raises(DataError, match=told):
        assemble(this)


def test_groups_that_are_numbers_are_in_the_order_of_numbers():
    names = assemble(found([0, 1, 0, 1], group_of=['10', 'p2', '9', 'p10'])).group_names
    assert names == ('9', '10', 'p10', 'p2')


def test_a_part_by_groups_that_is_empty_names_the_place():
    with pytest.raises(DataError, match='^place: holding out 2 of 2 items leaves one part empty'):
        assemble(found([0, 1], group_of=['1', '1'], group_word='fold'), 'test')


def test_many_items_are_looked_at_by_their_heads_only(tmp_path, monkeypatch):
    trees.images_by_class(tmp_path)
    path = tmp_path / 'cat' / '00.png'
    path.write_bytes(path.read_bytes()[:40])
    assert len(open_dataset(tmp_path, split='all').skipped) == 1
    monkeypatch.setattr(assembling, 'THOROUGH_LIMIT', 23)
    assert open_dataset(tmp_path, split='all').skipped == ()
    assert len(open_dataset(tmp_path, split='all', check='items').skipped) == 1


def test_skipped_items_come_in_the_order_of_the_items(tmp_path, monkeypatch):
    monkeypatch.setattr(assembling, 'CHUNK', 3)
    trees.images_by_class(tmp_path, count=40)
    for name in ('cat/02.png', 'cat/39.png', 'dog/00.png', 'dog/17.png'):
        (tmp_path / name).write_bytes(b'')
    opened = open_dataset(tmp_path, split='all')
    assert [name for name, _ in opened.skipped] == [
        'cat/02.png', 'cat/39.png', 'dog/00.png', 'dog/17.png']
    assert len(opened) == 76


@pytest.mark.parametrize(('split', 'held_out', 'own', 'grouped', 'part'), [
    ('all', (), ('train',), False, 'all'), ('train', (), ('train',), False, 'train'),
    ('train', ('1',), ('train',), True, 'all'), ('test', (), (), True, 'all'),
    ('test', (), ('test',), True, 'test')])
def test_which_part_a_reader_reads(split, held_out, own, grouped, part):
    options = OpenOptions(split, held_out=held_out)
    assert part_to_read(options, own, grouped, Findings(Path('place'))) == part
