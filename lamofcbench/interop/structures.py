"""How the reference's files hold tensors: a nest of plain containers per kind of model.

A skeleton is such a nest with a `Leaf` in place of every tensor. It makes a file's content of
features, and features of a file's content. Sources: the published files of five kinds.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from lamofcbench.errors import SourceError

__all__ = [
    "Leaf",
    "coded_skeleton",
    "from_skeleton",
    "leaves",
    "raw_skeleton",
    "tensors_in",
    "to_skeleton",
]

VISION_PREFIX = {
    "classification": "backbone.blocks.",
    "segmentation": "segmentation_model.0.backbone.blocks.",
    "depth": "encoder.backbone.blocks.",
}
TEXT_ENCODERS = {"text_encoder": (0, "clip"), "text_encoder_2": (1, "clip")}
TEXT_ENCODERS |= {"text_encoder_3": (2, "t5")}


@dataclass(frozen=True)
class Leaf:
    """A tensor's place.

    Attributes:
        key: which.
        batched: whether it has a leading axis of 1 that features don't have.
    """

    key: str
    batched: bool = False


def raw_skeleton(family: str, task: str, keys: Sequence[str]) -> Any:
    """The nest of a raw file.

    Args:
        family: of the model.
        task: what a ``vit`` is used for.
        keys: all of the config's.

    Raises:
        SourceError: the reference has no files of this family.
    """
    if family == "vit":
        leaves = {_layer(key): Leaf(key, task == "classification") for key in keys}
        prefix = VISION_PREFIX[task]
        if task == "classification":
            return {f"{prefix}{i}": [leaf] for i, leaf in leaves.items()}
        return {f"{prefix}{i}": leaf for i, leaf in leaves.items()}
    makers = {"llm": _llm, "ssm": _ssm, "alm": _alm, "t2i": _t2i}
    if family not in makers:
        raise SourceError(f"the reference has no files of the family {family}")
    return makers[family](keys)


def coded_skeleton(family: str, task: str, keys: Sequence[str]) -> Any:
    """The nest of ``features`` in a file after coding: the raw one, but for ``vit``.

    Raises:
        SourceError: the reference has no files of this family.
    """
    if family == "vit":
        return {key: Leaf(key, task == "classification") for key in keys}
    return raw_skeleton(family, task, keys)


def _layer(key: str) -> int:
    return int(key.split(".")[1])


def _layers(keys: Sequence[str]) -> list[int]:
    return sorted({_layer(key) for key in keys})


def _output(keys: Sequence[str]) -> Leaf:
    return Leaf(next(key for key in keys if key.endswith(".output")), batched=True)


def _llm(keys: Sequence[str]) -> Any:
    layers = _layers(keys)
    return {
        "output": _output(keys),
        "key": [Leaf(f"layer.{i}.k_cache", batched=True) for i in layers],
        "value": [Leaf(f"layer.{i}.v_cache", batched=True) for i in layers],
    }


def _ssm(keys: Sequence[str]) -> Any:
    layers = _layers(keys)
    return {
        "output": _output(keys),
        "ssm_state": [Leaf(f"layer.{i}.ssm_state", batched=True) for i in layers],
        "conv_state": [Leaf(f"layer.{i}.conv_state", batched=True) for i in layers],
    }


def _alm(keys: Sequence[str]) -> Any:
    layers = _layers(keys)
    caches = {
        i: tuple(Leaf(f"layer.{i}.{part}_cache", batched=True) for part in "kv") for i in layers
    }
    nest: dict[str, Any] = {f"model.layers.{i}": pair for i, pair in caches.items()}
    nest[f"model.layers.{layers[-1]}"] = (_output(keys), caches[layers[-1]])
    return nest


def _t2i(keys: Sequence[str]) -> Any:
    nest: dict[str, Any] = {}
    for sign, first in (("pos", 0), ("neg", 3)):
        for encoder, (number, kind) in TEXT_ENCODERS.items():
            tensors = {f"{kind}_prompt_embeds": Leaf(f"{encoder}.{sign}.hidden")}
            if kind == "clip":
                pooled = Leaf(f"{encoder}.{sign}.pooled")
                tensors = {"clip_pooled_prompt_embeds": pooled, **tensors}
            nest[f"{encoder}-item{first + number}"] = tensors
    control = Leaf("vae.encoder")
    nest["vae.encoder"] = {"vae.encoder_f0": control, "vae.encoder_f1": control}
    nest["vae.decoder"] = Leaf("vae.decoder")
    return nest


def to_skeleton(skeleton: Any, features: Mapping[str, torch.Tensor]) -> Any:
    """Fill a skeleton with features, in the model's own layout."""
    if isinstance(skeleton, Leaf):
        tensor = features[skeleton.key]
        return tensor[None] if skeleton.batched else tensor
    if isinstance(skeleton, dict):
        return {name: to_skeleton(part, features) for name, part in skeleton.items()}
    return type(skeleton)(to_skeleton(part, features) for part in skeleton)


