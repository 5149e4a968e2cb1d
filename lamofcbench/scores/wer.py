"""Word error rate of transcripts, over a whole set."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

from lamofcbench.optional import require
from lamofcbench.scores.base import Answer, Figure, Numbers, Score, quotient, required

__all__ = ["WordErrorRate", "normalise_transcript", "word_error_rate", "word_errors"]


@functools.cache
def _normaliser() -> Any:
    module = require("transformers.models.whisper.english_normalizer", "models")
    # The table of British spellings comes with Whisper's tokenizer files, not with the library.
    return module.EnglishTextNormalizer({})


def normalise_transcript(text: str) -> str:
    """Bring a transcript into the form in which transcripts are compared.

    Whisper's normalisation of English text (Radford et al., "Robust Speech Recognition via
    Large-Scale Weak Supervision", 2022, appendix C) as transformers has it: lower case, without
    punctuation and fillers, contractions spelt out, number words as digits. British spellings are
    kept, which that normalisation turns into American ones.
    """
    return str(_normaliser()(text))


def word_errors(prediction: str, reference: str) -> tuple[int, int]:
    """Count one transcript's word errors.

    Args:
        prediction: the transcript.
        reference: what was said. If it normalises to nothing, what was heard are insertions.

    Returns:
        Substitutions, deletions and insertions together, and the reference's words.

    Raises:
        MissingDependencyError: transformers or jiwer is not installed.
    """
    jiwer = require("jiwer", "models")
    heard, said = normalise_transcript(prediction), normalise_transcript(reference)
    if not said:
        return len(heard.split()), 0
    found = jiwer.process_words(said, heard)
    return found.substitutions + found.deletions + found.insertions, len(said.split())


def word_error_rate(predictions: Sequence[str], references: Sequence[str]) -> float:
    """Corpus word error rate: errors of all transcripts over words of all references.

    Args:
        predictions: a transcript per sample.
        references: what was said, in the same order.

    Returns:
        (substitutions + deletions + insertions) / reference words; may be above 1.

    Raises:
        ValueError: the numbers of samples differ, or no reference has a word.
        MissingDependencyError: transformers or jiwer is not installed.
    """
    if len(predictions) != len(references):
        raise ValueError(f"{len(predictions)} predictions, {len(references)} references")
    counts = [word_errors(a, b) for a, b in zip(predictions, references, strict=True)]
    words = sum(count for _, count in counts)
    if not words:
        raise ValueError("no reference has a word")
    return sum(errors for errors, _ in counts) / words


class WordErrorRate(Score):
    """Corpus word error rate."""

    figures = (Figure("wer", quotient, higher_is_better=False),)

    def measure(
        self, answer: Answer, reference: Mapping[str, Any], context: Mapping[str, Any]
    ) -> Numbers:
        """See `Score.measure`."""
        return {"wer": word_errors(answer.prediction, required(reference, "text"))}

    def chance(self, references: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]]) -> float:
        """That of saying nothing: every word is missing."""
        return 1.0
