"""How Kimi-Audio hears: Whisper frames, their adaptor, and discrete tokens, all at 12.5 Hz."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from lamofcbench.errors import SampleError

__all__ = ["SAMPLES_PER_TOKEN", "SAMPLE_RATE", "Adaptor", "Codebook", "Ear", "checked_audio"]

SAMPLE_RATE = 16_000
STACKED = 4
"""Encoder frames to a token: Whisper gives 50 frames a second."""
SAMPLES_PER_TOKEN = SAMPLE_RATE * STACKED // 50
SHORTEST, LONGEST = 0.1, 60.0


def checked_audio(inputs: Mapping[str, Any]) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Take the audio out of a sample's inputs.

    Returns:
        [samples] float32, mono, 16 kHz.

    Raises:
        SampleError: it is no such array, is not finite, or lasts under 0.1 s or over 60 s.
    """
    audio = inputs.get("audio")
    if audio is None:
        raise SampleError("there is no audio, or its file cannot be decoded")
    if not isinstance(audio, np.ndarray) or audio.dtype != np.float32 or audio.ndim != 1:
        found = (
            f"{audio.shape} {audio.dtype}"
            if isinstance(audio, np.ndarray)
            else type(audio).__name__
        )
        raise SampleError(f"audio must be [samples] float32 at 16 kHz, not {found}")
    seconds = len(audio) / SAMPLE_RATE
    if not SHORTEST <= seconds <= LONGEST:
        raise SampleError(f"audio of {seconds:.2f} s: must last {SHORTEST} to {LONGEST:.0f} s")
    if not np.isfinite(audio).all():
        raise SampleError("audio has values that are not finite")
    return audio


class Adaptor(nn.Module):
    """Maps stacked Whisper frames into the space of token embeddings.

    Parameters are named as in the published checkpoint, below ``model.vq_adaptor``.
    """

    def __init__(self, frame: int, hidden: int, eps: float) -> None:
        """Build it without weights.

        Args:
            frame: elements of a stacked frame: 4 times Whisper's width.
            hidden: width of an embedding.
            eps: of the norm.
        """
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(frame, hidden),
            nn.SiLU(),
            nn.Dropout(0.0),
            nn.Linear(hidden, hidden),
            nn.LayerNorm(hidden, eps=eps),
        )

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        """Map [..., n, frame] to [..., n, hidden]."""
        return self.layers(frames)  # type: ignore[no-any-return]


class Codebook(nn.Module):
    """Gives each 80 ms of sound the number of the nearest mean log-mel spectrum.

    It stands in for the GLM-4 voice tokenizer in miniatures.
    """

    entries: torch.Tensor

    def __init__(self, codes: int, mels: int) -> None:
        """Make room for ``codes`` spectra of ``mels`` bands, float32."""
        super().__init__()
        self.register_buffer("entries", torch.zeros(codes, mels))

    @staticmethod
    def pool(mel: torch.Tensor, count: int) -> torch.Tensor:
        """Average a spectrogram [mels, frames] over tokens: [count, mels]."""
        width = 2 * STACKED  # Whisper's encoder halves the frame rate
        return mel[:, : count * width].reshape(len(mel), count, width).mean(2).T

    def tokens(self, mel: torch.Tensor, count: int) -> torch.Tensor:
        """Number the first ``count`` tokens of a spectrogram [mels, frames]: int64 [count]."""
        distance = (self.pool(mel, count)[:, None] - self.entries[None]).square().sum(2)
        return distance.argmin(1)


class Ear(nn.Module):
    """Turns audio into stacked Whisper frames and discrete tokens, one of each per 80 ms.

    Audio longer than Whisper's window is heard window by window.
    """

    def __init__(self, extractor: Any, encoder: Any, codebook: Codebook) -> None:
        """Put together a library feature extractor, a library Whisper encoder, and a codebook."""
        super().__init__()
        self.extractor = extractor
        self.encoder = encoder
        self.codebook = codebook

    @staticmethod
    def count(samples: int) -> int:
        """Tokens that so many samples of audio give."""
        return -(-samples // SAMPLES_PER_TOKEN)

    def spectrogram(self, audio: np.ndarray[Any, np.dtype[np.float32]]) -> torch.Tensor:
        """Log-mel spectrogram [mels, frames] float32 of one window, padded to the whole window."""
        found = self.extractor(audio, sampling_rate=SAMPLE_RATE, return_tensors="pt")
        return found["input_features"][0]  # type: ignore[no-any-return]

    def hear(
        self, audio: np.ndarray[Any, np.dtype[np.float32]]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Encode audio.

        Args:
            audio: [samples] float32 at 16 kHz.

        Returns:
            Tokens [n] int64 and stacked frames [n, 4 * width], n = samples / 1280, rounded up.
        """
        window = self.extractor.n_samples
        tokens, frames = [], []
        for start in range(0, len(audio), window):
            part = audio[start : start + window]
            count = self.count(len(part))
            mel = self.spectrogram(part).to(self.codebook.entries.device)
            heard = self.encoder(mel[None].to(self.encoder.conv1.weight.dtype)).last_hidden_state
            tokens.append(self.codebook.tokens(mel, count))
            frames.append(heard[0, : count * STACKED].reshape(count, -1))
        return torch.cat(tokens), torch.cat(frames)
