"""ARC-Challenge: grade-school science questions with three to five choices."""

from typing import ClassVar

from extraction.sources.base import SourceSample
from extraction.sources.records import (
    ASSISTANT_PREFIX,
    LETTERS,
    Record,
    RecordSource,
    choice_prompt,
)

__all__ = ["Arc"]


class Arc(RecordSource):
    """Choices are lettered anew, since some questions number theirs."""

    subset = "ARC-Challenge"
    files: ClassVar = {
        "test": ("**/test-*.parquet", "**/ARC-Challenge-Test.jsonl"),
        "train": ("**/train-*.parquet", "**/ARC-Challenge-Train.jsonl"),
    }
    layout = "ARC-Challenge-Test.jsonl or test-*.parquet with id, question, choices and answerKey"

    def sample(self, record: Record, split: str, number: int) -> SourceSample:
        """See `RecordSource.sample`."""
        question, choices = record["question"], record.get("choices")
        if isinstance(question, dict):
            # The release's own files nest the choices and pair each with its label.
            question, nested = question["stem"], question["choices"]
            texts, labels = [c["text"] for c in nested], [c["label"] for c in nested]
        else:
            texts, labels = list(choices["text"]), list(choices["label"])
        gold = labels.index(record["answerKey"])
        return SourceSample(
            id=f"arc-{record['id']}",
            inputs={"prompt": choice_prompt(question, texts), "prefix": ASSISTANT_PREFIX},
            reference={"answer": LETTERS[gold]},
            summary=question,
            source_id=str(record["id"]),
            sha256=self.digest(record),
        )
