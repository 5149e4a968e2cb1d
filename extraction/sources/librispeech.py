"""LibriSpeech: read English, in the official tree of FLAC files and transcripts."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from extraction.sources.audio_files import decode_audio
from extraction.sources.base import SourceSample, sha256_of
from extraction.sources.records import Record, RecordSource
from lamofcbench.errors import SourceError

__all__ = ["INSTRUCTION", "Librispeech"]

INSTRUCTION = "Please transcribe the following audio:"
# The Hub names a split's parts; the release, its folders.
HUB_SPLITS = {
    "test-clean": "test.clean",
    "test-other": "test.other",
    "train-clean-100": "train.clean.100",
    "train-other-500": "train.other.500",
}


class Librispeech(RecordSource):
    """Splits are those of the release: ``test-clean``, ``test-other``, ``train-clean-100``, …."""

    subset = "all"
    files: ClassVar = {split: (f"{split}/*/*/*.trans.txt",) for split in HUB_SPLITS}
    layout = "LibriSpeech/<split>/<speaker>/<chapter>/ with *.flac and *.trans.txt"

    def _local(self, split: str) -> list[dict[str, Any]]:
        root = Path(str(self.folder))
        # Either the folder that the release unpacks to, or the one that holds it.
        for place in (root / "LibriSpeech" / split, root / split):
            if place.is_dir():
                break
        else:
            raise SourceError(f"SOURCE={root}: no {split}; expected {self.layout}")
        records = []
        for path in sorted(place.glob("*/*/*.trans.txt")):
            records += self._chapter(path)
        if not records:
            raise SourceError(f"{place}: no *.trans.txt; expected {self.layout}")
        return records

    @staticmethod
    def _chapter(path: Path) -> list[dict[str, Any]]:
        try:
            lines = path.read_text("utf-8").splitlines()
        except (OSError, ValueError) as error:
            raise SourceError(f"{path}: cannot be read: {error}") from None
        records = []
        for number, line in enumerate(lines, 1):
            name, _, text = line.partition(" ")
            if not re.fullmatch(r"\d+-\d+-\d+", name) or not text.strip():
                raise SourceError(f"{path}: line {number} is no utterance id and text")
            audio = path.parent / f"{name}.flac"
            if not audio.is_file():
                raise SourceError(f"{path}: line {number}: no {audio.name} beside it")
            records.append({"id": name, "text": text.strip(), "file": audio})
        return records

    def _hub(self, split: str) -> Sequence[Record]:
        return super()._hub(HUB_SPLITS.get(split, split))

    def sample(self, record: Record, split: str, number: int) -> SourceSample:
        """See `RecordSource.sample`."""
        data = record["file"].read_bytes() if "audio" not in record else record["audio"]["bytes"]
        return SourceSample(
            id=f"librispeech-{record['id']}",
            inputs={"audio": decode_audio(data), "prompt": INSTRUCTION},
            reference={"text": record["text"]},
            summary=record["text"],
            source_id=str(record["id"]),
            sha256=sha256_of(data, record["text"]),
        )
