# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crowdhmt_ros.datasets import LogMel
from crowdhmt_ros.datasets.logmel import filter_bank, hz_to_mel, mel_to_hz
from crowdhmt_ros.errors import DataError

from . import trees


def test_a_thousand_hertz_are_a_thousand_mel():
    assert hz_to_mel(np.array([0.0, 1000.0])) == pytest.approx([0.0, 1000.0], abs=0.1)


@settings(deadline=None, max_examples=50)
@given(st.floats(0.0, 24000.0))
def test_mel_and_back(frequency_hz):
    assert mel_to_hz(hz_to_mel(np.array([frequency_hz])))[0] == pytest.approx(
        frequency_hz, abs=1e-6)


def test_filters_are_the_triangles_of_the_formula():
    filters = filter_bank(16000, 256, 12, 100.0, 7000.0)
    mels = [2595.0 * math.log10(1.0 + f / 700.0) for f in (100.0, 7000.0)]
    points = [700.0 * (10.0 ** ((mels[0] + k * (mels[1] - mels[0]) / 13) / 2595.0) - 1.0)
              for k in range(14)]
    for band in range(12):
        low, peak, high = points[band:band + 3]
        for k in range(129):
            f = k * 16000 / 256
            wanted = (f - low) / (peak - low) if f <= peak else (high - f) / (high - peak)
            assert filters[band, k] == pytest.approx(max(0.0, wanted), abs=1e-5)


def test_neighbouring_filters_add_up_to_one():
    bins_hz = np.fft.rfftfreq(1024, 1 / 16000)
    total = filter_bank(16000, 1024, 64, 50.0, 8000.0).sum(axis=0)
    inner = (bins_hz > 100.0) & (bins_hz < 7600.0)
    assert np.allclose(total[inner], 1.0, atol=1e-4)


def test_a_bin_of_full_scale_has_the_stated_power():
    spec = LogMel(clip_s=1.0, bands=4)
    clip = np.sin(2 * np.pi * 1000.0 * np.arange(16000) / 16000).astype(np.float32)
    total = np.exp(spec.apply(clip)[0, :, 3]).sum()
    # The Hann window spreads a bin over three: 1, 1/4 and 1/4 of the power.
    assert total == pytest.approx((1024 / 4) ** 2 * 1.5, rel=0.02)


def test_silence_is_the_floor():
    spec = LogMel()
    silence = spec.apply(np.zeros(spec.clip_samples, np.float32))
    assert silence.shape == spec.shape == (1, 64, 155)
    assert np.allclose(silence, math.log(spec.floor))


def test_frames_follow_the_sound_in_time():
    spec = LogMel(clip_s=2.0)
    clip = np.zeros(spec.clip_samples, np.float32)
    clip[16000:] = trees.tone(900.0, seconds=1.0)
    loud = spec.apply(clip)[0].max(axis=0) > 0.0
    assert not loud[:16000 // spec.hop - 2].any()
    assert loud[16000 // spec.hop:].all()


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 128), st.sampled_from([256, 400, 512]), st.integers(1, 600),
       st.floats(0.1, 0.5))
def test_the_stated_shape_is_the_shape(bands, window, hop, clip_s):
    spec = LogMel(clip_s=clip_s, bands=bands, window=window, hop=hop)
    clip = np.linspace(-1, 1, spec.clip_samples, dtype=np.float32)
    result = spec.apply(clip)
    assert result.shape == spec.shape
    assert np.isfinite(result).all()


@pytest.mark.parametrize(('changed', 'told'), [
    ({'bands': 0}, 'must be positive'), ({'floor': 0.0}, 'must be positive'),
    ({'clip_s': 0.01}, 'a clip of 160 samples is shorter than a window of 1024'),
    ({'high_hz': 9000.0}, 'from 50 to 9000 Hz, at most half the rate'),
    ({'low_hz': 8000.0}, 'from 8000 to 8000 Hz'),
])
def test_values_that_do_not_fit_are_named(changed, told):
    with pytest.raises(DataError, match=told):
        LogMel(**changed)
