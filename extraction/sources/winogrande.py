"""WinoGrande: which of two names fills the blank."""

from typing import ClassVar

from extraction.sources.base import SourceSample
from extraction.sources.records import (
    ASSISTANT_PREFIX,
    LETTERS,
    Record,
    RecordSource,
    choice_prompt,
)

__all__ = ["Winogrande"]


class Winogrande(RecordSource):
    """The test split's answers are withheld, so the validation split is the one that is scored."""

    subset = "winogrande_xl"
    files: ClassVar = {
        "validation": ("**/dev.jsonl", "**/winogrande_xl/validation-*.parquet"),
        "train": ("**/train_xl.jsonl", "**/winogrande_xl/train-*.parquet"),
    }
    layout = "dev.jsonl or winogrande_xl/validation-*.parquet with sentence, options and answer"

    def sample(self, record: Record, split: str, number: int) -> SourceSample:
        """See `RecordSource.sample`."""
        sentence, options = record["sentence"], [record["option1"], record["option2"]]
        if "_" not in sentence:
            raise ValueError("sentence without a blank")
        gold = ("1", "2").index(str(record["answer"]))
        question = f"{sentence}\nWhat fills the blank?"
        return SourceSample(
            id=f"winogrande-{split}-{number:05}",
            inputs={"prompt": choice_prompt(question, options), "prefix": ASSISTANT_PREFIX},
            reference={"answer": LETTERS[gold]},
            summary=sentence,
            source_id=str(record.get("qID", number)),
            sha256=self.digest(record),
        )
