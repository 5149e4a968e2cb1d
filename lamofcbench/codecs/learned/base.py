"""Learned codecs: a network over packed planes, its weights the artefact.

A payload holds the strings that CompressAI's range coder makes, with their lengths and a checksum
of the integers in them::

    checksum { length }* { string }*        2 bytes, LEB128 for all strings but the last, strings

Decoding repeats what encoding computed, bit for bit, since both run the same float32 operations on
the same shapes in one thread, and the coder's integer tables are made anew of the weights and
compared by a checksum with those that the artefact was made with. On another kind of processor
sums may round otherwise; then the checksum of a payload does not fit, which is an error rather
than a wrong tensor.
"""

import math
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray

from lamofcbench.bitstream import Coded
from lamofcbench.codecs.artefact import Artefact
from lamofcbench.codecs.base import Axes, Codec, Features, parameter
from lamofcbench.codecs.learned.coder import CHECK_BYTES, check_coders
from lamofcbench.codecs.learned.library import library
from lamofcbench.codecs.learned.planes import SCALINGS, Scaling, pad, padded_size, unpad
from lamofcbench.codecs.learned.tables import tables_sum, update_tables
from lamofcbench.errors import BitstreamError, SampleError
from lamofcbench.packing import default_packing, load_packing
from lamofcbench.packing.base import Packing

__all__ = ["MOST_QUANTILE", "Learned", "Weights", "one_thread"]

Weights = Mapping[str, torch.Tensor]
WEIGHT, SCALE = "weight/", "scale/"
MOST_ELEMENTS = 1 << 27
"""Of a padded plane: a network needs some hundred bytes for each."""
LEAST_STRING = 4
QUANTILES = "quantiles"
MOST_QUANTILE = 1 << 14
"""The coder's tables have an entry for each integer between the quantiles."""
PACKINGS = ("usual", "square")


