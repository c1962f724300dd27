# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Sound to log-mel spectrogram, in numpy.

Frames under a Hann window, power of the real FFT, triangular filters with a peak of one, natural
logarithm. The mel scale is O'Shaughnessy's (Speech Communication, 1987, p. 150), as in HTK:
`m = 2595 log10(1 + f / 700)`. Filter k rises from mel point k to k + 1 and falls to k + 2, the
points evenly spaced in mel between the lowest and the highest frequency.
"""
from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Tuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from crowdhmt_ros.errors import DataError, all_problems


def hz_to_mel(frequency_hz: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mel of frequencies (O'Shaughnessy)."""
    return np.asarray(2595.0 * np.log10(1.0 + frequency_hz / 700.0))


def mel_to_hz(mel: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the frequencies of mels, Hz."""
    return np.asarray(700.0 * (10.0 ** (mel / 2595.0) - 1.0))


@lru_cache(maxsize=8)
def filter_bank(rate_hz: int, window: int, bands: int, low_hz: float, high_hz: float
                ) -> NDArray[np.float32]:
    """
    Return the triangular filters.

    :param rate_hz: sampling rate
    :param window: samples of a frame
    :param bands: number of filters
    :param low_hz: where the first filter begins
    :param high_hz: where the last filter ends
    :returns: shape (bands, window // 2 + 1)
    """
    ends = hz_to_mel(np.array([low_hz, high_hz]))
    points_hz = mel_to_hz(np.linspace(ends[0], ends[1], bands + 2))
    bins_hz = np.fft.rfftfreq(window, 1.0 / rate_hz)
    rise = (bins_hz - points_hz[:-2, None]) / np.diff(points_hz)[:-1, None]
    fall = (points_hz[2:, None] - bins_hz) / np.diff(points_hz)[1:, None]
    return np.maximum(0.0, np.minimum(rise, fall)).astype(np.float32)


@dataclass(frozen=True)
class LogMel:
    """
    How a clip becomes a spectrogram.

    :param rate_hz: sampling rate that clips are brought to
    :param clip_s: length that clips are brought to
    :param bands: mel bands
    :param window: samples of a frame
    :param hop: samples from frame to frame
    :param low_hz: lowest frequency
    :param high_hz: highest frequency
    :param floor: power that is added before the logarithm; a full-scale sine of one bin has about
        `(window / 4) ** 2`
    :raises DataError: values that do not fit together
    """

    rate_hz: int = 16000
    clip_s: float = 5.0
    bands: int = 64
    window: int = 1024
    hop: int = 512
    low_hz: float = 50.0
    high_hz: float = 8000.0
    floor: float = 1e-4

    def __post_init__(self) -> None:
        problems = []
        if min(self.rate_hz, self.bands, self.window, self.hop) < 1 or self.floor <= 0.0:
            problems.append('rate, bands, window, hop and floor must be positive')
        elif self.clip_samples < self.window:
            problems.append('a clip of %d samples is shorter than a window of %d'
                            % (self.clip_samples, self.window))
        if not 0.0 <= self.low_hz < self.high_hz <= self.rate_hz / 2.0:
            problems.append('frequencies from %g to %g Hz, at most half the rate of %d Hz'
                            % (self.low_hz, self.high_hz, self.rate_hz))
        if problems:
            raise DataError('spectrogram: ' + all_problems(problems))

    @property
    def clip_samples(self) -> int:
        """Samples of a clip."""
        return round(self.rate_hz * self.clip_s)

    @property
    def shape(self) -> Tuple[int, int, int]:
        """Of one spectrogram: (1, bands, frames)."""
        return 1, self.bands, 1 + (self.clip_samples - self.window) // self.hop

    def apply(self, clip: NDArray[np.float32]) -> NDArray[np.float32]:
        """
        Return the spectrogram of a clip.

        :param clip: shape (clip_samples,), -1..1, at `rate_hz`
        :returns: shape (1, bands, frames), natural logarithm of the power
        """
        frames = sliding_window_view(clip, self.window)[::self.hop]
        # The periodic Hann window, as for spectra, not the symmetric one.
        hann = 0.5 - 0.5 * np.cos(2.0 * np.pi * np.arange(self.window) / self.window)
        spectrum = np.fft.rfft(frames * hann.astype(np.float32), axis=1)
        power = (spectrum.real ** 2 + spectrum.imag ** 2).astype(np.float32)
        filters = filter_bank(self.rate_hz, self.window, self.bands, self.low_hz, self.high_hz)
        # Not a matrix product: on a busy machine its threads wait longer than they compute.
        bands = np.einsum('bk,tk->bt', filters, power)
        return np.asarray(np.log(bands + self.floor)[None], np.float32)
