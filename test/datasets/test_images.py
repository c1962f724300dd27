# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
import os

import cv2
import numpy as np
import pytest

from crowdhmt_ros.datasets import images
from crowdhmt_ros.datasets.findings import Findings
from crowdhmt_ros.errors import DataError

from . import trees


def test_pixels_are_shrunk_by_area():
    image = np.zeros((4, 4, 3), np.uint8)
    image[::2] = 200
    data = cv2.imencode('.png', image)[1].ravel()
    assert (images.decode_image(data, (2, 2)) == 100).all()
    assert np.array_equal(images.decode_image(data, (4, 4)), image)


def test_grey_and_transparent_images_become_rgb():
    for image in (np.full((4, 4), 9, np.uint8), np.full((4, 4, 4), 9, np.uint8)):
        data = cv2.imencode('.png', image)[1].ravel()
        assert (images.decode_image(data, (4, 4)) == np.full((4, 4, 3), 9)).all()


@pytest.mark.parametrize('suffix', ['.jpg', '.png', '.bmp', '.webp'])
@pytest.mark.parametrize('keep', [0.0, 0.5, 0.9])
def test_a_cut_image_cannot_be_decoded(suffix, keep):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    data = cv2.imencode(suffix, noise)[1].ravel()
    with images.quiet_opencv(), pytest.raises(DataError, match='cannot be decoded|is empty'):
        images.decode_image(data[:int(keep * len(data))], (8, 8))


def test_broken_images_say_nothing_on_the_terminal(capfd):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    with images.quiet_opencv():
        for suffix in ('.jpg', '.tiff', '.webp'):
            with pytest.raises(DataError):
                images.decode_image(cv2.imencode(suffix, noise)[1].ravel()[:2000], (8, 8))
    assert capfd.readouterr().err == ''


def test_names_that_are_no_text_are_kept(tmp_path):
    name = b'caf\xe9.png'
    try:
        (tmp_path / os.fsdecode(name)).write_bytes(trees.encoded(40))
    except OSError:
        pytest.skip('the file system takes only UTF-8 names')
    files = images.FileList(tmp_path)
    files.add('.', os.fsdecode(name))
    assert files.items((8, 8)).read(0)[0, 0].tolist() == [40, 0, 0]


def test_a_million_names_take_tens_of_megabytes(tmp_path):
    files = images.FileList(tmp_path)
    for k in range(20000):
        files.add('n%08d' % (k % 1000), 'n01440764_%05d.JPEG' % k)
    items = files.items((224, 224))
    assert (items.names.nbytes + items.folder_of.nbytes) / len(items) < 30
    assert items.name(1234) == 'n00000234/n01440764_01234.JPEG'


def test_hidden_files_are_passed_over_and_others_counted(tmp_path):
    for name in ('b.JPG', 'a.png', '.c.png', 'd.txt', 'e', '.cache/f.png', 'g/h.webp'):
        trees.put(tmp_path / name, b'x')
    findings = Findings(tmp_path)
    assert images.image_names(tmp_path, findings) == ['a.png', 'b.JPG', 'g/h.webp']
    assert [reason for _, reason in findings.settle(3, True)] == [
        '1 file without suffix: no image', '1 file .txt: no image']


def test_blob_items_name_the_one_that_cannot_be_read():
    content = trees.blob_of([trees.encoded(1), b'nothing', trees.encoded(3)])
    items = images.BlobImages(content['blob'], content['offsets'], (8, 8))
    assert [bool(items.problem(k, True)) for k in range(3)] == [False, True, False]
    assert [bool(items.problem(k, False)) for k in range(3)] == [False, True, False]
    with pytest.raises(DataError, match='image 1 cannot be decoded'):
        items.read(1)
    assert items.read(2)[0, 0, 0] == 3
