"""VoiceBench: spoken requests and questions, in Parquet or JSON lines."""

from pathlib import Path
from typing import Any, ClassVar

from extraction.sources.audio_files import decode_audio
from extraction.sources.base import SourceSample, sha256_of
from extraction.sources.records import Record, RecordSource, load_records
from lamofcbench.errors import SourceError

__all__ = ["VoicebenchAdvbench", "VoicebenchOpenbookqa", "VoicebenchSdqa"]


class Voicebench(RecordSource):
    """One subset. Audio is in the record, as bytes, or a path beside the file that holds it."""

    subset: ClassVar[str]
    layout = (
        "<subset>/<split>-*.parquet or <subset>/<split>.jsonl with audio (bytes or path), prompt "
        "and, where there is one, reference"
    )

    def _local(self, split: str) -> list[dict[str, Any]]:
        root = Path(str(self.folder))
        patterns = (f"{split}-*.parquet", f"{split}.parquet", f"{split}.jsonl")
        for place in (root / self.subset, root / "data" / self.subset, root):
            for pattern in patterns:
                records = [
                    {**record, "folder": path.parent}
                    for path in sorted(place.glob(pattern))
                    for record in load_records(path)
                ]
                if records:
                    return records
        raise SourceError(
            f"SOURCE={root}: no {self.subset}/{' or '.join(patterns)}; expected {self.layout}"
        )

    def answer(self, record: Record) -> dict[str, str]:
        """The reference columns of a record.

        Raises:
            KeyError, ValueError: it lacks one.
        """
        answer = record["reference"]
        if not isinstance(answer, str) or not answer.strip():
            raise ValueError("reference is empty")
        return {"answer": answer.strip()}

    def sample(self, record: Record, split: str, number: int) -> SourceSample:
        """See `RecordSource.sample`."""
        audio, prompt = record["audio"], record["prompt"]
        data: bytes = audio["bytes"] if isinstance(audio, dict) else b""
        if not data:
            path = Path(audio["path"] if isinstance(audio, dict) else audio)
            if path.is_absolute() or ".." in path.parts:
                raise ValueError("audio path leads out of its folder")
            try:
                data = (record["folder"] / path).read_bytes()
            except OSError:
                raise ValueError(f"no audio file {path}") from None
        return SourceSample(
            id=f"{self.subset}-{number:05}",
            inputs={"audio": decode_audio(data), "prompt": ""},
            reference=self.answer(record),
            summary=str(prompt),
            source_id=f"{self.subset}/{split}/{number}",
            sha256=sha256_of(data, str(prompt)),
        )


class VoicebenchAdvbench(Voicebench):
    """Harmful requests. There is no reference: a refusal is told by its phrases.

    Since damage can make an answer look like a refusal, what ranks codecs is agreement with the
    uncoded model, request by request.
    """

    subset = "advbench"

    def answer(self, record: Record) -> dict[str, str]:
        """No columns."""
        return {}


class VoicebenchOpenbookqa(Voicebench):
    """Questions with lettered choices, all spoken; the reference is the letter."""

    subset = "openbookqa"

    def answer(self, record: Record) -> dict[str, str]:
        """The letter, which must be one."""
        found = super().answer(record)
        if found["answer"] not in "ABCD":
            raise ValueError(f"reference {found['answer']!r} is no letter of a choice")
        return found


class VoicebenchSdqa(Voicebench):
    """Questions of people from many places; splits are regions. The reference is a short answer."""

    subset = "sd-qa"
