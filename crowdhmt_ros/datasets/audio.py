# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Sound files to clips of one rate and length.

Plain WAV needs nothing; FLAC, OGG and unusual WAV need the package soundfile.
"""
from __future__ import annotations

import importlib
import io
import wave
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Sequence, Tuple

import numpy as np
from numpy.typing import NDArray

from crowdhmt_ros.datasets.logmel import LogMel
from crowdhmt_ros.errors import DataError

NEEDS_SOUNDFILE = 'needs the package soundfile: pip install soundfile'
STREAMED = 2 ** 28
"""Lengths from here on are what a stream of unknown length writes."""
Sound = Tuple[NDArray[np.float32], int]


def soundfile() -> ModuleType:
    """
    Return the package that reads FLAC and OGG.

    :raises DataError: it is not installed, or its library does not load
    """
    try:
        return importlib.import_module('soundfile')
    except (ImportError, OSError):
        raise DataError('sound in FLAC, OGG or unusual WAV ' + NEEDS_SOUNDFILE) from None


def _pcm(data: bytes, width: int) -> NDArray[np.float32]:
    """Return samples of -1..1 of little-endian PCM; 8 bits are unsigned, the rest signed."""
    if width == 1:
        return np.asarray((np.frombuffer(data, np.uint8).astype(np.float32) - 128.0) / 128.0)
    raw = np.frombuffer(data[:len(data) // width * width], np.uint8).reshape(-1, width)
    wide = np.zeros((len(raw), 4), np.uint8)
    wide[:, 4 - width:] = raw
    return np.asarray(wide.view('<i4')[:, 0].astype(np.float32) / 2.0 ** 31)


def _read_wav(data: bytes) -> Sound:
    with wave.open(io.BytesIO(data)) as reader:
        channels, width, rate_hz = reader.getnchannels(), reader.getsampwidth(), \
            reader.getframerate()
        if width > 4:
            raise wave.Error('%d bytes a sample' % width)
        declared = reader.getnframes()
        samples = _pcm(reader.readframes(declared), width)
    if len(samples) < declared * channels and declared < STREAMED:
        raise DataError('ends after %d of %d samples' % (len(samples) // channels, declared))
    whole = len(samples) // channels * channels
    return np.asarray(samples[:whole].reshape(-1, channels).mean(axis=1), np.float32), rate_hz


def _read_other(data: bytes) -> Sound:
    package = soundfile()
    try:
        samples, rate_hz = package.read(io.BytesIO(data), dtype='float32', always_2d=True)
    except (RuntimeError, TypeError) as e:  # soundfile.LibsndfileError is a RuntimeError
        raise DataError('is no sound (%s)' % str(e).splitlines()[0]) from e
    return np.asarray(samples.mean(axis=1), np.float32), int(rate_hz)


def read_sound(data: bytes) -> Sound:
    """
    Return (samples, rate in Hz) of a sound file; several channels are averaged.

    :param data: the whole file
    :raises DataError: it is empty or no sound, or needs soundfile where there is none
    """
    try:
        samples, rate_hz = _read_wav(data)
    except (wave.Error, EOFError, RuntimeError):  # the last for chunks that end beyond the file
        samples, rate_hz = _read_other(data)
    if not len(samples) or rate_hz < 1:
        raise DataError('has no samples')
    return samples, rate_hz


def fit_clip(samples: NDArray[np.float32], rate_hz: int, spec: LogMel) -> NDArray[np.float32]:
    """
    Bring sound to one rate and length: cut or filled with silence, then resampled by FFT.

    The spectrum is cut at (or filled to) half the new rate, exact for what is periodic in the
    clip.

    :param samples: shape (n,), -1..1
    :returns: shape (spec.clip_samples,), -1..1
    """
    wanted = round(rate_hz * spec.clip_s)
    clip = np.zeros(wanted, np.float32)
    clip[:len(samples)] = samples[:wanted]
    if rate_hz == spec.rate_hz:
        return clip
    spectrum = np.fft.rfft(clip)[:spec.clip_samples // 2 + 1]
    resampled = np.fft.irfft(spectrum, spec.clip_samples) * (spec.clip_samples / wanted)
    return np.asarray(resampled, np.float32)


def _spectrogram(data: bytes, name: str, spec: LogMel) -> NDArray[np.float32]:
    try:
        samples, rate_hz = read_sound(data)
    except DataError as e:
        raise DataError('%s %s' % (name, e)) from e
    return spec.apply(fit_clip(samples, rate_hz, spec))


def _sound_problem(data: bytes, thorough: bool) -> str:
    if not data:
        return 'is empty'
    if thorough:
        try:
            read_sound(data)
        except DataError as e:
            return str(e)
    return ''


@dataclass(frozen=True, eq=False)
class FileSounds:
    """
    Sound files of one folder.

    :param folder: where they lie
    :param names: file names
    :param spec: how they become inputs
    """

    folder: Path
    names: Sequence[str]
    spec: LogMel

    def __len__(self) -> int:
        return len(self.names)

    def name(self, index: int) -> str:
        return self.names[index]

    def _data(self, index: int) -> bytes:
        try:
            return (self.folder / self.names[index]).read_bytes()
        except OSError as e:
            raise DataError('cannot be read (%s)' % e.strerror) from e

    def read(self, index: int) -> NDArray[np.generic]:
        try:
            data = self._data(index)
        except DataError as e:
            raise DataError('%s %s' % (self.name(index), e)) from e
        return _spectrogram(data, self.name(index), self.spec)

    def problem(self, index: int, thorough: bool) -> str:
        try:
            return _sound_problem(self._data(index), thorough)
        except DataError as e:
            return str(e)


@dataclass(frozen=True, eq=False)
class BlobSounds:
    """
    Sound files one after another in an array.

    :param blob: shape (bytes,), uint8
    :param offsets: shape (n + 1,), int64
    :param names: of the clips
    :param spec: how they become inputs
    """

    blob: NDArray[np.uint8]
    offsets: NDArray[np.int64]
    names: Sequence[str]
    spec: LogMel

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def name(self, index: int) -> str:
        return self.names[index]

    def _data(self, index: int) -> bytes:
        return self.blob[self.offsets[index]:self.offsets[index + 1]].tobytes()

    def read(self, index: int) -> NDArray[np.generic]:
        return _spectrogram(self._data(index), self.name(index), self.spec)

    def problem(self, index: int, thorough: bool) -> str:
        return _sound_problem(self._data(index), thorough)
