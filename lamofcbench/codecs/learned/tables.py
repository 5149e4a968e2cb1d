"""The integer tables of a network's coder: made of its weights, and told apart by a checksum."""

import functools
from typing import Any

import google_crc32c
import torch

from lamofcbench.codecs.learned.library import library

__all__ = ["TABLES", "tables_sum", "update_tables"]

TABLES = ("_offset", "_quantized_cdf", "_cdf_length", "scale_table")
"""Buffers that `update_tables` makes of the weights."""


@functools.cache
def _gaussian_tables() -> dict[str, torch.Tensor]:
    """The coder's tables of normal distributions, which are the same for all networks."""
    model = library().entropy_models.GaussianConditional(None)
    model.update_scale_table(library().models.base.get_scale_table(), force=True)
    return {name: getattr(model, name) for name in TABLES}


def update_tables(network: Any) -> None:
    """Make the integer tables of a network's coder."""
    models = library().entropy_models
    for module in network.modules():
        if isinstance(module, models.EntropyBottleneck):
            module.update(force=True)
        elif isinstance(module, models.GaussianConditional):
            for name, table in _gaussian_tables().items():
                setattr(module, name, table.clone())


def tables_sum(network: Any) -> str:
    """A checksum over the coder's integer tables."""
    check = 0
    for name, buffer in network.named_buffers():
        if name.rpartition(".")[2] in TABLES[:3]:
            data = buffer.numpy().astype("<i4").tobytes()
            check = google_crc32c.extend(check, data)
    return f"{check:08x}"
