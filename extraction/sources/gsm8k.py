"""GSM8K: grade-school arithmetic in words."""

from typing import ClassVar

from extraction.sources.base import SourceSample
from extraction.sources.records import Record, RecordSource

__all__ = ["Gsm8k"]


class Gsm8k(RecordSource):
    """The reference is the number after ``####``."""

    subset = "main"
    files: ClassVar = {
        "test": ("test.jsonl", "**/main/test-*.parquet", "test-*.parquet"),
        "train": ("train.jsonl", "**/main/train-*.parquet", "train-*.parquet"),
    }
    layout = "test.jsonl or main/test-*.parquet with question and answer"

    def sample(self, record: Record, split: str, number: int) -> SourceSample:
        """See `RecordSource.sample`."""
        question, (_, answer) = record["question"], record["answer"].rsplit("####", 1)
        return SourceSample(
            id=f"gsm8k-{split}-{number:05}",
            inputs={"prompt": question, "prefix": ""},
            reference={"answer": answer.strip().replace(",", "")},
            summary=question,
            source_id=str(number),
            sha256=self.digest(record),
        )
