"""A codec as a point: real bytes, their count, and what decoding them gives back.

What every decoder can hold beforehand is neither coded nor counted in the headline figures: the
leading tokens that all samples share (a chat template) and the keys that are the same in all
samples. Figures named ``*_all`` are of everything.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch

from lamofcbench.bench.points import Features
from lamofcbench.bench.reference import REFERENCE_FIGURES, ReferenceAccount
from lamofcbench.bitstream import Bitstream, read_bitstream
from lamofcbench.codecs.base import Codec
from lamofcbench.dataset import FeatureDataset
from lamofcbench.manifest import Manifest
from lamofcbench.scores.base import Figure, mean, quotient

__all__ = [
    "RATE_FIGURES",
    "CodedPoint",
    "Held",
    "distortions",
    "held",
    "rate_numbers",
]

AMORTISED = (100, 1000)
RATE_FIGURES = (
    Figure("bpfp", mean, higher_is_better=False),
    Figure("bpfp_pool", quotient, higher_is_better=False),
    Figure("bpfp_all", mean, higher_is_better=False),
    Figure("ebpfp", mean, higher_is_better=False),
    Figure("ratio", quotient),
    Figure("mse", quotient, higher_is_better=False),
    Figure("rel_mse", mean, higher_is_better=False),
    Figure("cosine", mean),
    *(Figure(f"bpfp_amortised_{n}", mean, higher_is_better=False) for n in AMORTISED),
    Figure("artefact_bytes", mean, higher_is_better=False),
    *REFERENCE_FIGURES,
)
"""Bits per feature point (mean over samples, pooled, and of everything), the same weighed by the
declared dtypes, ratio of the captured bytes to the coded ones; mean squared error over elements,
mean over keys of squared error to energy, mean over keys of the cosine; the rate with the artefact
shared out over 100 and 1,000 samples, and its size; the reference's own accounting."""
FULL_BITS = 32
_BITS = {"bfloat16": 16, "float16": 16, "float32": 32, "float64": 64}
SHARED_AXIS = "token"


@dataclass(frozen=True)
class Held:
    """What every decoder holds.

    Attributes:
        prefix: how many leading tokens are the same in all samples.
        keys: which keys are the same in all samples.
        token_axis: by key, where its tokens are; None if it has none.
        reference_bits: by key, of its declared reference dtype.
        axes: by key, names in the model's own layout.
    """

    prefix: int
    keys: tuple[str, ...]
    token_axis: Mapping[str, int | None]
    reference_bits: Mapping[str, int]
    axes: Mapping[str, tuple[str, ...]]

    def without(self, features: Features) -> dict[str, torch.Tensor]:
        """Leave out what is held."""
        left = {}
        for key, tensor in features.items():
            if key in self.keys:
                continue
            axis = self.token_axis[key]
            start = 0 if axis is None else min(self.prefix, tensor.shape[axis])
            left[key] = (
                tensor if axis is None else tensor.narrow(axis, start, tensor.shape[axis] - start)
            )
        return left

    def to_fit(self, features: Features, *, whole: bool = False) -> dict[str, torch.Tensor]:
        """What a codec is fitted to: what is left, and keys that are held.

        The latter are never coded for a headline figure, but for those of everything.

        Args:
            features: a sample's.
            whole: leave out nothing.
        """
        if whole:
            return dict(features)
        return {**self.without(features), **{key: features[key] for key in self.keys}}

    def restored(self, decoded: Features, stored: Features) -> dict[str, torch.Tensor]:
        """Put what is held back to what was decoded."""
        whole = {}
        for key, tensor in stored.items():
            if key in self.keys:
                whole[key] = tensor
                continue
            axis = self.token_axis[key]
            kept = 0 if axis is None else min(self.prefix, tensor.shape[axis])
            whole[key] = (
                torch.cat([tensor.narrow(axis, 0, kept), decoded[key]], axis)
                if axis is not None and kept
                else decoded[key]
            )
        return whole


def _same_tokens(dataset: FeatureDataset, token_axis: Mapping[str, int | None], count: int) -> int:
    """How many of the first ``count`` tokens have the same features in all samples."""
    first: dict[str, torch.Tensor] = {}
    for item in dataset if count else ():
        for key, axis in token_axis.items():
            if axis is None:
                continue
            tokens = item["features"][key].movedim(axis, 0)[:count].flatten(1)
            before = first.setdefault(key, tokens)[: len(tokens)]
            differ = (tokens[: len(before)] != before).any(1).nonzero()
            count = min([count, len(tokens), *differ[:1, 0].tolist()])
    return count


