"""Bitstreams as files: a folder of them, and back to tensors with no archive at hand.

::

    <folder>/<sample id>.lmfb      one bitstream a sample; its size is the sample's rate
    <folder>/held.safetensors      what every decoder holds: shared leading tokens, constant keys
"""

import json
import urllib.parse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from lamofcbench.atomic import write_bytes
from lamofcbench.bench.points import decoded_path
from lamofcbench.bench.rates import Held, held
from lamofcbench.codecs import decode_sample
from lamofcbench.codecs.artefact import Artefact
from lamofcbench.codecs.base import Codec
from lamofcbench.dataset import FeatureDataset
from lamofcbench.errors import BitstreamError, LamofcError, SampleError
from lamofcbench.optional import require

__all__ = ["HELD_FILE", "bitstream_path", "decode_folder", "encode_folder"]

HELD_FILE = "held.safetensors"
SUFFIX = ".lmfb"


def bitstream_path(folder: Path, sample: str) -> Path:
    """Where a folder holds the bitstream of a sample."""
    return folder / f"{urllib.parse.quote(sample, safe='')}{SUFFIX}"


def encode_folder(
    dataset: FeatureDataset,
    keys: tuple[str, ...],
    codec: Codec,
    folder: Path,
    step: Callable[[], object] = lambda: None,
) -> int:
    """Code samples into files.

    Args:
        dataset: an archive's samples.
        keys: which to code, a mode's.
        codec: how.
        folder: is made; files of the same samples are replaced.
        step: called after each sample.

    Returns:
        Bytes of all bitstreams.

    Raises:
        SampleError: the codec can't code a sample's values; the message names it.
    """
    common = held(dataset, keys)
    folder.mkdir(parents=True, exist_ok=True)
    total = 0
    for number, item in enumerate(dataset):
        features = {key: item["features"][key] for key in keys}
        if number == 0:
            _write_held(folder, common, features)
        try:
            data = codec.encode(common.without(features), common.axes)
        except SampleError as error:
            raise SampleError(f"{item['id']}: {error}") from None
        write_bytes(bitstream_path(folder, item["id"]), data)
        total += len(data)
        step()
    return total


def _write_held(folder: Path, common: Held, features: dict[str, torch.Tensor]) -> None:
    """Write the parts of a sample that all samples share."""
    save_file = require("safetensors.torch", "models").save_file
    parts = {}
    for key, tensor in features.items():
        axis = common.token_axis[key]
        if key in common.keys:
            parts[key] = tensor
        elif axis is not None and common.prefix:
            kept = min(common.prefix, tensor.shape[axis])
            parts[key] = tensor.narrow(axis, 0, kept)
    axes = {key: common.token_axis[key] for key in features}
    said = {"order": json.dumps(list(features)), "axes": json.dumps(axes)}
    save_file({k: t.contiguous() for k, t in parts.items()}, folder / HELD_FILE, metadata=said)


def _read_held(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any], list[str]]:
    safetensors = require("safetensors", "models")
    try:
        with safetensors.safe_open(path, framework="pt") as opened:
            said = opened.metadata() or {}
            # Not a dict: it has no iterator of its own.
            parts = {key: opened.get_tensor(key) for key in list(opened.keys())}
        return parts, json.loads(said["axes"]), json.loads(said["order"])
    except (OSError, KeyError, ValueError, safetensors.SafetensorError) as error:
        raise BitstreamError(f"{path} cannot be read: {error}") from None


def decode_folder(
    folder: Path,
    out: Path,
    artefact: Artefact | None = None,
    step: Callable[[], object] = lambda: None,
) -> int:
    """Decode every bitstream of a folder into a safetensors file of whole tensors.

    Args:
        folder: what `encode_folder` wrote.
        out: is made; see `lamofcbench.bench.points.Decoded`.
        artefact: what the codec was fitted to, if it was.
        step: called after each sample.

    Returns:
        How many samples were decoded.

    Raises:
        BitstreamError: a file is damaged, or there are none; the message names it.
    """
    paths = sorted(folder.glob(f"*{SUFFIX}"))
    if not paths:
        raise BitstreamError(f"{folder}: no bitstreams (*{SUFFIX}) here")
    save_file = require("safetensors.torch", "models").save_file
    parts, axes, order = _read_held(folder / HELD_FILE)
    out.mkdir(parents=True, exist_ok=True)
    for path in paths:
        sample = urllib.parse.unquote(path.name.removesuffix(SUFFIX))
        try:
            decoded = decode_sample(path.read_bytes(), artefact)
        except LamofcError as error:
            raise BitstreamError(f"{path}: {error}") from None
        whole = {}
        for key in order:
            if key not in decoded:
                whole[key] = parts[key]
            elif key in parts:
                whole[key] = torch.cat([parts[key], decoded[key]], axes[key])
            else:
                whole[key] = decoded[key]
        tensors = {key: tensor.contiguous() for key, tensor in whole.items()}
        save_file(tensors, decoded_path(out, sample), metadata={"sample": sample})
        step()
    return len(paths)