@contextmanager
def one_thread() -> Iterator[None]:
    """One thread and no gradients: sums are added up in one order."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.no_grad():
            yield
    finally:
        torch.set_num_threads(before)


class Learned(Codec):
    """Base of codecs that are networks.

    ``n`` and ``m`` are the channels of transforms and latent. ``scaling`` is channel, by default,
    by bounds of each channel; bounds, of each key; or floor, by the codebook of the benchmark's
    published code. ``packing`` is usual, by default, or square. Where there is an artefact they
    are its own, and need not be given.

    Attributes:
        sizes: ``n`` and ``m`` by default.
        least: which they must be at least.
        strings: how many a tensor has.
        scaling: by default.
        weights: of a network that is to become an artefact.
        about: what that artefact is to say of them.
    """

    fitted = True
    trained = True
    sizes: ClassVar[tuple[int, int]]
    least: ClassVar[tuple[int, int]]
    strings: ClassVar[int]
    scaling: ClassVar[str] = "channel"

    def __init__(self, parameters: Mapping[str, str], artefact: Artefact | None) -> None:
        """Use `create`."""
        self._parameters = dict(parameters)
        self.n, self.m = int(parameters["n"]), int(parameters["m"])
        self._scaling = SCALINGS[parameters["scaling"]]
        self._artefact = artefact
        self.artefact = artefact.sha256 if artefact is not None else b""
        self.weights: Weights | None = None
        self.about: Mapping[str, str] = {}
        self._network: Any = None
        self._sums: Any = None

    @classmethod
    def create(cls, parameters: Mapping[str, str], artefact: Artefact | None = None) -> Self:
        """See `Codec.create`."""
        known = {
            "n": str(cls.sizes[0]),
            "m": str(cls.sizes[1]),
            "packing": PACKINGS[0],
            "scaling": cls.scaling,
        }
        if extra := set(parameters) - set(known):
            names = ", ".join(known)
            raise SampleError(f"{cls.name} has no parameter {min(extra)!r}, only {names}")
        if artefact is not None:
            if artefact.codec != cls.name:
                raise SampleError(f"{cls.name}: the artefact is of {artefact.codec}")
            about = {name: artefact.about[name] for name in known if name in artefact.about}
            for name, value in parameters.items():
                if about.get(name, value) != value:
                    raise SampleError(
                        f"{cls.name}: {name}={value}, but the artefact has {name}={about[name]}"
                    )
            known |= about
        known |= parameters
        for name, least in zip("nm", cls.least, strict=True):
            if not least <= parameter(known[name], int, name) <= 1024:
                raise SampleError(f"{name}={known[name]}: needs {least} to 1024")
        for name, choices in (("scaling", tuple(SCALINGS)), ("packing", PACKINGS)):
            if known[name] not in choices:
                raise SampleError(f"{name}={known[name]!r}: needs {' or '.join(choices)}")
        return cls(known, artefact)

    @property
    def parameters(self) -> dict[str, str]:
        """See `Codec.parameters`; none with an artefact, which says all of them itself."""
        return {} if self._artefact is not None else self.settings

    @property
    def settings(self) -> dict[str, str]:
        """All parameters, defaults and an artefact's own filled in."""
        return dict(self._parameters)

    @abstractmethod
    def build(self) -> Any:
        """Make the network, of one channel, with random weights from torch's generator."""

    @abstractmethod
    def _compress(self, network: Any, plane: torch.Tensor) -> list[bytes]:
        """Code a plane [1, 1, height, width] to `strings` strings."""

    @abstractmethod
    def _decompress(
        self, network: Any, strings: list[bytes], size: tuple[int, int]
    ) -> torch.Tensor:
        """Decode to [1, 1, height, width], from 0 to 1."""

    def start(self, network: Any, planes: torch.Tensor) -> None:
        """Bring a network that is to be trained into reach of its task.

        Args:
            network: of `build`; it is changed.
            planes: [n, 1, height, width], some of those to train on.
        """

    def untrained(self, seed: int = 0) -> Weights:
        """Random weights, always the same for a seed: what training starts from."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return dict(self.build().named_parameters())

    def fit(self, samples: Iterable[Features], axes: Axes) -> Artefact:
        """See `Codec.fit`: how each key's values are scaled; `weights` must be there.

        Raises:
            SampleError: there are no weights yet.
        """
        scalings = self.fit_scalings(samples, axes)
        return self.make_artefact(scalings, self.about)

    def fit_scalings(self, samples: Iterable[Features], axes: Axes) -> dict[str, Scaling]:
        """Fit how each key's values are scaled.

        Raises:
            SampleError: a value is not finite.
        """
        parts: dict[str, list[NDArray[np.float32]]] = {}
        for sample in samples:
            for key, tensor in sample.items():
                if not tensor.isfinite().all():
                    raise SampleError(f"{key}: a value to fit to is not finite")
                found = parts.setdefault(key, [])
                if tensor.numel():
                    found.append(self._scaling.summary(tensor.detach().cpu(), axes[key]))
        return {key: self._scaling.fit(found) for key, found in parts.items()}

    def make_artefact(self, scalings: Mapping[str, Scaling], about: Mapping[str, str]) -> Artefact:
        """Put `weights` and scalings into one artefact.

        Raises:
            SampleError: there are no weights yet.
        """
        if self.weights is None:
            raise SampleError(
                f"{self.name} is trained, not calibrated: make its artefact by "
                "`lamofcbench train`, or of a checkpoint by `lamofcbench calibrate --checkpoint`"
            )
        network = self._ready(self.weights)
        tensors = {
            **{WEIGHT + name: tensor.detach().numpy() for name, tensor in self.weights.items()},
            **{SCALE + key: scaling.numbers for key, scaling in scalings.items()},
        }
        said = {**about, **self.settings, "tables": tables_sum(network)}
        return Artefact.make(self.name, tensors, said)

    def _ready(self, weights: Weights) -> Any:
        """A network with these weights, and the coder's tables made of them."""
        with torch.random.fork_rng(devices=[]):
            network = self.build()
        for name, tensor in network.named_parameters():
            found = weights.get(name)
            if found is None or found.shape != tensor.shape:
                shape = "nothing" if found is None else str(list(found.shape))
                raise SampleError(
                    f"{self.name}: {name} is {shape}, where n={self.n}, m={self.m} "
                    f"needs {list(tensor.shape)}"
                )
            if not found.isfinite().all():
                raise SampleError(f"{self.name}: {name} has values that are not finite")
            if name.endswith(QUANTILES) and float(found.detach().abs().max()) > MOST_QUANTILE:
                raise SampleError(f"{self.name}: {name} is beyond {MOST_QUANTILE}")
        # The base class's: CompressAI's own wants tables in the state, too.
        torch.nn.Module.load_state_dict(network, dict(weights), strict=False)
        network.eval()
        with one_thread():
            update_tables(network)
        return network

    def _opened(self) -> Any:
        """The artefact's network, made once."""
        if self._network is None:
            if self._artefact is None:
                raise BitstreamError(f"{self.name} needs its artefact: name it with --artefact")
            held = self._artefact.tensors
            weights = {
                name.removeprefix(WEIGHT): torch.from_numpy(np.array(array))
                for name, array in held.items()
                if name.startswith(WEIGHT)
            }
            network = self._ready(weights)
            if tables_sum(network) != self._artefact.about.get("tables"):
                raise BitstreamError(
                    f"{self.name}: this machine makes other tables of the artefact's weights than "
                    "the one that made it: install the same versions of torch and compressai"
                )
            models = library().entropy_models
            self._sums = check_coders(
                network, (models.EntropyBottleneck, models.GaussianConditional)
            )
            self._network = network
        return self._network

    def _scaling_of(self, key: str, shape: Sequence[int]) -> Scaling:
        self._opened()
        held = self._artefact.tensors if self._artefact is not None else {}
        if SCALE + key not in held:
            raise SampleError(f"{key}: {self.name} was not fitted for it")
        try:
            scaling = self._scaling.of(held[SCALE + key])
        except ValueError as error:
            raise SampleError(f"{key}: the artefact has {error}") from None
        if not scaling.takes(shape):
            raise SampleError(f"{key}: {self.name} was fitted for a tensor of other channels")
        return scaling

    @property
    def fitted_keys(self) -> set[str]:
        """Keys that the artefact was fitted for."""
        held = self._artefact.tensors if self._artefact is not None else {}
        return {name.removeprefix(SCALE) for name in held if name.startswith(SCALE)}

    def packing(self, axes: Sequence[str], shape: Sequence[int]) -> Packing:
        """How tensors with these axes become planes.

        Raises:
            SampleError: the plane would be too large, or there is none.
        """
        if not axes:
            raise SampleError(f"{self.name} cannot code a number alone")
        usual = self._parameters["packing"] == PACKINGS[0]
        packing = default_packing(axes) if usual else load_packing("square")
        if math.prod(padded_size(packing.size(tuple(shape)))) > MOST_ELEMENTS:
            raise SampleError(f"{self.name} cannot code a plane of {list(shape)}: it is too large")
        return packing

    def plane(
        self, scaling: Scaling, values: torch.Tensor, axes: Sequence[str]
    ) -> NDArray[np.float32]:
        """Scale a tensor and pack it, unpadded."""
        scaled = scaling.scale(values.double().numpy())
        return self.packing(axes, values.shape).pack(scaled)

    def encode_tensor(self, key: str, values: torch.Tensor, axes: Sequence[str]) -> bytes:
        """See `Codec.encode_tensor`."""
        if not values.numel():
            return b""
        network = self._opened()
        plane = self.plane(self._scaling_of(key, values.shape), values, axes)
        with one_thread():
            self._sums.reset()
            strings = self._compress(network, torch.from_numpy(pad(plane))[None, None])
        check = int(self._sums.encoded).to_bytes(4, "little")[:CHECK_BYTES]
        return check + b"".join(_length(len(s)) for s in strings[:-1]) + b"".join(strings)

    def decode_tensor(self, key: str, part: Coded) -> torch.Tensor:
        """See `Codec.decode_tensor`."""
        dtype: torch.dtype = getattr(torch, part.dtype)
        if not part.elements:
            return torch.zeros(part.shape, dtype=dtype)
        network = self._opened()
        try:
            scaling = self._scaling_of(key, part.shape)
        except SampleError as error:
            raise BitstreamError(f"does not fit its artefact: {error}") from None
        strings = self._split(key, part.payload)
        try:
            packing = self.packing(part.axes, part.shape)
        except SampleError as error:
            raise BitstreamError(f"has {key}: {error}") from None
        size = packing.size(part.shape)
        with one_thread():
            self._sums.reset()
            decoded = self._decompress(network, strings, padded_size(size))
        check = int(self._sums.decoded).to_bytes(4, "little")[:CHECK_BYTES]
        if check != part.payload[:CHECK_BYTES]:
            raise BitstreamError(
                f"has a payload of {key} that decodes to other integers than were coded: it is "
                "altered, or was made on another kind of processor"
            )
        plane = unpad(decoded[0, 0].numpy(), size)
        values = torch.from_numpy(scaling.restore(packing.unpack(plane, part.shape)))
        return values.to(dtype)

    def _split(self, key: str, payload: bytes) -> list[bytes]:
        """Take a payload's strings apart."""
        at, lengths = CHECK_BYTES, []
        for _ in range(self.strings - 1):
            length = shift = 0
            while True:
                if at >= len(payload) or shift > 28:
                    raise BitstreamError(f"has a payload of {key} that is cut short")
                byte = payload[at]
                length |= (byte & 127) << shift
                at, shift = at + 1, shift + 7
                if byte < 128:
                    break
            lengths.append(length)
        lengths.append(len(payload) - at - sum(lengths))
        if min(lengths) < LEAST_STRING:
            raise BitstreamError(f"has a payload of {key} that is malformed")
        strings = []
        for length in lengths:
            strings.append(payload[at : at + length])
            at += length
        return strings

    def string_bytes(self, payload: bytes) -> int | None:
        """See `Codec.string_bytes`."""
        if not payload:
            return 0
        at, found = CHECK_BYTES, 0
        while found < self.strings - 1:
            found += payload[at] < 128
            at += 1
        return len(payload) - at


def _length(value: int) -> bytes:
    out = bytearray()
    while value >= 128:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])
