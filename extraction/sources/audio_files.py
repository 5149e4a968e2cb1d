"""Decoding audio files into what the audio family takes."""

import io
from math import gcd
from pathlib import Path
from typing import Any

import numpy as np

from lamofcbench.optional import require

__all__ = ["decode_audio"]

RATE = 16_000


def decode_audio(data: bytes | Path) -> np.ndarray | None:
    """Decode an audio file: mono (channels averaged), resampled to 16 kHz.

    Args:
        data: the file's bytes, or where it is.

    Returns:
        [samples] float32; None if it cannot be decoded, so that the front half can refuse the one
        sample and the run goes on.
    """
    soundfile = require("soundfile", "models")
    try:
        file: Any = io.BytesIO(data) if isinstance(data, bytes) else str(data)
        audio, rate = soundfile.read(file, dtype="float32", always_2d=True)
    except (OSError, RuntimeError):  # soundfile's own errors are RuntimeErrors
        return None
    mono = audio.mean(axis=1)
    if rate != RATE and len(mono):
        from scipy.signal import resample_poly

        common = gcd(rate, RATE)
        mono = resample_poly(mono, RATE // common, rate // common)
    return np.ascontiguousarray(mono, dtype=np.float32)
