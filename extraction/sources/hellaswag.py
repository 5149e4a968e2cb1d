"""HellaSwag: which of four endings follows."""

from typing import ClassVar

from extraction.sources.base import SourceSample
from extraction.sources.records import (
    ASSISTANT_PREFIX,
    LETTERS,
    Record,
    RecordSource,
    choice_prompt,
)

__all__ = ["Hellaswag"]


class Hellaswag(RecordSource):
    """The test split's labels are withheld, so the validation split is the one that is scored."""

    files: ClassVar = {
        "validation": ("hellaswag_val.jsonl", "**/validation-*.parquet"),
        "train": ("hellaswag_train.jsonl", "**/train-*.parquet"),
    }
    layout = "hellaswag_val.jsonl or validation-*.parquet with ctx, endings and label"

    def sample(self, record: Record, split: str, number: int) -> SourceSample:
        """See `RecordSource.sample`."""
        context, endings = record["ctx"], list(record["endings"])
        question = f"{record['activity_label']}: {context}\nWhich ending follows?"
        if not 0 <= (gold := int(record["label"])) < len(endings):
            raise ValueError(f"label {gold} of {len(endings)} endings")
        return SourceSample(
            id=f"hellaswag-{split}-{number:05}",
            inputs={"prompt": choice_prompt(question, endings), "prefix": ASSISTANT_PREFIX},
            reference={"answer": LETTERS[gold]},
            summary=context,
            source_id=str(record.get("source_id", number)),
            sha256=self.digest(record),
        )
