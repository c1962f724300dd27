# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crowdhmt_ros.datasets import LogMel
from crowdhmt_ros.datasets.audio import fit_clip, read_sound
from crowdhmt_ros.errors import DataError

from . import trees

SPEC = LogMel(clip_s=1.0)


@pytest.mark.parametrize(('width', 'error'), [(1, 1e-2), (2, 1e-4), (3, 1e-6), (4, 1e-6)])
def test_every_width_of_plain_wav_gives_the_samples(width, error):
    samples = trees.tone(440.0, seconds=0.1)
    read, rate_hz = read_sound(trees.wav(samples, width=width))
    assert rate_hz == 16000
    assert np.abs(read - samples).max() < error


def test_channels_are_averaged():
    pair = np.stack([np.full(100, 0.5), np.full(100, -0.25)], axis=1).ravel()
    read, _ = read_sound(trees.wav(pair, channels=2))
    assert len(read) == 100
    assert np.allclose(read, 0.125, atol=1e-4)


@pytest.mark.parametrize(('data', 'told'), [
    (trees.wav([]), 'has no samples'),
    (trees.wav(np.zeros(1000))[:-500], 'ends after 750 of 1000 samples'),
    (b'no sound at all', 'is no sound|needs the package soundfile'),
    (b'', 'is no sound|needs the package soundfile'),
])
def test_what_is_no_sound_is_said(data, told):
    with pytest.raises(DataError, match=told) as caught:
        read_sound(data)
    assert '\n' not in str(caught.value)


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 300), st.lists(st.tuples(st.integers(0, 60), st.integers(0, 255))))
def test_any_damage_to_a_header_is_sound_or_a_data_error(keep, changes):
    data = bytearray(trees.wav(np.zeros(128)))
    for place, value in changes:
        data[place] = value
    told = None
    try:
        samples, rate_hz = read_sound(bytes(data[:keep]))
    except DataError as e:
        told = str(e)
    assert '\n' not in told if told else len(samples) and rate_hz > 0


def test_flac_and_float_wav_are_read_by_soundfile(tmp_path):
    soundfile = pytest.importorskip('soundfile', reason='soundfile is not installed (extra train)')
    samples = trees.tone(440.0, seconds=0.1)
    for name, subtype in (('a.flac', 'PCM_16'), ('a.wav', 'FLOAT')):
        soundfile.write(tmp_path / name, samples, 16000, subtype=subtype)
        read, _ = read_sound((tmp_path / name).read_bytes())
        assert np.abs(read - samples).max() < 1e-4


@pytest.mark.parametrize('rate_hz', [8000, 22050, 44100, 48000])
def test_resampling_is_the_one_of_scipy(rate_hz):
    signal = pytest.importorskip('scipy.signal', reason='scipy is not installed (extra search)')
    samples = np.random.default_rng(0).uniform(-1, 1, rate_hz).astype(np.float32)
    clip = fit_clip(samples, rate_hz, SPEC)
    inner = signal.resample(samples.astype(np.float64), 16000)
    # scipy halves the one bin at the new limit.
    assert np.abs(clip - inner).max() < 0.02


def test_a_tone_keeps_pitch_and_loudness():
    clip = fit_clip(trees.tone(1000.0, 44100, 1.0).astype(np.float32), 44100, SPEC)
    assert np.allclose(clip, trees.tone(1000.0, 16000, 1.0), atol=1e-3)


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 40000), st.sampled_from([8000, 11025, 16000, 44100]))
def test_every_clip_has_the_one_length(count, rate_hz):
    clip = fit_clip(np.full(count, 0.5, np.float32), rate_hz, SPEC)
    assert clip.shape == (SPEC.clip_samples,)
    assert clip.dtype == np.float32


def test_short_sound_is_followed_by_silence_and_long_sound_is_cut():
    short = fit_clip(np.ones(4000, np.float32), 16000, SPEC)
    assert short[:4000].all()
    assert not short[4000:].any()
    assert np.array_equal(fit_clip(np.arange(20000, dtype=np.float32), 16000, SPEC),
                          np.arange(16000))
