# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Tiny data sets of every layout."""
import csv
import wave

import cv2
import numpy as np

from crowdhmt_ros.datasets.har import FOLDER, SIGNALS
from crowdhmt_ros.datasets.statefarm import CODES

SYNSETS = ('n01440764', 'n01443537', 'n01484850')


def encoded(value, suffix='.png', edge=8):
    """Return the file of an image of one colour; red, so that RGB and BGR differ."""
    image = np.zeros((edge, edge, 3), np.uint8)
    image[..., 2] = value
    return cv2.imencode(suffix, image)[1].tobytes()


def put(path, data):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data) if isinstance(data, bytes) else path.write_text(data, encoding='utf-8')
    return path


def images_by_class(root, classes=('cat', 'dog'), count=12, suffix='.png'):
    for label, name in enumerate(classes):
        for k in range(count):
            put(root / name / ('%02d%s' % (k, suffix)), encoded(50 * label + k, suffix))
    return root


def images_by_split(root, splits=('train', 'val', 'test')):
    for k, split in enumerate(splits):
        images_by_class(root / split, count=12 - k)
    return root


def cifar10(root, per_batch=10, folder='cifar-10-batches-bin'):
    rng = np.random.default_rng(0)
    for name in (*('data_batch_%d.bin' % k for k in range(1, 6)), 'test_batch.bin'):
        records = rng.integers(0, 256, (per_batch, 3073), np.uint8)
        records[:, 0] = np.arange(per_batch) % 10
        put(root / folder / name, records.tobytes())
    put(root / folder / 'batches.meta.txt', ''.join('name%d\n' % k for k in range(10)) + '\n')
    return root


def cifar100(root):
    rng = np.random.default_rng(0)
    for name, count in (('train.bin', 200), ('test.bin', 100)):
        records = rng.integers(0, 256, (count, 3074), np.uint8)
        records[:, 1] = np.arange(count) % 100
        records[:, 0] = records[:, 1] // 5
        put(root / name, records.tobytes())
    put(root / 'fine_label_names.txt', ''.join('fine%d\n' % k for k in range(100)))
    put(root / 'coarse_label_names.txt', ''.join('coarse%d\n' % k for k in range(20)))
    return root


def blob_of(files):
    return {'blob': np.frombuffer(b''.join(files), np.uint8),
            'offsets': np.cumsum([0, *map(len, files)])}


def images_npz(path, count=12, **changed):
    labels = np.arange(count) % 2
    files = [encoded(k, '.webp', 32) for k in range(count)]
    content = {**blob_of(files), 'y': labels.astype(np.uint8), 'classes': np.array(['a', 'b'])}
    content.update(changed)
    np.savez(path, **{k: v for k, v in content.items() if v is not None})
    return path


def imagenet(root, flat=False, count=2):
    for label, synset in enumerate(SYNSETS):
        for k in range(count):
            put(root / 'train' / synset / ('%s_%d.JPEG' % (synset, k)), encoded(9 * label, '.jpg'))
            place = root / 'val' if flat else root / 'val' / synset
            put(place / ('ILSVRC2012_val_%08d.JPEG' % (label * count + k)),
                encoded(90 * label, '.jpg'))
    put(root / 'LOC_synset_mapping.txt',
        'n01440764 tench, Tinca tinca\nn01443537 goldfish\nn01484850 great white shark, white\n')
    return root


def uci_har(root, samples=128, count=20):
    activities = ('WALKING', 'SITTING')
    put(root / 'activity_labels.txt', ''.join(
        '%d %s\n' % (k, name) for k, name in enumerate(activities, 1)))
    for part, first in (('train', 1), ('test', 8)):
        put(root / part / 'X_train.txt', 'features, not windows\n')
        put(root / part / ('y_%s.txt' % part), ''.join('%d\n' % (k % 2 + 1) for k in range(count)))
        put(root / part / ('subject_%s.txt' % part), ''.join(
            '%d\n' % (first + k // 10) for k in range(count)))
        for channel, signal in enumerate(SIGNALS):
            lines = (' '.join(' %.7e' % (channel + row / 100) for _ in range(samples))
                     for row in range(count))
            put(root / part / FOLDER / ('%s_%s.txt' % (signal, part)), '\n'.join(lines) + '\n')
    return root


def edit(path, change):
    """Change the lines of a text file."""
    lines = path.read_text(encoding='utf-8').splitlines()
    path.write_text('\n'.join(change(lines)) + '\n', encoding='utf-8')


def har_npz(path, **changed):
    rng = np.random.default_rng(0)
    content = {'X': rng.integers(-9, 9, (20, 128, 9)).astype(np.int16), 'scale': np.float64(0.5),
               'y': (np.arange(20) % 2).astype(np.uint8), 'labels': np.array(['A', 'B']),
               'subject': np.repeat([1, 2, 3, 11, 12], 4).astype(np.uint8)}
    content.update(changed)
    np.savez(path, **{k: v for k, v in content.items() if v is not None})
    return path


def wav(samples, rate_hz=16000, width=2, channels=1):
    """Return a WAV file of samples of -1..1."""
    import io
    file = io.BytesIO()
    with wave.open(file, 'wb') as writer:
        writer.setnchannels(channels)
        writer.setsampwidth(width)
        writer.setframerate(rate_hz)
        scaled = np.round(np.asarray(samples, np.float64) * (2 ** (8 * width - 1) - 1))
        if width == 1:
            writer.writeframes((scaled + 128).astype(np.uint8).tobytes())
        else:
            writer.writeframes(scaled.astype('<i4').view(np.uint8).reshape(-1, 4)[
                :, :width].tobytes())
    return file.getvalue()


def tone(frequency_hz, rate_hz=16000, seconds=5.0):
    return 0.5 * np.sin(2 * np.pi * frequency_hz * np.arange(round(rate_hz * seconds)) / rate_hz)


def table(path, header, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open('w', newline='', encoding='utf-8') as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)
    return path


ESC_HEADER = ('filename', 'fold', 'target', 'category', 'esc10', 'src_file', 'take')


def esc(root, categories=('dog', 'rain'), folds=5, rate_hz=16000):
    rows = []
    for target, category in enumerate(categories):
        for fold in range(1, folds + 1):
            name = '%d-%d-A-%d.wav' % (fold, 100 * fold + target, target)
            put(root / 'audio' / name, wav(tone(500 * (target + 1), rate_hz), rate_hz))
            rows.append((name, fold, target, category, target == 0, 100 * fold + target, 'A'))
    table(root / 'meta' / 'esc50.csv', ESC_HEADER, rows)
    return root


def statefarm(root, drivers=('p002', 'p012', 'p014', 'p015', 'p016')):
    rows = []
    for label, code in enumerate(CODES):
        for k, driver in enumerate(drivers):
            name = 'img_%d.jpg' % (100 * label + k)
            put(root / 'imgs' / 'train' / code / name, encoded(20 * label, '.jpg'))
            rows.append((driver, code, name))
    table(root / 'driver_imgs_list.csv', ('subject', 'classname', 'img'), rows)
    return root
