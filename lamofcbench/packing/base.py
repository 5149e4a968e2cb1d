"""What every packing offers: a tensor to a plane and back, from its shape alone."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

__all__ = ["Packing", "Shape"]

Shape = tuple[int, ...]


class Packing(ABC):
    """A way to lay a tensor out as one plane.

    Attributes:
        name: as in bitstreams and results.
    """

    name: ClassVar[str]

    @abstractmethod
    def takes(self, axes: Sequence[str]) -> bool:
        """Whether this is the usual layout of tensors with these axes."""

    @abstractmethod
    def size(self, shape: Shape) -> tuple[int, int]:
        """Height and width of the plane of a tensor."""

    @abstractmethod
    def _pack(self, array: NDArray[Any]) -> NDArray[Any]:
        """Lay out; the plane may be short of entries at its end."""

    @abstractmethod
    def _unpack(self, plane: NDArray[Any], shape: Shape) -> NDArray[Any]:
        """Undo `_pack`."""

    def pack(self, array: NDArray[Any]) -> NDArray[Any]:
        """Lay a tensor out.

        Args:
            array: any dtype, in the model's own layout, without a batch axis.

        Returns:
            A plane [height, width] of the same dtype; what the tensor doesn't fill is 0.
        """
        plane = self._pack(np.asarray(array))
        return np.ascontiguousarray(plane)

    def unpack(self, plane: NDArray[Any], shape: Shape) -> NDArray[Any]:
        """Take a tensor out of its plane.

        Args:
            plane: [height, width], as `size` says for the shape.
            shape: the tensor's.

        Raises:
            ValueError: the plane is of another size.
        """
        if plane.shape != self.size(shape):
            raise ValueError(
                f"a plane of {plane.shape}; {list(shape)} as {self.name} has {self.size(shape)}"
            )
        return np.ascontiguousarray(self._unpack(plane, shape))
