# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Let ONNX Runtime rewrite a graph for this processor and say the shape of all that flows in it.

    python -m crowdhmt_ros.engine.memory.rewrite_child '{"graph": ..., "folder": ...}'

writes graph and weights into the folder and prints one JSON object: tensor -> [type, shape],
empty where a shape hangs on the data.
"""
from __future__ import annotations

import contextlib
import json
import os
import sys
from dataclasses import replace
from typing import Dict, Iterator, List, Mapping, Sequence, Tuple

import numpy as np
import onnxruntime

from crowdhmt_ros.engine.memory.optimised import GRAPH_NAME, WEIGHTS_NAME
from crowdhmt_ros.engine.memory.room import be_first_to_go
from crowdhmt_ros.engine.memory.wire import (
    ELEMENT_TYPES,
    Place,
    WireGraph,
    held,
    piece,
    read_wire,
    value_info,
)

LEAST_BESIDE_BYTES = 1024
"""Smaller initialisers stay in the graph: a page of the file would be mapped for each."""
FATAL_ONLY = 4
OF_THE_DATA = ('NonZero', 'Unique', 'Compress', 'NonMaxSuppression', 'If', 'Loop', 'Scan')
PROVIDERS = ['CPUExecutionProvider']


def rewrite(graph_path: str, folder: str) -> Mapping[str, Tuple[str, Sequence[int]]]:
    """
    Write the rewritten graph and return the type and shape of every tensor between operators.

    :param graph_path: of the graph as it is
    :param folder: where the new one goes
    """
    path = os.path.join(folder, GRAPH_NAME)
    options = _options(onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL)
    options.optimized_model_filepath = path
    entry = 'session.optimized_model_external_initializers_'
    options.add_session_config_entry(entry + 'file_name', WEIGHTS_NAME)
    options.add_session_config_entry(entry + 'min_size_in_bytes', str(LEAST_BESIDE_BYTES))
    with _beside(graph_path, folder):
        onnxruntime.InferenceSession(graph_path, options, providers=PROVIDERS)
    # Without a weight of that size there is no file; the cache wants one all the same.
    with open(os.path.join(folder, WEIGHTS_NAME), 'ab'):
        pass
    graph = read_wire(path)
    strange = {name: place for name, place in graph.places.items()
               if place.location != WEIGHTS_NAME}
    if strange:
        source = os.path.dirname(os.path.abspath(graph_path))
        graph = _taken_in(graph, strange, source)
        with open(path, 'wb') as stream:
            stream.write(piece(graph, graph.nodes, inputs=graph.inputs, outputs=graph.outputs))
    return shapes(graph, folder)


def _taken_in(graph: WireGraph, places: Mapping[str, Place], source: str) -> WireGraph:
    """Return a graph that holds some initialisers itself which older releases leave elsewhere."""
    initialisers = dict(graph.initialisers)
    for name, place in places.items():
        with open(os.path.join(source, os.path.basename(place.location)), 'rb') as stream:
            stream.seek(place.offset)
            initialisers[name] = held(initialisers[name], stream.read(place.size_bytes))
    left = {name: place for name, place in graph.places.items() if name not in places}
    return replace(graph, initialisers=initialisers, places=left)


@contextlib.contextmanager
def _beside(graph_path: str, folder: str) -> Iterator[None]:
    """
    Show the graph's weight files in another folder as well.

    Older releases look for weights that they leave as they are beside the graph that they write.
    """
    source = os.path.dirname(os.path.abspath(graph_path))
    names = {place.location for place in read_wire(graph_path).places.values()}
    # Never the name that is about to be written: that would write into the graph's own weights.
    links = [os.path.join(folder, os.path.basename(name)) for name in names
             if os.path.basename(name) != WEIGHTS_NAME]
    for link in links:
        os.symlink(os.path.join(source, os.path.basename(link)), link)
    try:
        yield
    finally:
        for link in links:
            os.unlink(link)


def shapes(graph: WireGraph, folder: str) -> Mapping[str, Tuple[str, Sequence[int]]]:
    """Run a graph on zeros and return what flows: layouts of its own have no shape in the file."""
    if any(node.nested or node.operator in OF_THE_DATA for node in graph.nodes):
        return {}
    names = [name for node in graph.nodes for name in node.outputs if name]
    whole = piece(graph, graph.nodes, inputs=graph.inputs,
                  outputs={name: graph.outputs.get(name) or value_info(name) for name in names})
    path = os.path.join(folder, 'probe.onnx')
    with open(path, 'wb') as stream:
        stream.write(whole)
    try:
        return _observed(path, names)
    finally:
        os.unlink(path)


def _observed(path: str, names: Sequence[str]) -> Mapping[str, Tuple[str, Sequence[int]]]:
    session = onnxruntime.InferenceSession(
        path, _options(onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL), providers=PROVIDERS)
    given = {i.name: np.zeros(i.shape, element_type(i.type)) for i in session.get_inputs()}
    found: Dict[str, Tuple[str, List[int]]] = {}
    for name, value in zip(names, session.run(names, given)):
        dtype = str(getattr(value, 'dtype', ''))
        if dtype not in ELEMENT_TYPES:
            return {}
        found[name] = (dtype, [int(extent) for extent in value.shape])
    return found


def element_type(kind: str) -> str:
    """Return the numpy name of a type as the engine writes it: 'tensor(float)' -> 'float32'."""
    names = {'float': 'float32', 'double': 'float64'}
    inner = kind[len('tensor('):-1]
    return names.get(inner, inner)


def _options(level: onnxruntime.GraphOptimizationLevel) -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = FATAL_ONLY
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.graph_optimization_level = level
    return options


if __name__ == '__main__':
    be_first_to_go()
    request = json.loads(sys.argv[1])
    sys.stdout.write(json.dumps(rewrite(request['graph'], request['folder'])) + '\n')
