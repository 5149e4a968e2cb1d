"""Base of codecs that need an artefact: what was fitted, by key and field."""

import math
from abc import abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from lamofcbench.bitstream import Coded
from lamofcbench.codecs.artefact import Artefact
from lamofcbench.codecs.base import Axes, Codec, Features
from lamofcbench.codecs.rows import rows_shape, to_rows
from lamofcbench.errors import BitstreamError, SampleError

__all__ = ["FittedCodec", "calibration_rows", "even_choice"]

MOST_ROWS = 4096
"""First rows of a calibration sample that are looked at: no cache has more."""


class FittedCodec(Codec):
    """A codec whose artefact has tensors named ``key/field``.

    Attributes:
        fit_parameters: the parameters that an artefact depends on; it repeats them.
    """

    fitted = True
    fit_parameters: ClassVar[tuple[str, ...]] = ()
    _held: Artefact | None = None

    def hold(self, artefact: Artefact | None) -> None:
        """Take an artefact, which must have been fitted for this codec and its parameters.

        Raises:
            SampleError: it was not.
        """
        if artefact is None:
            return
        if artefact.codec != self.name:
            raise SampleError(f"the artefact was fitted for {artefact.codec}, not for {self.name}")
        for name in self.fit_parameters:
            own, other = self.parameters[name], artefact.about.get(name)
            if own != other:
                raise SampleError(f"the artefact was fitted with {name}={other}, not {name}={own}")
        self._held = artefact
        self.artefact = artefact.sha256

    def make_artefact(self, fields: dict[str, NDArray[Any]]) -> Artefact:
        """An artefact of tensors by ``key/field``."""
        about = {name: self.parameters[name] for name in self.fit_parameters}
        return Artefact.make(self.name, fields, about)

    def field(self, key: str, name: str, shape: Sequence[int | None] = ()) -> NDArray[np.float64]:
        """A tensor of the artefact.

        Args:
            key: of the feature.
            name: of the field.
            shape: that it must have, None for any size.

        Raises:
            BitstreamError: there is no artefact.
            SampleError: it was not fitted for the key, or for another shape of it.
        """
        if self._held is None:
            raise BitstreamError(f"{self.name} needs its artefact: name it with --artefact")
        found = self._held.tensors.get(f"{key}/{name}")
        if found is None:
            raise SampleError(f"{key}: {self.name} was not fitted for it")
        if len(found.shape) != len(shape) or any(
            wanted not in (None, size) for size, wanted in zip(found.shape, shape, strict=True)
        ):
            raise SampleError(f"{key}: {self.name} was fitted for a tensor of other channels")
        return found.astype(np.float64)

    def has(self, key: str, name: str) -> bool:
        """Whether the artefact has a field."""
        return self._held is not None and f"{key}/{name}" in self._held.tensors

    @abstractmethod
    def _decode(self, key: str, part: Coded) -> torch.Tensor:
        """Decode one tensor of an artefact's fields."""

    def decode_tensor(self, key: str, part: Coded) -> torch.Tensor:
        """See `Codec.decode_tensor`."""
        try:
            return self._decode(key, part)
        except SampleError as error:
            raise BitstreamError(f"does not fit its artefact: {error}") from None


def calibration_rows(
    samples: Iterable[Features], axes: Axes
) -> tuple[dict[str, list[NDArray[np.float32]]], dict[str, int]]:
    """Rows x channels of every calibration sample, and the size of a head, by key.

    Raises:
        SampleError: a value is not finite.
    """
    rows: dict[str, list[NDArray[np.float32]]] = {}
    heads: dict[str, int] = {}
    for sample in samples:
        for key, tensor in sample.items():
            values = tensor.detach().cpu()
            if not torch.isfinite(values).all():
                raise SampleError(f"{key}: cannot be fitted to values that are not finite")
            found = to_rows(values, axes[key])[:MOST_ROWS].astype(np.float32)
            rows.setdefault(key, []).append(found)
            sizes = dict(zip(axes[key], values.shape, strict=True))
            heads[key] = int(sizes.get("dim", rows_shape(values.shape, axes[key])[1]))
    return rows, heads


def even_choice(rows: NDArray[Any], most: int) -> NDArray[Any]:
    """About ``most`` values of rows x channels, flat, of all channels alike."""
    step = max(1, rows.size // max(most, 1))
    # A step that shares a factor with the channels would miss some of them.
    while math.gcd(step, rows.shape[-1]) > 1:
        step += 1
    return rows.ravel()[::step]
