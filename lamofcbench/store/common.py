"""What all samples of a store have in common, gathered while they are written."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

__all__ = ["CommonParts", "common_constants", "common_prefix"]


def common_prefix(sequences: Iterable[Sequence[int] | None]) -> list[int] | None:
    """Leading numbers that all sequences share; None stands for a sequence that has no say."""
    shared: list[int] | None = None
    for sequence in sequences:
        if sequence is None:
            continue
        if shared is None:
            shared = list(sequence)
            continue
        length = next(
            (i for i, pair in enumerate(zip(shared, sequence, strict=False)) if pair[0] != pair[1]),
            min(len(shared), len(sequence)),
        )
        shared = shared[:length]
    return shared


def common_constants(shards: Iterable[Mapping[str, str] | None]) -> list[str]:
    """Keys that are constant with the same hash in all shards; None stands for an empty shard."""
    counted = [shard for shard in shards if shard is not None]
    if not counted:
        return []
    first, *rest = counted
    return [key for key, value in first.items() if all(s.get(key) == value for s in rest)]


class CommonParts:
    """Collects, over the samples of a shard, the token prefix and the constant keys.

    Keeps a hash per key that has been constant so far, so it costs next to nothing where keys vary.
    """

    def __init__(self) -> None:
        """Start without samples."""
        self.prefix: list[int] | None = None
        self.constants: dict[str, str] | None = None

    def add(self, features: Mapping[str, Any], token_ids: Sequence[int] | None) -> None:
        """Take one sample's features, in stored order, and its prompt's token ids if it has any."""
        self.prefix = common_prefix([self.prefix, token_ids])
        if self.constants is None:
            self.constants = {key: _digest(array) for key, array in features.items()}
        else:
            self.constants = {
                key: value
                for key, value in self.constants.items()
                if _digest(features[key]) == value
            }


def _digest(array: Any) -> str:
    digest = hashlib.sha256(repr(array.shape).encode())
    digest.update(np.ascontiguousarray(array).view(np.uint8).data)
    return digest.hexdigest()
