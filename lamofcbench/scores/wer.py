"""Word error rate of transcripts, over a whole set."""

import functools
from collections.abc import Sequence
from typing import Any

from lamofcbench.optional import require

__all__ = ["normalise_transcript", "word_error_rate"]


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


def word_error_rate(predictions: Sequence[str], references: Sequence[str]) -> float:
    """Corpus word error rate: errors of all transcripts over words of all references.

    Args:
        predictions: a transcript per sample.
        references: what was said, in the same order.

    Returns:
        (substitutions + deletions + insertions) / reference words; may be above 1. References
        that normalise to nothing count no words, but what was heard in them are insertions.

    Raises:
        ValueError: the numbers of samples differ, or no reference has a word.
        MissingDependencyError: transformers or jiwer is not installed.
    """
    jiwer = require("jiwer", "models")
    if len(predictions) != len(references):
        raise ValueError(f"{len(predictions)} predictions, {len(references)} references")
    heard = [normalise_transcript(text) for text in predictions]
    said = [normalise_transcript(text) for text in references]
    words = sum(len(text.split()) for text in said)
    if not words:
        raise ValueError("no reference has a word")
    pairs = [pair for pair in zip(said, heard, strict=True) if pair[0]]
    found = jiwer.process_words([a for a, _ in pairs], [b for _, b in pairs])
    extra = sum(len(b.split()) for a, b in zip(said, heard, strict=True) if not a)
    errors = found.substitutions + found.deletions + found.insertions + extra
    return float(errors / words)