def leaves(skeleton: Any, where: str = "") -> list[tuple[str, Leaf]]:
    """All tensors' places, with their names in the nest: ``key.2``."""
    if isinstance(skeleton, Leaf):
        return [(where, skeleton)]
    parts = skeleton.items() if isinstance(skeleton, dict) else enumerate(skeleton)
    return [
        leaf
        for name, part in parts
        for leaf in leaves(part, f"{where}.{name}" if where else str(name))
    ]


def from_skeleton(skeleton: Any, found: Any) -> dict[str, torch.Tensor]:
    """Take features out of a nest; the inverse of `to_skeleton`.

    Raises:
        SourceError: it is another nest, or two places of one tensor hold different ones.
    """
    features: dict[str, torch.Tensor] = {}
    for where, leaf, tensor in tensors_in(skeleton, found):
        _put(features, leaf.key, tensor, where)
    return features


def tensors_in(
    skeleton: Any, found: Any, where: str = ""
) -> Iterator[tuple[str, Leaf, torch.Tensor]]:
    """Find a nest's tensors, without the leading 1 that features don't have, as `leaves` does.

    Raises:
        SourceError: it is another nest.
    """
    name = where or "the file"
    if isinstance(skeleton, Leaf):
        if not isinstance(found, torch.Tensor):
            raise SourceError(f"{name}: {type(found).__name__}, expected a tensor")
        if skeleton.batched:
            if not found.ndim or found.shape[0] != 1:
                raise SourceError(f"{name}: shape {list(found.shape)}, expected a leading 1")
            found = found[0]
        yield name, skeleton, found
    elif isinstance(skeleton, dict):
        if not isinstance(found, dict):
            raise SourceError(f"{name}: {type(found).__name__}, expected a dict")
        if found.keys() != skeleton.keys():
            here, wanted = (", ".join(str(n) for n in part) for part in (found, skeleton))
            raise SourceError(f"{name}: holds {here[:300]}; expected {wanted}")
        for part, body in skeleton.items():
            yield from tensors_in(body, found[part], f"{where}[{part!r}]")
    else:
        if not isinstance(found, (list, tuple)) or len(found) != len(skeleton):
            raise SourceError(f"{name}: expected {len(skeleton)} entries in a list or tuple")
        for number, body in enumerate(skeleton):
            yield from tensors_in(body, found[number], f"{where}[{number}]")


def _put(features: dict[str, torch.Tensor], key: str, found: torch.Tensor, where: str) -> None:
    before = features.setdefault(key, found)
    same = before.shape == found.shape and before.dtype == found.dtype
    if same and before is not found and before.device.type != "meta":
        size = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[found.itemsize]
        same = torch.equal(before.contiguous().view(size), found.contiguous().view(size))
    if not same:
        raise SourceError(f"{where}: differs from the other copy of {key}, and one is kept")
