"""A seeded synthesiser of words: each a sequence of two or three sounds of two formants.

No speech, but heard the same way: words share their sounds, speakers differ in pitch, tract and
speed, and noise covers the quieter formant first.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["CLEAN", "OTHER", "RATE", "ROOM", "Condition", "sounds_of", "speak"]

Random = np.random.RandomState

RATE = 16_000
FORMANTS = tuple((low, high) for low in (280, 430, 620, 850) for high in (1150, 1600, 2250, 3100))
SOUND = 0.075
"""Seconds that a sound lasts at speed 1."""
GAP = 0.03
FADE = 0.008
SPREAD = 7919  # a prime: neighbouring numbers must not give words that begin alike


@dataclass(frozen=True)
class Condition:
    """How a recording differs from the next.

    Attributes:
        noise: least and greatest deviation of white noise; a formant's amplitude is about 0.1.
        speed: least and greatest speed.
        tract: formants are scaled by up to this, either way.
        lead: greatest silence before the first word, seconds.
    """

    noise: tuple[float, float] = (0.002, 0.012)
    speed: tuple[float, float] = (0.8, 1.3)
    tract: float = 0.03
    lead: float = 0.9


CLEAN = Condition()
ROOM = Condition(noise=(0.01, 0.04), speed=(0.75, 1.4), tract=0.04)
OTHER = Condition(noise=(0.03, 0.1), speed=(0.65, 1.6), tract=0.06)


@functools.cache
def _words(vocabulary: tuple[str, ...]) -> dict[str, tuple[int, ...]]:
    count, taken = len(FORMANTS), {}
    for place, word in enumerate(vocabulary):
        draw = Random(SPREAD * (place + 1))
        while True:
            length = 2 + draw.randint(2)
            sounds = tuple(int(s) for s in draw.permutation(count)[:length])
            if sounds not in taken.values():
                taken[word] = sounds
                break
    return taken


def sounds_of(word: str, vocabulary: tuple[str, ...]) -> tuple[int, ...]:
    """The sounds of a word, distinct within its vocabulary and the same in every run."""
    return _words(vocabulary)[word]


def speak(
    words: Sequence[str], vocabulary: tuple[str, ...], condition: Condition, random: Random
) -> tuple[np.ndarray, list[tuple[int, int]]]:
    """Synthesise words.

    Args:
        words: what to say.
        vocabulary: all words there are, in a fixed order.
        condition: of the recording.
        random: draws speaker, speed, loudness, silences and noise.

    Returns:
        Audio [samples] float32, 16 kHz, of 16-bit values; first and last sample of each word.
    """
    speed = random.uniform(*condition.speed)
    tract = 1 + random.uniform(-condition.tract, condition.tract)
    pitch = random.uniform(90, 220)
    pieces = [np.zeros(int(RATE * random.uniform(0.01, condition.lead)))]
    place, spans = len(pieces[0]), []
    for word in words:
        began = place
        for sound in sounds_of(word, vocabulary):
            count = int(RATE * SOUND / speed * random.uniform(0.85, 1.2))
            pieces.append(_sound(sound, count, tract, pitch, random))
            place += count
        spans.append((began, place))
        pieces.append(np.zeros(int(RATE * GAP / speed * random.uniform(0.5, 1.5))))
        place += len(pieces[-1])
    audio = np.concatenate(pieces) + random.uniform(*condition.noise) * random.randn(place)
    audio *= random.uniform(0.5, 1.5)
    audio = np.rint(np.clip(audio, -1, 1) * 32767) / 32768
    return audio.astype(np.float32), spans


def _sound(sound: int, count: int, tract: float, pitch: float, random: Random) -> np.ndarray:
    time = np.arange(count) / RATE
    low, high = FORMANTS[sound]
    wave = np.zeros(count)
    for frequency, amplitude in ((low, 0.12), (high, 0.09), (pitch, 0.03)):
        scale = tract * (1 + random.uniform(-0.015, 0.015)) if frequency != pitch else 1.0
        phase = random.uniform(0, 2 * np.pi)
        amplitude *= random.uniform(0.7, 1.3)
        wave += amplitude * np.sin(2 * np.pi * frequency * scale * time + phase)
    fade = np.minimum(1, np.minimum(time, time[::-1]) / FADE)
    return wave * fade
