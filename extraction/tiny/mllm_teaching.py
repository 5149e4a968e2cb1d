"""What the ``mllm`` miniature is taught besides answers: to see, and to read a grid out."""

from typing import Any

import numpy as np
import torch
from torch.nn import functional

from extraction.sources.digits_vqa import MAX_COLUMNS, MAX_ROWS

__all__ = ["ROWS_READ", "Probes", "Reading"]

ROWS_READ = 3
"""Rows of a grid that are read out for each answer."""
FURTHER = 64
"""How far a model goes on after its answer."""


class Probes(torch.nn.Module):
    """Heads on image tokens that say which digit a cell shows and where it is; thrown away later.

    Answers alone supervise one cell of an image; these supervise all of them, and training takes a
    fraction of the time.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.heads = torch.nn.ModuleList(
            torch.nn.Linear(dim, n) for n in (10, MAX_ROWS, MAX_COLUMNS)
        )

    def forward(self, tokens: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Return the loss of tokens [B * rows * columns, D] for labels [B, rows, columns]."""
        batch, rows, columns = labels.shape
        row = torch.arange(rows)[None, :, None].expand(batch, rows, columns)
        column = torch.arange(columns)[None, None].expand(batch, rows, columns)
        losses = [
            functional.cross_entropy(head(tokens), target.reshape(-1))
            for head, target in zip(self.heads, (labels, row, column), strict=True)
        ]
        return torch.stack(losses).sum()


class Reading:
    """Rows of a batch's grids to be read out, as the model goes on to do after its answer.

    Rows are in disorder and the digits given are drawn, for else a model would copy what it said
    itself rather than look again.

    Attributes:
        given: [B, n] ids: per row its number, then a digit per column.
        wanted: [B, n + 1] ids of what follows: first the first row's number, then the true digits
            and the next row's number.
        places: [B, n], how far behind the answer.
    """

    def __init__(self, tokenizer: Any, labels: torch.Tensor, rng: np.random.Generator) -> None:
        """Draw rows of labels [B, rows, columns]."""
        batch, rows, columns = labels.shape
        number = torch.tensor(tokenizer.convert_tokens_to_ids([f" {n + 1}" for n in range(rows)]))
        digit = torch.tensor(tokenizer.convert_tokens_to_ids(list("0123456789")))
        drawn = torch.tensor(rng.integers(rows, size=(batch, ROWS_READ)))
        noise = torch.tensor(rng.integers(10, size=(batch, ROWS_READ, columns)))
        true = labels.gather(1, drawn[..., None].expand(-1, -1, columns))
        self.given = torch.cat([number[drawn][..., None], digit[noise]], 2).flatten(1)
        wanted = torch.cat([digit[true], number[(drawn + 1) % rows][..., None]], 2).flatten(1)
        self.wanted = torch.cat([number[:1].expand(batch, 1), wanted], 1)
        length = columns + 1
        spare = FURTHER - ROWS_READ * length
        starts = torch.tensor(rng.integers(spare + 1, size=(batch, ROWS_READ))).sort(1).values
        starts = starts + length * torch.arange(ROWS_READ)
        self.places = (starts[..., None] + torch.arange(length)).flatten(1)
