"""Non-uniform scalar quantisation with a codebook per key, fitted beforehand, then entropy coding.

With ``rule=floor`` and 8 bits it is the quantiser of the benchmark's published code.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Self

import numpy as np
import torch

from lamofcbench.bitstream import Coded
from lamofcbench.codecs.artefact import Artefact
from lamofcbench.codecs.base import Axes, Codec, Features, parameter
from lamofcbench.codecs.entropy import decode_levels, encode_levels
from lamofcbench.codecs.fitted import even_choice
from lamofcbench.errors import BitstreamError, SampleError
from lamofcbench.quant.kmeans import assign, fit_codebook

__all__ = ["KMeans"]

RULES = ("nearest", "floor")
MOST_VALUES = 1 << 20
"""Values that a codebook is fitted on at most, an even choice of all."""


class KMeans(Codec):
    """``bits`` 1 to 12, 8 by default; ``rule`` is nearest, by default, or floor."""

    name = "kmeans"
    fitted = True
    ladder = ("bits", tuple(str(bits) for bits in range(1, 13)))

    def __init__(self, bits: int, rule: str, artefact: Artefact | None) -> None:
        """Quantise with an artefact's codebooks."""
        self.bits = bits
        self.rule = rule
        self._artefact = artefact
        self.artefact = artefact.sha256 if artefact is not None else b""

    @classmethod
    def create(cls, parameters: Mapping[str, str], artefact: Artefact | None = None) -> Self:
        """See `Codec.create`."""
        if extra := set(parameters) - {"bits", "rule"}:
            raise SampleError(f"{cls.name} has no parameter {min(extra)!r}, only bits and rule")
        bits = parameter(parameters.get("bits", "8"), int, "bits")
        rule = parameters.get("rule", RULES[0])
        if not 1 <= bits <= 12:
            raise SampleError(f"bits={bits}: needs 1 to 12")
        if rule not in RULES:
            raise SampleError(f"rule={rule!r}: needs {' or '.join(RULES)}")
        return cls(bits, rule, artefact)

    @property
    def parameters(self) -> dict[str, str]:
        """See `Codec.parameters`."""
        return {"bits": str(self.bits), "rule": self.rule}

    def fit(self, samples: Iterable[Features], axes: Axes) -> Artefact:
        """See `Codec.fit`: a codebook per key."""
        values: dict[str, list[np.ndarray[tuple[int, ...], np.dtype[np.float32]]]] = {}
        for sample in samples:
            for key, tensor in sample.items():
                rows = tensor.float().reshape(-1, max(tensor.shape[-1:], default=1) or 1).numpy()
                values.setdefault(key, []).append(rows)
        codebooks = {}
        for key, parts in values.items():
            share = MOST_VALUES // len(parts)
            chosen = np.concatenate([even_choice(part, share) for part in parts])
            if not len(chosen):
                chosen = np.zeros(1, np.float32)
            codebook = fit_codebook(chosen.astype(np.float64), 1 << self.bits)
            codebooks[key] = codebook.astype(np.float32)
        return Artefact.make(self.name, codebooks, {"bits": str(self.bits)})

    def _codebook(self, key: str) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        if self._artefact is None:
            raise BitstreamError(f"{self.name} needs its artefact: name it with --artefact")
        if key not in self._artefact.tensors:
            raise SampleError(f"{key}: {self.name} was not fitted for it")
        codebook = self._artefact.tensors[key]
        if not 0 < len(codebook) <= 1 << self.bits:
            raise SampleError(f"{key}: the artefact has a codebook of {len(codebook)} entries")
        return codebook

    def encode_tensor(self, key: str, values: torch.Tensor, axes: Sequence[str]) -> bytes:
        """See `Codec.encode_tensor`."""
        codebook = self._codebook(key).astype(np.float64)
        wide = values.double().numpy()
        return encode_levels(assign(wide, codebook, floor=self.rule == "floor"), self.bits)

    def decode_tensor(self, key: str, part: Coded) -> torch.Tensor:
        """See `Codec.decode_tensor`."""
        codebook = self._codebook(key)
        levels = decode_levels(part.payload, self.bits, part.elements)
        if levels.size and levels.max() >= len(codebook):
            raise BitstreamError(f"has levels of {key} beyond its codebook")
        dtype: torch.dtype = getattr(torch, part.dtype)
        return torch.from_numpy(codebook[levels].reshape(part.shape)).to(dtype)
