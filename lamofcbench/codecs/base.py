"""What every codec offers: a sample's tensors to a bitstream, and back from the bytes alone."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Self

import torch

from lamofcbench.bits import dtype_name
from lamofcbench.bitstream import Bitstream, Coded, write_bitstream
from lamofcbench.codecs.artefact import Artefact
from lamofcbench.errors import BitstreamError, SampleError

__all__ = ["Axes", "Codec", "Features", "parameter"]

Features = Mapping[str, torch.Tensor]
Axes = Mapping[str, Sequence[str]]


def parameter(text: str, kind: type, name: str) -> Any:
    """Read one of a codec's parameters.

    Raises:
        SampleError: it is of another kind.
    """
    try:
        return kind(text)
    except ValueError:
        raise SampleError(f"{name}={text!r}: needs {kind.__name__}") from None


class Codec(ABC):
    """A way to make bytes of tensors.

    A codec is made from its parameters, which a bitstream repeats: the decoder is made from those.

    Attributes:
        name: as in bitstreams and results.
        lossless: whether every bit comes back, NaN payloads and signed zeros too.
        fitted: whether it needs an artefact.
        ladder: the parameter that sets the rate, and its values from the lowest rate to the
            highest; None for a codec with one rate.
        trained: whether a calibration set is too little to make that artefact of.
        fits_whole: whether it is fitted to what every decoder holds, too.
        artefact: sha256 of what a decoder must hold besides the bitstream; empty for nothing.
    """

    name: ClassVar[str]
    lossless: ClassVar[bool] = False
    fitted: ClassVar[bool] = False
    ladder: ClassVar[tuple[str, tuple[str, ...]] | None] = None
    trained: ClassVar[bool] = False
    fits_whole: ClassVar[bool] = False
    artefact: bytes = b""

    @classmethod
    @abstractmethod
    def create(cls, parameters: Mapping[str, str], artefact: Artefact | None = None) -> Self:
        """Make a codec.

        Args:
            parameters: by name.
            artefact: what `fit` made, for a codec that is fitted.

        Raises:
            SampleError: a parameter is unknown, missing or out of range.
        """

    def fit(self, samples: Iterable[Features], axes: Axes) -> Artefact:
        """Fit what a decoder must hold to a calibration set.

        Args:
            samples: tensors by key.
            axes: the name of each key's axes.

        Raises:
            SampleError: this codec is not fitted.
        """
        raise SampleError(f"{self.name} is not fitted: it needs no artefact")

    @property
    @abstractmethod
    def parameters(self) -> dict[str, str]:
        """What `create` was given, defaults filled in: all that a decoder must know."""

    @abstractmethod
    def encode_tensor(self, key: str, values: torch.Tensor, axes: Sequence[str]) -> bytes:
        """Code one tensor.

        Args:
            key: its name, for codecs that were fitted by key.
            values: on the CPU, contiguous, finite unless the codec is lossless.
            axes: the name of each axis.
        """

    @abstractmethod
    def decode_tensor(self, key: str, part: Coded) -> torch.Tensor:
        """Decode one tensor: the shape and dtype that the part names.

        Raises:
            BitstreamError: the payload is malformed.
        """

    def string_bytes(self, payload: bytes) -> int | None:
        """Bytes of a payload that an entropy coder made, side information left out.

        The benchmark's published code counts these alone. None where they are not told apart.
        """
        return None

    def encode(self, features: Features, axes: Axes) -> bytes:
        """Code one sample.

        Args:
            features: a tensor per key, in the model's own layout.
            axes: the name of each key's axes.

        Raises:
            SampleError: a lossy codec was given values that are not finite.
        """
        keys = {}
        for key, tensor in features.items():
            values = tensor.detach().cpu().contiguous()
            if not self.lossless and values.is_floating_point() and not values.isfinite().all():
                raise SampleError(f"{key}: {self.name} cannot code values that are not finite")
            payload = self.encode_tensor(key, values, axes[key])
            shape = tuple(values.shape)
            keys[key] = Coded(payload, shape, dtype_name(values), tuple(axes[key]))
        return write_bitstream(Bitstream(self.name, self.parameters, keys, self.artefact))

    def decode(self, stream: Bitstream) -> dict[str, torch.Tensor]:
        """Decode one sample.

        Raises:
            BitstreamError: it was made by another codec, with other parameters or another artefact,
                or a payload is malformed.
        """
        if stream.codec != self.name or dict(stream.parameters) != self.parameters:
            raise BitstreamError(f"was made by {stream.codec}, not as this {self.name}")
        if stream.artefact != self.artefact:
            raise BitstreamError(f"needs another artefact: sha256 {stream.artefact.hex()}")
        features = {}
        for key, part in stream.keys.items():
            found = self.decode_tensor(key, part)
            if tuple(found.shape) != part.shape or dtype_name(found) != part.dtype:
                raise BitstreamError(f"decodes {key} to another shape than it says")
            features[key] = found
        return features
