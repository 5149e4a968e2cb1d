"""The accounting of the benchmark's published code, in columns of its own: ``*_ref``.

It counts what the entropy coder made and no headers, sizes or checksums; all tensors of a sample's
file, whichever of them a mode injects, what every decoder could hold too; ``vae.encoder`` twice,
since its files have it twice. Each sample is a ratio, and samples are averaged plainly. Errors are
taken in the dtype that its files have.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from lamofcbench.bitstream import read_bitstream
from lamofcbench.codecs.base import Codec
from lamofcbench.codecs.learned.base import Learned
from lamofcbench.dataset import FeatureDataset
from lamofcbench.scores.base import Figure, mean

__all__ = [
    "REFERENCE_FIGURES",
    "ReferenceAccount",
    "ReferencePart",
    "reference_account",
    "reference_numbers",
    "squared_error",
]

REFERENCE_FIGURES = tuple(
    Figure(name, mean, higher_is_better=False) for name in ("bpfp_ref", "ebpfp_ref", "mse_ref")
)
TWICE = frozenset({"vae.encoder"})
FULL_BITS = 32


@dataclass(frozen=True)
class ReferencePart:
    """One tensor of a sample.

    Attributes:
        string_bytes: what the entropy coder made of it.
        elements: its values.
        dtype_bits: of one of them in the reference's files.
        squared_error: summed over its elements.
    """

    string_bytes: int
    elements: int
    dtype_bits: int
    squared_error: float


def reference_numbers(parts: Mapping[str, ReferencePart]) -> dict[str, list[float]]:
    """Account for one sample.

    Args:
        parts: by key, all of the sample's.

    Returns:
        A row of one number for each of `REFERENCE_FIGURES`.
    """
    counted = [part for key, part in parts.items() for _ in range(1 + (key in TWICE))]
    elements = sum(part.elements for part in counted)
    bits = [8 * part.string_bytes for part in counted]
    weighed = sum(
        bit * FULL_BITS / part.dtype_bits for bit, part in zip(bits, counted, strict=True)
    )
    return {
        "bpfp_ref": [sum(bits) / elements],
        "ebpfp_ref": [weighed / elements],
        "mse_ref": [sum(part.squared_error for part in counted) / elements],
    }


def squared_error(before: torch.Tensor, after: torch.Tensor, dtype: torch.dtype) -> float:
    """Summed squared error of two tensors, each rounded to a dtype first."""
    first, second = before.to(dtype).double(), after.to(dtype).double()
    return float((first - second).square().sum())


class ReferenceAccount:
    """Codes whole samples of a data set, and accounts for them as the reference does."""

    def __init__(self, dataset: FeatureDataset, ids: Sequence[str], codec: Codec) -> None:
        """Prepare.

        Args:
            dataset: with all of its keys.
            ids: of its samples, in order.
            codec: that tells the entropy coder's strings apart.
        """
        self._dataset = dataset
        self._places = {sample: place for place, sample in enumerate(ids)}
        self._codec = codec
        self._axes = {key: dataset.axes(key) for key in dataset.keys}
        self._dtypes: dict[str, torch.dtype] = {
            spec.name: getattr(torch, spec.reference or spec.captured)
            for spec in dataset.manifest.declaration.keys
        }

    def __call__(self, sample: str) -> dict[str, list[float]]:
        """Account for the sample with this id: see `reference_numbers`."""
        features = self._dataset[self._places[sample]]["features"]
        stream = read_bitstream(self._codec.encode(features, self._axes))
        decoded = self._codec.decode(stream)
        parts = {}
        for key, part in stream.keys.items():
            dtype = self._dtypes[key]
            parts[key] = ReferencePart(
                self._codec.string_bytes(part.payload) or 0,
                part.elements,
                8 * dtype.itemsize,
                squared_error(features[key], decoded[key], dtype),
            )
        return reference_numbers(parts)


def reference_account(
    dataset: FeatureDataset, ids: Sequence[str], codec: Codec
) -> ReferenceAccount | None:
    """Make a codec's account, if the reference has codecs like it and it knows all keys.

    Args:
        dataset: as for `ReferenceAccount`.
        ids: as for `ReferenceAccount`.
        codec: ready to code.
    """
    if not isinstance(codec, Learned) or set(dataset.keys) - codec.fitted_keys:
        return None
    return ReferenceAccount(dataset, ids, codec)
