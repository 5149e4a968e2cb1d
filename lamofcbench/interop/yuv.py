"""Features as raw pictures, 4:0:0, for encoders that take nothing else: VTM, HM, ECM, x265.

A tensor becomes one plane by its usual packing, is rounded to integers between its own least and
largest value, and padded with its edges to sides that encoders take. A JSON file beside each
picture says how to undo all of it: decoded pictures become features again.

::

    <folder>/<sample>/<key>.yuv     one picture: rows of unsigned integers, little endian
    <folder>/<sample>/<key>.json    see `Sidecar`
"""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lamofcbench.bits import dtype_name
from lamofcbench.codecs.rows import to_dtype
from lamofcbench.errors import LamofcError, SampleError, SourceError
from lamofcbench.interop.names import sample_file
from lamofcbench.interop.output import (
    Samples,
    claim,
    counted,
    finish,
    fresh_file,
    manifest_sha256,
    said_of,
    write_json,
)
from lamofcbench.interop.safetensors import write_sample
from lamofcbench.packing import default_packing, load_packing

__all__ = ["ALIGN", "BITS", "Sidecar", "export_yuv", "import_yuv", "read_picture", "to_picture"]

BITS = (8, 10, 12, 16)
ALIGN = 16
"""Sides are multiples of this: x265 takes no less than 16, VTM no other than multiples of 8."""
PICTURE = ".yuv"
MOST_SIDECAR_BYTES = 1 << 20
Size = Annotated[int, Field(gt=0, le=1 << 31)]
Levels = NDArray[np.uint8] | NDArray[np.uint16]


