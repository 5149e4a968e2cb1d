"""Codecs, one a file; third parties add theirs by the entry point group ``lamofcbench.codecs``."""

from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

import torch

from lamofcbench.bitstream import read_bitstream
from lamofcbench.codecs.artefact import Artefact
from lamofcbench.codecs.base import Codec
from lamofcbench.errors import BitstreamError, SampleError
from lamofcbench.registry import Registry

__all__ = [
    "codecs",
    "create_codec",
    "decode_sample",
    "load_codec",
    "parse_codec",
    "split_codec",
]

ENTRY_POINTS = "lamofcbench.codecs"
_OWN = {
    "blosc": "lamofcbench.codecs.blosc:Blosc",
    "cachegen": "lamofcbench.codecs.cachegen:CacheGen",
    "channel": "lamofcbench.codecs.affine:ChannelAffine",
    "elic": "lamofcbench.codecs.learned.elic:Elic",
    "fp8": "lamofcbench.codecs.numeric:Fp8",
    "hevc": "lamofcbench.codecs.hevc:Hevc",
    "hyperprior": "lamofcbench.codecs.learned.hyperprior:Hyperprior",
    "int8": "lamofcbench.codecs.numeric:Int8",
    "jpeg2000": "lamofcbench.codecs.jpeg:Jpeg2000",
    "jpegxl": "lamofcbench.codecs.jpeg:JpegXl",
    "kivi": "lamofcbench.codecs.kivi:Kivi",
    "kmeans": "lamofcbench.codecs.kmeans:KMeans",
    "kvquant": "lamofcbench.codecs.kvquant:KVQuant",
    "kvtc": "lamofcbench.codecs.kvtc:Kvtc",
    "pcodec": "lamofcbench.codecs.pcodec:Pcodec",
    "raw": "lamofcbench.codecs.raw:Raw",
    "reference": "lamofcbench.codecs.learned.reference:Reference",
    "token": "lamofcbench.codecs.affine:TokenAffine",
    "uniform": "lamofcbench.codecs.affine:Uniform",
    "vvc": "lamofcbench.codecs.vvc:Vvc",
    "zfp": "lamofcbench.codecs.zfp:Zfp",
    "zstd": "lamofcbench.codecs.zstd:Zstd",
}


def codecs() -> Registry:
    """All codecs by name: ours, and those that installed packages add.

    Raises:
        ValueError: a package adds one under a name that is taken.
    """
    known = Registry("codec", _OWN)
    for entry in metadata.entry_points(group=ENTRY_POINTS):
        known.add(entry.name, entry.value)
    return known


def create_codec(
    name: str, parameters: Mapping[str, str], artefact: Artefact | None = None
) -> Codec:
    """Make a codec.

    Args:
        name: of the codec.
        parameters: by name.
        artefact: what it was fitted to, for a codec that is.

    Raises:
        UnknownNameError: no such codec; near matches are listed.
        SampleError: a parameter is unknown, missing or out of range.
        MissingDependencyError: its library is not installed.
    """
    made: Codec = codecs().load(name).create(dict(parameters), artefact)
    return made


def split_codec(text: str) -> tuple[str, dict[str, str]]:
    """Split ``name`` or ``name:parameter=value,...`` into a name and parameters.

    Raises:
        SampleError: parameters are not written so.
    """
    name, _, rest = text.partition(":")
    items = [item.split("=", 1) for item in rest.split(",") if item]
    if any(len(item) != 2 for item in items):
        raise SampleError(f"{text!r}: parameters are written name=value, with commas between")
    return name, {item[0]: item[1] for item in items}


def parse_codec(text: str, artefact: Artefact | None = None) -> Codec:
    """Make a codec of ``name`` or ``name:parameter=value,...``, such as ``channel:bits=4``.

    Raises:
        UnknownNameError, SampleError, MissingDependencyError: see `create_codec`.
    """
    return create_codec(*split_codec(text), artefact)


def load_codec(text: str) -> tuple[Codec, Artefact | None]:
    """Make a codec of a text as for `parse_codec`, with ``@FILE`` behind it if it has an artefact.

    Returns:
        The codec, and what it was fitted to or trained for, if the text names it.

    Raises:
        BitstreamError: the file is no artefact.
        UnknownNameError, SampleError, MissingDependencyError: see `create_codec`; a codec that is
            trained needs its artefact.
    """
    spec, _, path = text.partition("@")
    if path:
        artefact = Artefact.load(Path(path))
        return parse_codec(spec, artefact), artefact
    codec = parse_codec(spec)
    if codec.trained:
        raise SampleError(
            f"{text}: is trained: name its artefact, as in {spec}@FILE; "
            "make one with `lamofcbench train`"
        )
    return codec, None


def decode_sample(data: bytes, artefact: Artefact | None = None) -> dict[str, torch.Tensor]:
    """Decode a bitstream with nothing but its bytes, and the artefact that it names if it does.

    Returns:
        A tensor per key, in the model's own layout.

    Raises:
        BitstreamError: it is damaged, or needs an artefact.
        UnknownNameError: no such codec is installed.
    """
    stream = read_bitstream(data)
    if stream.artefact and artefact is None:
        raise BitstreamError(
            f"needs the artefact of sha256 {stream.artefact.hex()}: name it with --artefact"
        )
    held = artefact if stream.artefact else None
    return create_codec(stream.codec, stream.parameters, held).decode(stream)
