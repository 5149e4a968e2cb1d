"""What the segmentation and the depth head have in common: making them from a file."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar, Self

import torch
from torch import nn

from lamofcbench.errors import ModelError

__all__ = ["DenseHead"]


class DenseHead(nn.Module, ABC):
    """A head that maps the levels of a backbone to a map.

    Attributes:
        file: the file that holds its weights, beside the backbone's.
    """

    file: ClassVar[str]
    sized_by: ClassVar[str] = "levels.weights.0"

    def __init__(self, dim: int, levels: int, channels: int, fine: int, prefix: int) -> None:
        """Make it with random weights; see `LevelSum` for the arguments."""
        super().__init__()

    @classmethod
    @abstractmethod
    def layout(cls, dim: int, levels: int) -> str:
        """Say in one line what the file must hold."""

    @classmethod
    def from_tensors(
        cls, tensors: Mapping[str, torch.Tensor], dim: int, levels: int, prefix: int
    ) -> Self:
        """Make the head from its file's tensors.

        Args:
            tensors: by name.
            dim: width of the backbone.
            levels: how many levels it reads.
            prefix: tokens before the patch tokens.

        Raises:
            ModelError: they are not as `layout` says.
        """
        first = tensors.get(cls.sized_by)
        needs = f"needs {cls.layout(dim, levels)}"
        if first is None or first.ndim != 4 or first.shape[1] != first.shape[2]:
            raise ModelError(f"{cls.file} has no {cls.sized_by} of four axes; {needs}")
        head = cls(dim, levels, first.shape[0], first.shape[1], prefix)
        expected = {name: value.shape for name, value in head.state_dict().items()}
        found = {name: value.shape for name, value in tensors.items()}
        wrong = sorted(name for name in expected | found if expected.get(name) != found.get(name))
        if wrong:
            raise ModelError(
                f"{cls.file} does not fit in {len(wrong)} tensors, such as {wrong[0]}; {needs}"
            )
        head.load_state_dict(dict(tensors), assign=True)
        return head
