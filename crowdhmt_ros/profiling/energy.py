# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Energy of one frame by unit costs: formula (1) of P III-D1, *reconstructed*.

    E = sum over layers of  s1 C + eps s2 M + (1 - eps) s3 M + g s4 M   +   P_idle (T n + T_p)
        + e_tx B

C: multiply-accumulates, M: memory accesses in words, eps: cache-hit ratio, g: 1 on a graphics
processor and 0 otherwise, s1:s2:s3:s4 = 1:6:200:2. The last term is ours: while a frame is
computed in T seconds, n cores are awake that could have slept, and one while it is prepared (or
packed for a peer) in T_p seconds, so that haste and a second thread can be judged. B: bytes to a
peer and back. What the peer computes drains its battery and not this one. eps is one figure for
the whole model, hence the sums over layers suffice.
"""
from __future__ import annotations

from typing import Iterable, Optional

from crowdhmt_ros.types import EnergyCoefficients, LayerCost

WORD_BYTES = 4
"""One word is one fp32 element."""


def work_energy_j(macs: int, words: int, coefficients: EnergyCoefficients, *,
                  cache_hit_ratio: float, on_gpu: bool = False) -> float:
    """
    Return the energy of the work itself, without idle power.

    :param macs: multiply-accumulates of one frame
    :param words: memory accesses of one frame
    :param coefficients: unit energies of the device
    :param cache_hit_ratio: eps, 0..1
    :param on_gpu: whether shared-memory accesses count
    :returns: joules
    """
    per_word = (cache_hit_ratio * coefficients.cache_multiple
                + (1.0 - cache_hit_ratio) * coefficients.dram_multiple
                + (coefficients.shared_multiple if on_gpu else 0.0))
    return coefficients.joules_per_mac * (macs + per_word * words)


def awake_energy_j(infer_s: float, threads: int, coefficients: EnergyCoefficients, *,
                   preprocess_s: float = 0.0) -> float:
    """
    Return the energy of the cores that are awake for one frame.

    :param infer_s: how long the engine computes
    :param threads: on how many cores
    :param coefficients: unit energies of the device
    :param preprocess_s: how long one core prepares the frame before
    """
    return coefficients.idle_w * (threads * infer_s + preprocess_s)


def radio_energy_j(payload_bytes: float, coefficients: EnergyCoefficients) -> float:
    """
    Return the energy of sending and receiving by radio.

    :param payload_bytes: of one frame, both directions
    :param coefficients: unit energies of the device
    """
    return coefficients.joules_per_byte * payload_bytes


def working_set_bytes(layers: Iterable[LayerCost]) -> int:
    """
    Return what one frame touches again and again: all weights and the widest layer.

    :param layers: work of the layers of one frame
    """
    weights = widest = 0
    for layer in layers:
        weights += layer.weight_words
        widest = max(widest, layer.input_words + layer.output_words)
    return (weights + widest) * WORD_BYTES


def modelled_cache_hit_ratio(working_set: int, cache_bytes: Optional[float]) -> float:
    """
    Return eps by the working-set model `min(1, cache share / working set)`.

    :param working_set: bytes
    :param cache_bytes: share of the last-level cache, None while unknown
    :returns: 0..1; 0.5 where the cache is unknown
    """
    if cache_bytes is None:
        return 0.5
    return min(1.0, cache_bytes / working_set) if working_set > 0 else 1.0
