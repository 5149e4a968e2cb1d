"""What the audio miniature is trained on: recordings of all five tasks, as spectrograms."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from extraction.sources import SOURCES
from extraction.sources.toy_audio import ToyAudio
from extraction.sources.toy_audio_words import VOCABULARY
from lamofcbench.models.audio import SAMPLES_PER_TOKEN, Ear

__all__ = ["TASKS", "Example", "batches", "make_examples", "source"]

# How many recordings of each task: which letter goes with which thing takes the most to learn.
TASKS = {
    "librispeech-clean": 1200,
    "librispeech-other": 1200,
    "advbench": 600,
    "openbookqa": 2800,
    "sdqa": 600,
}
BATCH_OF_FEATURES = 64
POOL = 16


@dataclass(frozen=True)
class Example:
    """One recording.

    Attributes:
        mel: [mels, frames] float16, without the padding.
        count: audio tokens.
        heard: per audio token the number of the word in `VOCABULARY` that sounds, or -1.
        prompt: text before it.
        response: the answer.
    """

    mel: torch.Tensor
    count: int
    heard: list[int]
    prompt: str
    response: str

    def before(self) -> list[int | None]:
        """Per audio token the word before the one that sounds, -1 for none; None in silence."""
        found: list[int | None] = []
        now = last = -1
        for word in self.heard:
            if word not in (-1, now):
                last, now = now, word
            found.append(None if word == -1 else last)
        return found


def source(task: str) -> type[ToyAudio]:
    """The generator of a task's utterances."""
    found: type[ToyAudio] = SOURCES.load(f"toy_{task.replace('-', '_')}")
    return found


def make_examples(extractor: Any, seed: int) -> list[Example]:
    """Record utterances of all tasks, held-out ones left out, and take their spectrograms."""
    made = []
    for number, (task, count) in enumerate(TASKS.items()):
        generator = source(task)
        # Far from the small numbers that seed the archived recordings.
        random = np.random.RandomState([1_000_003, seed, number])
        stream = generator.stream(random, "training")
        said = [next(stream) for _ in range(count)]
        recorded = [generator.record(utterance, random, generator.taught) for utterance in said]
        for start in range(0, count, BATCH_OF_FEATURES):
            part = slice(start, start + BATCH_OF_FEATURES)
            mels = extractor(
                [audio[: extractor.n_samples] for audio, _ in recorded[part]],
                sampling_rate=extractor.sampling_rate,
                return_tensors="pt",
            )["input_features"]
            for utterance, (audio, spans), mel in zip(
                said[part], recorded[part], mels, strict=True
            ):
                if len(audio) > extractor.n_samples:
                    continue
                tokens = Ear.count(len(audio))
                heard = _heard(utterance.words, spans, tokens)
                # Copied: a view would keep the padded batch.
                kept = mel[:, : 8 * tokens].half().clone()
                made.append(Example(kept, tokens, heard, utterance.prompt, utterance.response))
    return made


def _heard(words: tuple[str, ...], spans: list[tuple[int, int]], count: int) -> list[int]:
    heard = [-1] * count
    for word, (first, last) in zip(words, spans, strict=True):
        for token in range(count):
            if first <= (token + 0.5) * SAMPLES_PER_TOKEN < last:
                heard[token] = VOCABULARY.index(word)
    return heard


def batches(examples: list[Example], seed: int, size: int) -> Iterator[list[Example]]:
    """Batches of like length, without end; every example once a round."""
    random = np.random.RandomState(seed)
    while True:
        order = random.permutation(len(examples))
        for start in range(0, len(order) - size, POOL * size):
            pool = sorted(order[start : start + POOL * size], key=lambda i: examples[i].count)
            cuts = [pool[i : i + size] for i in range(0, len(pool), size)]
            for i in random.permutation(len(cuts)):
                yield [examples[j] for j in cuts[i]]
