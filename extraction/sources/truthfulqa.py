"""TruthfulQA, multiple choice with one true answer (MC1)."""

from typing import ClassVar

import numpy as np

from extraction.sources.base import SourceSample
from extraction.sources.records import (
    ASSISTANT_PREFIX,
    LETTERS,
    Record,
    RecordSource,
    choice_prompt,
)

__all__ = ["Truthfulqa"]


class Truthfulqa(RecordSource):
    """The data set lists the true answer first, so choices are shuffled by the recorded seed."""

    subset = "multiple_choice"
    files: ClassVar = {"validation": ("mc_task.json", "**/validation-*.parquet")}
    layout = "mc_task.json or validation-*.parquet with question and mc1_targets"

    def sample(self, record: Record, split: str, number: int) -> SourceSample:
        """See `RecordSource.sample`."""
        question, targets = record["question"], record["mc1_targets"]
        if "choices" in targets:
            pairs = list(zip(targets["choices"], targets["labels"], strict=True))
        else:
            pairs = list(targets.items())
        order = np.random.RandomState([self.profile.source.seed, number]).permutation(len(pairs))
        texts = [pairs[i][0] for i in order]
        gold = [int(pairs[i][1]) for i in order].index(1)
        return SourceSample(
            id=f"truthfulqa-{number:04}",
            inputs={"prompt": choice_prompt(question, texts), "prefix": ASSISTANT_PREFIX},
            reference={"answer": LETTERS[gold]},
            summary=question,
            source_id=str(number),
            sha256=self.digest(record),
        )