class Sidecar(BaseModel):
    """What a picture is of, and how its integers become values: ``offset + scale * level``.

    ``width`` and ``height`` are the picture's; the plane is its upper left part, of the size that
    ``packing`` gives to ``shape``. ``bytes`` is the size of the ``.yuv`` file.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    config: str
    profile: str
    sample: str
    key: str
    dtype: Literal["bfloat16", "float16", "float32", "float64"]
    shape: tuple[Size, ...] = Field(min_length=1, max_length=8)
    axes: tuple[str, ...]
    packing: str
    width: Size
    height: Size
    frames: Literal[1] = 1
    chroma: Literal["400"] = "400"
    bits: Literal[8, 10, 12, 16]
    byte_order: Literal["little"] = "little"
    bytes: Size
    scale: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    offset: Annotated[float, Field(allow_inf_nan=False)]
    manifest_sha256: str | None


def to_picture(
    values: torch.Tensor, axes: tuple[str, ...], bits: int, align: int = ALIGN
) -> tuple[Levels, str, float, float]:
    """Round a tensor to a picture.

    Args:
        values: any float dtype, in the model's own layout.
        axes: their names.
        bits: of a level.
        align: sides are multiples of it.

    Returns:
        Levels [height, width], uint8 for 8 bits and uint16 otherwise; the packing's name; scale and
        offset.

    Raises:
        SampleError: a value isn't finite.
    """
    packing = default_packing(axes)
    plane = packing.pack(values.double().numpy())
    if not np.isfinite(plane).all():
        raise SampleError("has values that are not finite: they have no place in a picture")
    low, high = float(plane.min()), float(plane.max())
    # Halved, for the span of float64 values may be beyond float64.
    scale = 2 * ((high / 2 - low / 2) / ((1 << bits) - 1))
    top = (1 << bits) - 1
    levels = np.clip(np.rint((plane - low) / (scale or 1)), 0, top)
    more = [(0, -size % align) for size in plane.shape]
    picture = np.pad(levels.astype(np.uint8 if bits == 8 else np.uint16), more, mode="edge")
    return picture, packing.name, scale, low


def export_yuv(
    samples: Samples,
    out: Path,
    step: Callable[[], object] = lambda: None,
    *,
    bits: int = 10,
    align: int = ALIGN,
) -> int:
    """Write every tensor as one picture with its sidecar.

    Args:
        samples: which.
        out: folder for them; see `claim`.
        step: called after each sample.
        bits: of a level, one of `BITS`.
        align: see `to_picture`.

    Returns:
        How many samples there are.

    Raises:
        SampleError: ``out`` holds something else or cannot be written, or a value isn't finite.
    """
    said = said_of(samples, "yuv", bits=bits, align=align)
    claim(out, said)
    digest = manifest_sha256(samples)
    for item in samples:
        folder = out / sample_file(item["id"], "")
        for key, tensor in item["features"].items():
            try:
                picture, packing, scale, low = to_picture(tensor, samples.axes(key), bits, align)
                sidecar = Sidecar(
                    config=samples.manifest.config,
                    profile=samples.manifest.profile,
                    sample=item["id"],
                    key=key,
                    dtype=dtype_name(tensor),
                    shape=tuple(tensor.shape),
                    axes=samples.axes(key),
                    packing=packing,
                    width=picture.shape[1],
                    height=picture.shape[0],
                    bits=bits,
                    bytes=picture.nbytes,
                    scale=scale,
                    offset=low,
                    manifest_sha256=digest,
                )
            except SampleError as error:
                raise SampleError(f"{item['id']}: {key} {error}") from None
            except ValidationError as error:
                fault = error.errors()[0]["msg"]
                raise SampleError(f"{item['id']}: {key} makes no picture: {fault}") from None
            with fresh_file(folder / f"{key}{PICTURE}") as temporary:
                temporary.write_bytes(picture.astype(picture.dtype.newbyteorder("<")).tobytes())
            # Last: a picture without it is none.
            write_json(folder / f"{key}.json", sidecar.model_dump(mode="json"))
        step()
    finish(out, said)
    return len(samples)


def _load_sidecar(path: Path) -> Sidecar:
    try:
        if path.stat().st_size > MOST_SIDECAR_BYTES:
            raise SourceError(f"{path}: too large for a sidecar")
        found = Sidecar.model_validate_json(path.read_bytes())
    except OSError as error:
        raise SourceError(f"{path}: {error.strerror}") from None
    except ValidationError as error:
        fault = error.errors()[0]
        place = ".".join(str(part) for part in fault["loc"]) or "whole"
        raise SourceError(f"{path}: not a sidecar: {place}: {fault['msg']}") from None
    item = 1 if found.bits == 8 else 2
    if found.bytes != item * found.width * found.height:
        raise SourceError(f"{path}: {found.bytes} bytes are not {found.width} x {found.height}")
    return found


def read_picture(path: Path, sidecar: Sidecar) -> torch.Tensor:
    """Make a tensor of a decoded picture, in the model's own layout.

    Raises:
        SourceError: it is missing, of another size than its sidecar says, or holds larger levels;
            or the sidecar's packing doesn't fit its shape.
    """
    try:
        size = path.stat().st_size
        if size != sidecar.bytes:
            raise SourceError(
                f"{path}: {size} bytes; its sidecar says {sidecar.bytes}: one picture of "
                f"{sidecar.width} x {sidecar.height} with {sidecar.bits} bits, 4:0:0. "
                "Decode to the same bit depth, without chroma"
            )
        data = path.read_bytes()
    except OSError as error:
        raise SourceError(f"{path}: {error.strerror}") from None
    levels = np.frombuffer(data, np.uint8 if sidecar.bits == 8 else "<u2")
    if int(levels.max()) >> sidecar.bits:
        raise SourceError(f"{path}: holds levels of more than {sidecar.bits} bits")
    picture = levels.reshape(sidecar.height, sidecar.width)
    try:
        # First, for packings take their time with large shapes.
        if math.prod(sidecar.shape) > picture.size:
            raise ValueError
        packing = load_packing(sidecar.packing)
        height, width = packing.size(sidecar.shape)
        if (
            height > sidecar.height
            or width > sidecar.width
            or height * width < math.prod(sidecar.shape)
        ):
            raise ValueError
        plane = packing.unpack(picture[:height, :width], sidecar.shape)
    except LamofcError as error:
        raise SourceError(f"{path}: {error}") from None
    except (ValueError, IndexError):
        raise SourceError(
            f"{path}: shape {list(sidecar.shape)} as {sidecar.packing} does not fit "
            f"{sidecar.width} x {sidecar.height}"
        ) from None
    return to_dtype(sidecar.offset + sidecar.scale * plane.astype(np.float64), sidecar.dtype)


def import_yuv(
    folder: Path,
    out: Path,
    sidecars: Path | None = None,
    start: Callable[[int], Callable[[], object]] = lambda _: lambda: None,
) -> int:
    """Make features of decoded pictures, as ``score --features`` takes them.

    Args:
        folder: decoded pictures, named as they were exported.
        out: folder for one safetensors file a sample; see `claim`.
        sidecars: where the export lies, if its sidecars were not copied.
        start: takes how many samples there are; what it returns is called after each.

    Returns:
        How many samples there are.

    Raises:
        SourceError: there are none, a picture or sidecar is missing or doesn't fit, or they are of
            several exports.
        SampleError: ``out`` holds something else.
    """
    about = sidecars or folder
    places = sorted(path for path in about.iterdir() if path.is_dir() and any(path.glob("*.json")))
    if not places:
        raise SourceError(f"{about}: no sidecars here: name the exported folder with --sidecars")
    step = start(len(places))
    first = _load_sidecar(sorted(places[0].glob("*.json"))[0])
    same = (first.config, first.profile, first.manifest_sha256)
    said = {
        "format": "decoded yuv",
        "config": first.config,
        "profile": first.profile,
        "manifest_sha256": first.manifest_sha256,
        **counted([place.name for place in places]),
    }
    claim(out, said)
    for place in places:
        features: dict[str, torch.Tensor] = {}
        for path in sorted(place.glob("*.json")):
            sidecar = _load_sidecar(path)
            if (sidecar.config, sidecar.profile, sidecar.manifest_sha256) != same:
                raise SourceError(f"{path}: of another export than {places[0]}")
            named = (sample_file(sidecar.sample, ""), f"{sidecar.key}.json")
            if named != (place.name, path.name):
                raise SourceError(f"{path}: says that it is of {'/'.join(named)}")
            picture = folder / place.name / f"{sidecar.key}{PICTURE}"
            features[sidecar.key] = read_picture(picture, sidecar)
            sample = sidecar.sample
        write_sample(out, sample, features)
        step()
    finish(out, said)
    return len(places)
