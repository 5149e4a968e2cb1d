"""What every data source offers: samples in a fixed order, each with its reference and its hash."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lamofcbench.spec import ProfileSpec

__all__ = ["Source", "SourceSample", "sha256_of"]


@dataclass(frozen=True)
class SourceSample:
    """One sample as its source gives it.

    Attributes:
        id: unique within the config, the same in every run.
        inputs: what the family's front half takes, raw.
        reference: a value per declared reference column (and array).
        summary: one line that tells a reader what the input is.
        source_id: which record of the source it is.
        sha256: of the source's bytes that it came from.
    """

    id: str
    inputs: dict[str, Any]
    reference: dict[str, Any]
    summary: str
    source_id: str
    sha256: str


class Source(ABC):
    """A data set; the same declaration and seed always give the same samples in the same order."""

    def __init__(self, profile: ProfileSpec, folder: Path | None = None) -> None:
        """Open the data set that a profile declares.

        Args:
            profile: the declaration.
            folder: a local copy in the data set's own official layout, where it has one.

        Raises:
            SourceError: the data is missing or malformed.
        """
        self.profile = profile
        self.folder = folder

    @classmethod
    def fitted(cls, profile: ProfileSpec, folder: Path | None) -> ProfileSpec:
        """Bring a declaration to what a local copy holds, before anything is asked for.

        Args:
            profile: the declaration.
            folder: the local copy, if there is one.

        Returns:
            The declaration to run, and to record: unchanged by default.
        """
        return profile

    @abstractmethod
    def select(self, split: str, count: int) -> Sequence[SourceSample]:
        """Choose ``count`` samples of a split; splits are disjoint.

        The first ``n`` of a larger count are the samples of count ``n``. The sequence may make its
        samples lazily, when they are indexed.

        Raises:
            SourceError: the source has fewer samples than that.
        """


def sha256_of(*parts: bytes | str) -> str:
    """Hex sha256 over parts, each preceded by its length so that they cannot run together."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "little") + data)
    return digest.hexdigest()
