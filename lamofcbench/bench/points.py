"""What is done to features before the back half sees them: a point of a curve.

A point is any callable that takes a sample's features and returns what a decoder would have made of
them. Codecs are such points; here are those that need no bitstream: nothing, zeroing a key, and
plain quantisers, which serve as a measuring stick.
"""

import urllib.parse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch

from lamofcbench.errors import SampleError, UnknownNameError
from lamofcbench.optional import require
from lamofcbench.quant.affine import GROUPS, Groups, fake_quantise

__all__ = [
    "Contextual",
    "Counting",
    "Decoded",
    "Point",
    "Quantised",
    "Uncoded",
    "Zeroed",
    "checked",
    "decoded_path",
    "parse_quantiser",
]

Features = Mapping[str, torch.Tensor]


class Point(Protocol):
    """Makes of a sample's features what a decoder would."""

    @property
    def name(self) -> str:
        """What it is called in tables, such as ``channel:4``."""

    def __call__(self, sample: str, features: Features) -> Features:
        """Return the decoded features of the sample with this id, all of a mode's keys."""


@runtime_checkable
class Counting(Protocol):
    """A point that counts something itself, such as bits."""

    def numbers(self) -> Mapping[str, Sequence[float]]:
        """The last sample's row for each of its figures."""


@runtime_checkable
class Contextual(Protocol):
    """A point that makes context, too: what sends inputs sends no context of theirs."""

    def context(self) -> Mapping[str, torch.Tensor]:
        """The last sample's, in place of the stored one."""


@dataclass(frozen=True)
class Uncoded:
    """Features as they are stored: what a lossless codec gives."""

    name: str = "uncoded"

    def __call__(self, sample: str, features: Features) -> Features:
        """See `Point`."""
        return features


@dataclass(frozen=True)
class Zeroed:
    """Some keys zeroed: what knocking them out does.

    Attributes:
        keys: which; all if there are none.
    """

    keys: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """See `Point`."""
        return f"zeroed:{','.join(self.keys) or 'all'}"

    def __call__(self, sample: str, features: Features) -> Features:
        """See `Point`."""
        return {
            key: torch.zeros_like(value) if key in (self.keys or features) else value
            for key, value in features.items()
        }


@dataclass(frozen=True)
class Quantised:
    """Every key quantised uniformly between the bounds of each group, then dequantised.

    Attributes:
        axes: of each key, in the model's own layout.
        bits: of a level.
        groups: what shares bounds: a channel, a token or the tensor.
    """

    axes: Mapping[str, Sequence[str]]
    bits: int
    groups: Groups

    @property
    def name(self) -> str:
        """See `Point`."""
        return f"{self.groups}:{self.bits}"

    def __call__(self, sample: str, features: Features) -> Features:
        """See `Point`."""
        return {
            key: fake_quantise(value, self.axes[key], self.bits, self.groups)
            for key, value in features.items()
        }


def parse_quantiser(text: str, axes: Mapping[str, Sequence[str]]) -> list[Quantised]:
    """Make quantisers of ``<groups>:<bits>[,<bits>...]``, such as ``channel:8,6,4``.

    Raises:
        UnknownNameError: no such groups.
        SampleError: bits are no numbers from 1 to 16.
    """
    groups, _, rest = text.partition(":")
    for known in GROUPS:
        if groups == known:
            bits = [int(one) if one.isdecimal() else 0 for one in rest.split(",")]
            if not all(1 <= one <= 16 for one in bits):
                raise SampleError(f"{text!r}: bits must be numbers from 1 to 16, as in {known}:8,4")
            return [Quantised(axes, one, known) for one in bits]
    raise UnknownNameError("quantiser", groups, GROUPS)


def decoded_path(folder: Path, sample: str) -> Path:
    """Where a folder of decoded features holds those of a sample."""
    return folder / f"{urllib.parse.quote(sample, safe='')}.safetensors"


@dataclass(frozen=True)
class Decoded:
    """Features that a codec decoded elsewhere: one safetensors file a sample, a tensor a key.

    A file's metadata may say which sample it is of; if it does, it must be the right one.

    Attributes:
        folder: where ``<sample id>.safetensors`` lie; ids are percent-encoded.
    """

    folder: Path

    @property
    def name(self) -> str:
        """See `Point`."""
        return self.folder.name

    def __call__(self, sample: str, features: Features) -> Features:
        """See `Point`."""
        safetensors = require("safetensors", "models")
        path = decoded_path(self.folder, sample)
        if not path.is_file():
            raise SampleError(f"no decoded features: {path} is missing")
        try:
            with safetensors.safe_open(path, framework="pt") as opened:
                said: Mapping[str, Any] = opened.metadata() or {}
                # Not a dict: it has no iterator of its own.
                tensors = {key: opened.get_tensor(key) for key in list(opened.keys())}
        except (OSError, safetensors.SafetensorError) as error:
            raise SampleError(f"{path} cannot be read: {error}") from None
        if said.get("sample", sample) != sample:
            raise SampleError(f"{path} holds features of sample {said['sample']}")
        return {key: tensors[key] for key in features if key in tensors}


def checked(decoded: Features, stored: Features) -> dict[str, torch.Tensor]:
    """Check decoded features against those that were stored.

    Args:
        decoded: what a point made of them.
        stored: the mode's keys, as captured.

    Returns:
        The decoded tensors, in the order of ``stored``.

    Raises:
        SampleError: a key is missing, of another shape or dtype, or has a value that isn't finite
            where the stored one is.
    """
    result = {}
    for key, wanted in stored.items():
        if (found := decoded.get(key)) is None:
            raise SampleError(f"{key} was not decoded")
        if found.shape != wanted.shape or found.dtype != wanted.dtype:
            raise SampleError(
                f"{key} was decoded as {list(found.shape)} {_dtype(found)}; "
                f"stored is {list(wanted.shape)} {_dtype(wanted)}"
            )
        if not torch.isfinite(found).all() and torch.isfinite(wanted).all():
            raise SampleError(f"{key} was decoded with values that are not finite")
        result[key] = found
    return result


def _dtype(tensor: torch.Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
