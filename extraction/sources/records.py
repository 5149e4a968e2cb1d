"""Data sets that are tables of records: Parquet, JSON lines or JSON, in a folder or on the Hub."""

import json
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from extraction.sources.base import Source, SourceSample, sha256_of
from lamofcbench.atomic import canonical_json
from lamofcbench.errors import SourceError
from lamofcbench.optional import require
from lamofcbench.spec import ProfileSpec

__all__ = ["ASSISTANT_PREFIX", "LETTERS", "RecordSource", "choice_prompt", "load_records"]

Record = Mapping[str, Any]

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
ASSISTANT_PREFIX = "The best answer is"
"""How the assistant's turn begins in the multiple-choice tasks."""


def choice_prompt(question: str, choices: Sequence[str]) -> str:
    """A question and its choices, lettered, as one user turn."""
    lines = [f"{letter}. {choice}" for letter, choice in zip(LETTERS, choices, strict=False)]
    return "\n".join([question, *lines, "Answer with the letter of the best choice."])


def load_records(path: Path) -> Iterator[dict[str, Any]]:
    """Read the records of one ``.parquet``, ``.jsonl`` or ``.json`` file.

    Raises:
        SourceError: it cannot be read, or holds something else.
    """
    if path.suffix == ".parquet":
        import pyarrow as pa

        from lamofcbench.store.tables import read_parquet

        try:
            yield from read_parquet(path).to_pylist()
        except (OSError, pa.ArrowException) as error:
            reason = str(error).splitlines()[0]
            raise SourceError(f"{path}: not a whole Parquet file: {reason}") from None
        return
    try:
        text = path.read_text("utf-8")
        if path.suffix == ".json":
            whole = json.loads(text)
            lines = list(enumerate(whole if isinstance(whole, list) else [whole], 1))
        else:
            lines = [(n, json.loads(s)) for n, s in enumerate(text.splitlines(), 1) if s.strip()]
    except (OSError, ValueError) as error:
        raise SourceError(f"{path}: not JSON: {str(error).splitlines()[0]}") from None
    for number, record in lines:
        if not isinstance(record, dict):
            raise SourceError(f"{path}: record {number} is not an object")
        yield record


class RecordSource(Source):
    """A data set of records; a subclass says which files hold them and how one becomes a sample.

    Attributes:
        subset: the Hub data set's configuration.
        files: glob patterns per split of the source, tried in order, for a local copy.
        layout: one phrase about the local layout, for messages.
    """

    subset: ClassVar[str | None] = None
    files: ClassVar[Mapping[str, Sequence[str]]]
    layout: ClassVar[str]

    def __init__(self, profile: ProfileSpec, folder: Path | None = None) -> None:
        """Remember where the records are; they are read when samples are selected."""
        super().__init__(profile, folder)
        if folder is not None and not folder.is_dir():
            raise SourceError(f"SOURCE={folder}: no such folder")
        self._records: dict[str, Sequence[Record]] = {}

    @classmethod
    def fitted(cls, profile: ProfileSpec, folder: Path | None) -> ProfileSpec:
        """A local copy without the split for calibration gives the end of the other's order."""
        spec = profile.source
        if folder is None or cls._has(folder, spec.calibration_split):
            return profile
        selection = f"{spec.selection}; calibration from its end, for lack of another split"
        changed = spec.model_copy(update={"calibration_split": spec.split, "selection": selection})
        return profile.model_copy(update={"source": changed})

    @classmethod
    def _has(cls, folder: Path, split: str) -> bool:
        patterns = cls.files.get(split, ())
        return any(next(folder.glob(pattern), None) is not None for pattern in patterns)

    @abstractmethod
    def sample(self, record: Record, split: str, number: int) -> SourceSample:
        """Turn record ``number`` of a split of the source into a sample.

        Raises:
            KeyError, TypeError, ValueError, IndexError: the record lacks what it needs.
        """

    def select(self, split: str, count: int) -> Sequence[SourceSample]:
        """Choose samples in an order that the seed draws once; see `Source.select`.

        Where calibration comes from the same split of the source, it takes the end of that order.
        """
        spec = self.profile.source
        wanted = spec.calibration_split if split == "calibration" else spec.split
        shared = spec.calibration_split == spec.split
        records = self._load(wanted)
        order = np.random.RandomState(spec.seed).permutation(len(records))
        if split == "train":
            raise SourceError(f"{spec.id}: no split for training codecs is declared")
        if split == "calibration" and shared:
            order = order[::-1]
        kept = self.profile.samples.calibration if shared and split == "test" else 0
        room = len(records) - kept
        if count > room:
            raise SourceError(
                f"{spec.id}: {wanted} has {room} samples for {split}, {count} were asked for"
            )
        chosen = [int(number) for number in order[:count]]
        return [self._checked(records[number], number, wanted) for number in chosen]

    def _checked(self, record: Record, number: int, split: str) -> SourceSample:
        try:
            return self.sample(record, split, number)
        except (KeyError, TypeError, ValueError, IndexError) as error:
            where = self.folder or self.profile.source.id
            raise SourceError(
                f"{where}: record {number} of {split} is malformed: "
                f"{type(error).__name__} {error}; expected {self.layout}"
            ) from None

    def _load(self, split: str) -> Sequence[Record]:
        if split not in self._records:
            found = self._local(split) if self.folder is not None else self._hub(split)
            self._records[split] = found
        return self._records[split]

    def _local(self, split: str) -> list[dict[str, Any]]:
        folder = self.folder
        if folder is None or split not in self.files:
            raise SourceError(f"{self.profile.source.id}: no split {split!r}")
        for pattern in self.files[split]:
            if paths := sorted(folder.glob(pattern)):
                records = [record for path in paths for record in load_records(path)]
                if not records:
                    raise SourceError(f"{paths[0]}: holds no records")
                return records
        raise SourceError(
            f"SOURCE={folder}: no {' or '.join(self.files[split])}; expected {self.layout}"
        )

    def _hub(self, split: str) -> Sequence[Record]:
        datasets = require("datasets", "interop")
        spec = self.profile.source
        try:
            table = datasets.load_dataset(spec.id, self.subset, split=split, revision=spec.revision)
        except Exception as error:  # whatever the network and the Hub may raise
            reason = next(iter(str(error).splitlines()), type(error).__name__)
            raise SourceError(
                f"{spec.id}: cannot be fetched ({reason}). Check the network and the data set's "
                "terms, or name a local copy: SOURCE=dir"
            ) from None
        for name, feature in table.features.items():
            if isinstance(feature, datasets.Audio):
                # Its own decoder is another dependency; the file's bytes are what is hashed, too.
                table = table.cast_column(name, datasets.Audio(decode=False))
        return table

    @staticmethod
    def digest(record: Record) -> str:
        """Sha256 of a record."""
        return sha256_of(canonical_json(record))
