# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Write the tiny bundle that the tests of the robot's side use (`data/tiny`).

Two widths share one weight store: conv 3x3 stride 2, relu, global average, gemm. The narrow
one is a slice of the wide one with a scale per channel. Needs onnx; run it as
``python test/bundle/make_tiny.py`` after a change of the format.
"""
from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

import numpy as np

CLASSES = ('pedestrian', 'bicycle', 'car', 'other')
SIDE = 64
WIDTHS = {'wide': 8, 'narrow': 4}
ALIGNMENT = 64


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


class Store:
    """Gathers store tensors and initialiser recipes at aligned offsets."""

    def __init__(self) -> None:
        self.weights = bytearray()
        self.tensors = []
        self.arrays = {}
        self.recipes = []
        self.initialisers_bytes = 0

    def add(self, name, array) -> None:
        self.weights += b'\0' * (-len(self.weights) % ALIGNMENT)
        content = array.tobytes()
        self.tensors.append({'name': name, 'dtype': str(array.dtype), 'shape': list(array.shape),
                             'offset': len(self.weights), 'bytes': len(content)})
        self.weights += content
        self.arrays[name] = array

    def recipe(self, tensor, slices, scale=None, axis=0):
        value = self.arrays[tensor][tuple(slice(a, b) for a, b in slices)].astype(np.float32)
        if scale is not None:
            shape = [1] * value.ndim
            shape[axis] = -1
            value = value * self.arrays[scale].reshape(shape)
        content = value.astype('<f4').tobytes()
        offset = -(-self.initialisers_bytes // ALIGNMENT) * ALIGNMENT
        self.recipes.append({
            'offset': offset, 'shape': list(value.shape), 'dtype': 'float32', 'tensor': tensor,
            'slices': [list(s) for s in slices], 'scale': scale, 'scale_axis': axis,
            'sha256': digest(content)})
        self.initialisers_bytes = offset + len(content)
        return len(self.recipes) - 1


def graph(store, names_to_recipes):
    import onnx
    from onnx import TensorProto, helper
    initialisers = []
    for name, index in names_to_recipes.items():
        recipe = store.recipes[index]
        tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=recipe['shape'],
                             data_location=TensorProto.EXTERNAL)
        length = 4 * int(np.prod(recipe['shape']))
        for key, value in (('location', 'initialisers.bin'), ('offset', recipe['offset']),
                           ('length', length)):
            tensor.external_data.add(key=key, value=str(value))
        initialisers.append(tensor)
    nodes = [
        helper.make_node('Conv', ['image', 'conv.weight', 'conv.bias'], ['c'], 'conv',
                         kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[2, 2]),
        helper.make_node('Relu', ['c'], ['r'], 'relu'),
        helper.make_node('GlobalAveragePool', ['r'], ['g'], 'pool'),
        helper.make_node('Flatten', ['g'], ['f'], 'flatten'),
        helper.make_node('Gemm', ['f', 'fc.weight', 'fc.bias'], ['logits'], 'fc', transB=1),
    ]
    body = helper.make_graph(
        nodes, 'tiny',
        [helper.make_tensor_value_info('image', TensorProto.FLOAT, [1, 3, SIDE, SIDE])],
        [helper.make_tensor_value_info('logits', TensorProto.FLOAT, [1, len(CLASSES)])],
        initialisers)
    model = helper.make_model(body, opset_imports=[helper.make_opsetid('', 17)], ir_version=8)
    # A model with external data is only checked as a file beside it; its structure is simple.
    assert isinstance(model, onnx.ModelProto)
    return model.SerializeToString(deterministic=True)


def layers(width):
    out = SIDE // 2
    return [
        {'name': 'conv', 'operator': 'Conv', 'macs': 27 * width * out * out,
         'input_words': 3 * SIDE * SIDE, 'weight_words': 28 * width,
         'output_words': width * out * out},
        {'name': 'fc', 'operator': 'Gemm', 'macs': width * len(CLASSES), 'input_words': width,
         'weight_words': (width + 1) * len(CLASSES), 'output_words': len(CLASSES)}]


def build():
    rng = np.random.default_rng(7)
    widest = max(WIDTHS.values())
    store = Store()
    store.add('conv.weight', (rng.standard_normal((widest, 3, 3, 3)) * 0.3).astype(np.float16))
    store.add('conv.bias', (rng.standard_normal(widest) * 0.1).astype(np.float32))
    store.add('fc.weight', rng.standard_normal((len(CLASSES), widest)).astype(np.float16))
    store.add('fc.bias', rng.standard_normal(len(CLASSES)).astype(np.float32))
    for name, width in WIDTHS.items():
        store.add('scale.%s' % name, (0.5 + rng.random(width)).astype(np.float32))
    files, segments, variants = {}, [], []
    for name, width in WIDTHS.items():
        named = {
            'conv.weight': store.recipe('conv.weight', [(0, width), (0, 3), (0, 3), (0, 3)],
                                        'scale.%s' % name),
            'conv.bias': store.recipe('conv.bias', [(0, width)]),
            'fc.weight': store.recipe('fc.weight', [(0, len(CLASSES)), (0, width)]),
            'fc.bias': 3 if name != 'wide' else store.recipe('fc.bias', [(0, len(CLASSES))])}
        path = 'graphs/%s.onnx' % name
        files[path] = graph(store, named)
        costs = layers(width)
        segments.append({
            'segment_id': '%s/whole' % name, 'file': path, 'role': 'whole', 'variant_id': name,
            'fusion_set': 'none', 'opset': 17, 'ir_version': 8,
            'inputs': [{'name': 'image', 'dtype': 'float32', 'shape': [1, 3, SIDE, SIDE]}],
            'outputs': [{'name': 'logits', 'dtype': 'float32', 'shape': [1, len(CLASSES)]}],
            'recipes': sorted(named.values()), 'layers': costs})
        variants.append({
            'variant_id': name,
            'stages': [[{'operator': 'channel', 'parameters': {'ratio': width / widest}}]],
            'exit_index': 0 if name == 'narrow' else 1, 'precision': 'fp32',
            'macs': sum(c['macs'] for c in costs), 'parameters': 28 * width + 4 * (width + 1),
            'accuracy': {condition: {'value': value - (0.1 if name == 'narrow' else 0.0),
                                     'count': 3000}
                         for condition, value in (
                             ('scenes/noon', 0.95), ('scenes/afternoon', 0.93),
                             ('scenes/dusk', 0.85), ('photos', 0.82))}})
    files['weights.bin'] = bytes(store.weights)
    manifest = {
        'format': 'crowdhmt-bundle', 'format_version': 1, 'name': 'tiny',
        'task': 'image_classification', 'classes': list(CLASSES),
        'input': {'name': 'image', 'dtype': 'float32', 'shape': [1, 3, SIDE, SIDE],
                  'color': 'rgb', 'resize': 'area', 'scale': 1 / 255,
                  'mean': [0.485, 0.456, 0.406], 'std': [0.229, 0.224, 0.225]},
        'luminance_bands': {'noon': [0.5, 1.0], 'afternoon': [0.25, 0.5], 'dusk': [0.0, 0.25]},
        'files': [{'path': path, 'bytes': len(content), 'sha256': digest(content)}
                  for path, content in sorted(files.items())],
        'tensors': store.tensors,
        'initialisers': {'file': 'initialisers.bin', 'bytes': store.initialisers_bytes,
                         'recipes': store.recipes},
        'segments': segments, 'cuts': [], 'variants': variants, 'front': list(WIDTHS),
        'provenance': {'command': 'python test/bundle/make_tiny.py', 'seed': 7, 'recipe': {},
                       'data': {'weights': 'random'}}}
    return manifest, files


def write(directory: Path) -> None:
    manifest, files = build()
    for path, content in files.items():
        target = directory / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    text = (json.dumps(manifest, indent=1) + '\n').encode()
    (directory / 'manifest.json').write_bytes(text)
    (directory / 'manifest.json.sha256').write_text(digest(text) + '\n')


if __name__ == '__main__':
    write(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / 'data' / 'tiny')