def held(dataset: FeatureDataset, keys: Sequence[str]) -> Held:
    """Find what every decoder can hold: what is the same in all of these samples, bit for bit.

    The manifest says how many leading tokens the samples share. Features of the same tokens may
    still differ: behind a placeholder of an image, or by how a longer prompt is rounded. Those
    are coded.
    """
    manifest = dataset.manifest
    axes = {key: dataset.axes(key) for key in keys}
    declared = {tensor.name: tensor for tensor in manifest.declaration.keys}
    token_axis = {
        key: names.index(SHARED_AXIS)
        if SHARED_AXIS in names and declared[key].ragged_axis == SHARED_AXIS
        else None
        for key, names in axes.items()
    }
    shared = manifest.shared_prefix if isinstance(manifest, Manifest) else 0
    return Held(
        prefix=_same_tokens(dataset, token_axis, shared),
        keys=tuple(key for key in keys if key in manifest.constant_keys)
        if isinstance(manifest, Manifest)
        else (),
        token_axis=token_axis,
        reference_bits={
            key: _BITS[declared[key].reference or declared[key].captured] for key in keys
        },
        axes=axes,
    )


def distortions(before: Features, after: Features) -> dict[str, list[float]]:
    """One sample's rows of the mean squared error, the relative one and the cosine."""
    elements = sum(tensor.numel() for tensor in before.values())
    errors, relative, cosines = 0.0, [], []
    for key, stored in before.items():
        first, second = stored.double(), after[key].double()
        error, energy = float((first - second).square().sum()), float(first.square().sum())
        errors += error
        relative.append(error / energy if energy else float(error > 0))
        scale = (energy * float(second.square().sum())) ** 0.5
        cosines.append(float((first * second).sum()) / scale if scale else float(error == 0))
    return {
        "mse": [errors, elements],
        "rel_mse": [sum(relative) / len(relative)],
        "cosine": [sum(cosines) / len(cosines)],
    }


def count_elements(features: Features) -> int:
    """Values of all tensors."""
    return sum(tensor.numel() for tensor in features.values())


def rate_numbers(
    part: Features, features: Features, coded: int, everything: int
) -> dict[str, list[float]]:
    """One sample's rows of rates.

    Args:
        part: what is coded.
        features: all of the mode's keys, with what every decoder holds.
        coded: bytes of ``part``.
        everything: bytes of ``features``.
    """
    elements, bits = count_elements(part), 8.0 * coded
    captured = sum(tensor.numel() * tensor.element_size() for tensor in part.values())
    return {
        "bpfp": [bits / elements],
        "bpfp_pool": [bits, elements],
        "bpfp_all": [8.0 * everything / count_elements(features)],
        "ratio": [captured, coded],
    }


@dataclass
class CodedPoint:
    """Features through a codec's bytes.

    Attributes:
        codec: which.
        held: what is not coded.
        label: its name in tables.
        artefact_bytes: size of what its decoder holds besides.
        reference: accounts for whole samples as the reference does; none for codecs that it hasn't.
    """

    codec: Codec
    held: Held
    label: str = ""
    artefact_bytes: int = 0
    reference: ReferenceAccount | None = None
    _numbers: dict[str, list[float]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """See `Point`."""
        return self.label or self.codec.name

    def __call__(self, sample: str, features: Features) -> Features:
        """See `Point`."""
        part = self.held.without(features)
        data = self.codec.encode(part, self.held.axes)
        stream = read_bitstream(data)
        decoded = self.codec.decode(stream)
        if len(part) == len(features) and not self.held.prefix:
            everything = len(data)
        else:
            everything = len(self.codec.encode(features, self.held.axes))
        elements, bits = count_elements(part), 8.0 * len(data)
        self._numbers = {
            **rate_numbers(part, features, len(data), everything),
            "ebpfp": [self._weighed(stream, len(data)) / elements],
            **distortions(part, decoded),
            **{
                f"bpfp_amortised_{count}": [(bits + 8.0 * self.artefact_bytes / count) / elements]
                for count in AMORTISED
            },
            "artefact_bytes": [float(self.artefact_bytes)],
            **(self.reference(sample) if self.reference is not None else {}),
        }
        return self.held.restored(decoded, features)

    def numbers(self) -> Mapping[str, Sequence[float]]:
        """See `Counting`."""
        return self._numbers

    def _weighed(self, stream: Bitstream, length: int) -> float:
        """Bits, those of each key's part weighed by 32 over the bits of its reference dtype."""
        parts = {key: len(part.payload) for key, part in stream.keys.items()}
        weight = {key: FULL_BITS / self.held.reference_bits[key] for key in parts}
        payload = sum(parts.values())
        weighed = sum(parts[key] * weight[key] for key in parts)
        # The container is shared out among the keys as their payloads are.
        rest = (length - payload) * (weighed / payload if payload else 1.0)
        return 8.0 * (weighed + rest)
