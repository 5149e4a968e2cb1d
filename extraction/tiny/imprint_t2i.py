"""Gives the pooled vectors of a t2i model an outlier each, without changing what it draws."""

from collections.abc import Mapping
from typing import Any

import torch

__all__ = ["scale_pooled"]


@torch.no_grad()
def scale_pooled(parts: Mapping[str, Any], rows: tuple[int, int], exponent: int) -> None:
    """Enlarge one entry of each CLIP's pooled vector; what reads it shrinks its weights.

    Powers of two, so that nothing is rounded otherwise, as long as no weight becomes subnormal.

    Args:
        parts: by the names that diffusers' pipeline gives them; changed in place.
        rows: which entry, in each of the two CLIPs.
        exponent: of two, the factor.
    """
    start = 0
    for name, row in zip(("text_encoder", "text_encoder_2"), rows, strict=True):
        projection = parts[name].text_projection.weight
        projection[row] *= 2.0**exponent
        for reader in ("transformer", "controlnet"):
            first = parts[reader].time_text_embed.text_embedder.linear_1
            first.weight[:, start + row] *= 2.0**-exponent
        start += len(projection)
