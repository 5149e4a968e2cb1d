"""Batches of ragged samples."""

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn.functional import pad

__all__ = ["collate"]


def collate(batch: Sequence[dict[str, Any]], *, padded: bool = True) -> dict[str, Any]:
    """Make one batch of several samples; a ``collate_fn`` for `torch.utils.data.DataLoader`.

    Args:
        batch: items of a `FeatureDataset`.
        padded: whether to stack tensors, with zeros up to the longest along each axis; otherwise
            each stays a list of tensors.

    Returns:
        ``id`` (list), ``index`` (int64 [B]), ``lengths`` (int64 [B] per ragged axis: what is not
        padding), ``features`` and ``context`` (per name a tensor [B, ...] or a list), and
        ``reference`` (per name a tensor, where all are numbers or tensors, or a list).
    """

    def join(values: list[Any]) -> Any:
        return _stack(values) if padded else values

    first = batch[0]
    return {
        "id": [item["id"] for item in batch],
        "index": torch.tensor([item["index"] for item in batch]),
        "lengths": {
            axis: torch.tensor([item["lengths"][axis] for item in batch])
            for axis in first["lengths"]
        },
        **{
            part: {name: join([item[part][name] for item in batch]) for name in first[part]}
            for part in ("features", "context", "reference")
        },
    }


def _stack(values: list[Any]) -> Any:
    if all(isinstance(value, (int, float)) for value in values):
        return torch.tensor(values)
    if not all(isinstance(value, torch.Tensor) for value in values):
        return values
    sizes = [max(sizes) for sizes in zip(*(value.shape for value in values), strict=True)]
    return torch.stack(
        [
            # pad() counts axes from the last, before and after each.
            pad(
                value,
                [n for d in range(value.ndim)[::-1] for n in (0, sizes[d] - value.shape[d])],
            )
            for value in values
        ]
    )
