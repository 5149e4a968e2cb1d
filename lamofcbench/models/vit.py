"""DINOv3 vision transformers with a linear classifier, split between two blocks.

A checkpoint is a folder, or a repository on the Hub, of these files:

* ``config.json`` and ``model.safetensors`` (or its numbered parts and their index): the backbone as
  transformers publishes it, of model type ``dinov3_vit``;
* ``head.safetensors``: the classifier, with ``weight`` [classes, 2 x dim] and ``bias`` [classes]
  for the normalised class token followed by the mean of the normalised patch tokens.

The front half needs no head, so features can be captured from a backbone alone.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from lamofcbench.errors import DeclarationError, ModelError, SampleError
from lamofcbench.models.base import Capture, Family, Output
from lamofcbench.models.checkpoint import Checkpoint, Wanted, shortened, up_to_block
from lamofcbench.optional import require
from lamofcbench.spec import ProfileSpec

__all__ = ["HEAD_FILE", "LinearHead", "Preprocess", "Vit"]

HEAD_FILE = "head.safetensors"
STAGE_ENTRIES = ("stage_names", "out_features", "out_indices")
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Preprocess:
    """From an image to the backbone's input.

    Attributes:
        resize: pixels of the short side after resizing.
        crop: pixels of both sides of the centre crop.
        interpolation: ``bilinear`` or ``bicubic``, antialiased.
    """

    resize: int
    crop: int
    interpolation: str

    @classmethod
    def declared(cls, profile: ProfileSpec) -> Self:
        """Read the preprocessing that a profile declares.

        Raises:
            DeclarationError: an entry is missing, unknown or out of range.
        """
        entries = dict(profile.preprocess)
        if sorted(entries) != ["crop", "interpolation", "resize"]:
            raise DeclarationError(
                f"preprocess: has {sorted(entries)}; needs resize, crop and interpolation"
            )
        resize, crop, kind = entries["resize"], entries["crop"], entries["interpolation"]
        if not (isinstance(resize, int) and isinstance(crop, int) and 0 < crop <= resize):
            raise DeclarationError("preprocess: needs whole numbers with 0 < crop <= resize")
        if kind not in ("bilinear", "bicubic"):
            raise DeclarationError(f"preprocess: interpolation {kind!r}: not bilinear or bicubic")
        return cls(resize, crop, str(kind))

    def __call__(self, image: Any) -> torch.Tensor:
        """Resize, crop and normalise one image.

        Args:
            image: uint8 array [height, width, 3], or [height, width] if it is grey.

        Returns:
            float32 [1, 3, crop, crop].

        Raises:
            SampleError: it is no such array.
        """
        array = np.asarray(image)
        if array.ndim == 2:
            array = np.repeat(array[..., None], 3, axis=2)
        if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3 or not array.size:
            raise SampleError(
                f"image: {array.dtype} {list(array.shape)}; "
                "needs uint8 [height, width, 3] or [height, width]"
            )
        # A copy, because torch takes no arrays of negative strides and warns of read-only ones.
        pixels = torch.from_numpy(array.copy()).permute(2, 0, 1)[None].float() / 255
        height, width = pixels.shape[2:]
        short = min(height, width)
        size = [self.resize * height // short, self.resize * width // short]
        pixels = F.interpolate(
            pixels, size, mode=self.interpolation, align_corners=False, antialias=True
        )
        top, left = (size[0] - self.crop) // 2, (size[1] - self.crop) // 2
        # Bicubic overshoots at edges, and no image has such values.
        pixels = pixels[:, :, top : top + self.crop, left : left + self.crop].clamp(0, 1)
        mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_STD))
        return (pixels - mean) / std


class LinearHead(nn.Module):
    """Classifies from the class token and the mean patch token."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor, prefix: int) -> None:
        """Hold the weights.

        Args:
            weight: [classes, 2 x dim].
            bias: [classes].
            prefix: tokens before the patch tokens: the class token and the registers.
        """
        super().__init__()
        self.weight = nn.Parameter(weight)
        self.bias = nn.Parameter(bias)
        self.prefix = prefix

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return logits [batch, classes] of normalised tokens [batch, tokens, dim]."""
        pooled = torch.cat([tokens[:, 0], tokens[:, self.prefix :].mean(1)], dim=-1)
        return F.linear(pooled, self.weight, self.bias)


class Vit(Family):
    """DINOv3 split after a block: what crosses is that block's output, before the final norm.

    Keys are ``layer.<i>``, [tokens, dim] each: the class token, the registers, the patches by rows.
    The context is ``image_size``, int64 [2]: height and width of the backbone's input in pixels.
    """

    name: ClassVar[str] = "vit"

    def __init__(
        self,
        profile: ProfileSpec,
        backbone: Any,
        head: LinearHead | None,
        *,
        half: Literal["front", "whole"] = "whole",
    ) -> None:
        """Split a model that is in memory.

        Args:
            profile: the declaration.
            backbone: a ``DINOv3ViTModel``; for the front half, of the blocks up to the last key.
            head: its classifier; None serves the front half only.
            half: what there is of the backbone.

        Raises:
            DeclarationError: the profile's keys, modes or preprocessing are not of this family.
            ModelError: the backbone has no such block.
        """
        self.profile = profile
        self.half = half
        self._preprocess = Preprocess.declared(profile)
        self._backbone = backbone.eval().requires_grad_(False)
        self._head = None if head is None else head.eval().requires_grad_(False)
        self._blocks = _declared_blocks(profile)
        _require_blocks(profile, self._blocks, len(backbone.model.layer))
        for mode, spec in profile.modes.items():
            if len(spec.keys) != 1 or "image_size" not in spec.context:
                raise DeclarationError(f"mode {mode}: needs one key and the context image_size")

    @classmethod
    def load(
        cls, profile: ProfileSpec, *, device: str = "cpu", half: Literal["front", "whole"] = "whole"
    ) -> Self:
        """Load the weights that a profile names: ``bundled:<name>``, a folder or a Hub id.

        Args:
            profile: the declaration.
            device: where the model runs; what it captures and answers comes back to the CPU.
            half: ``front`` loads the blocks up to the last declared one and nothing after them.

        Raises:
            ModelError: the checkpoint is missing, unreadable or of another architecture.
            DeclarationError: the profile's keys, modes or preprocessing are not of this family.
            MissingDependencyError: transformers is not installed.
        """
        transformers = require("transformers", "models")
        checkpoint = Checkpoint(profile.model)
        checkpoint.require_type("dinov3_vit")
        dtype: torch.dtype = getattr(torch, profile.model.dtype)
        blocks = _declared_blocks(profile)
        # Names of stages, for detectors, that a shorter model may not have.
        config = {k: v for k, v in checkpoint.config.items() if k not in STAGE_ENTRIES}
        if half == "front":
            declared = config.get("num_hidden_layers")
            if isinstance(declared, int):
                _require_blocks(profile, blocks, declared)
            backbone = checkpoint.build(
                transformers.DINOv3ViTModel,
                _front_tensors(blocks),
                dtype=dtype,
                config=shortened(config, max(blocks.values()) + 1),
                unused=lambda name: name.startswith("norm."),
            )
            head = None
        else:
            backbone = checkpoint.build(transformers.DINOv3ViTModel, dtype=dtype, config=config)
            head = _load_head(checkpoint, backbone.config, dtype)
        model = cls(
            profile,
            backbone.to(device),
            None if head is None else head.to(device),
            half=half,
        )
        model.parameters_loaded = checkpoint.parameters_loaded
        model.parameters_total = checkpoint.parameters_total + _head_parameters(checkpoint)
        # After loading, so that an unreadable file is reported as such.
        model.revision = checkpoint.revision(_front_tensors(blocks))
        return model

    @classmethod
    def revision_of(cls, profile: ProfileSpec) -> str:
        """Say what `revision` a profile's checkpoint would have, without loading it.

        Raises:
            ModelError: the checkpoint is missing, or its files are damaged.
        """
        return Checkpoint(profile.model).revision(_front_tensors(_declared_blocks(profile)))

    @torch.no_grad()
    def front(self, inputs: Mapping[str, Any]) -> Capture:
        """Run the blocks up to the last declared one.

        Args:
            inputs: ``image``, uint8 [height, width, 3], or [height, width] if it is grey.

        Raises:
            SampleError: the image is no such array.
        """
        pixels = self._pixels(inputs)
        size = torch.tensor(pixels.shape[2:], dtype=torch.int64)
        hidden = self._backbone.embeddings(pixels)
        positions = self._positions(size)
        outputs = []
        for block in self._backbone.model.layer[: max(self._blocks.values()) + 1]:
            hidden = block(hidden, position_embeddings=positions)
            outputs.append(hidden)
        return Capture(
            features={key: outputs[i][0].cpu() for key, i in self._blocks.items()},
            context={"image_size": size},
        )

    @torch.no_grad()
    def plain(self, inputs: Mapping[str, Any]) -> Output:
        """Run the whole model through its library's own forward pass.

        Args:
            inputs: as for `front`.

        Raises:
            SampleError: the image is no such array.
            ModelError: the checkpoint has no head.
        """
        head = self._require_head()
        return self._answer(head(self._backbone(self._pixels(inputs)).last_hidden_state))

    @torch.no_grad()
    def _back(
        self, features: Mapping[str, torch.Tensor], context: Mapping[str, torch.Tensor], mode: str
    ) -> Output:
        head = self._require_head()
        (key,) = self.profile.mode(mode).keys
        feature, size = features[key], context["image_size"]
        positions = self._positions(size)
        config = self._backbone.config
        shape = (1 + config.num_register_tokens + positions[0].shape[0], config.hidden_size)
        if feature.shape != shape:
            raise SampleError(
                f"{key}: {list(feature.shape)}; an image of {size.tolist()} gives {list(shape)}"
            )
        # A copy, because matrix products may round differently on memory that is not aligned, as
        # slices of a mapped file are; a fresh tensor has the alignment that `plain` sees.
        hidden = torch.empty((1, *shape), dtype=self._backbone.dtype, device=self._backbone.device)
        hidden[0] = feature
        for block in self._backbone.model.layer[self._blocks[key] + 1 :]:
            hidden = block(hidden, position_embeddings=positions)
        return self._answer(head(self._backbone.norm(hidden)))

    def _pixels(self, inputs: Mapping[str, Any]) -> torch.Tensor:
        pixels = self._preprocess(inputs["image"])
        return pixels.to(self._backbone.device, self._backbone.dtype)

    def _positions(self, size: torch.Tensor) -> Any:
        # The library takes pixels here, but reads no more than their shape, dtype and device.
        blank = torch.empty((), dtype=self._backbone.dtype, device=self._backbone.device)
        height, width = (int(side) for side in size)
        return self._backbone.rope_embeddings(blank.expand(1, 3, height, width))

    def _require_head(self) -> LinearHead:
        if self.half == "front":
            raise ModelError(f"{self.profile.model.id}: only its front half was loaded")
        if self._head is None:
            raise ModelError(
                f"{self.profile.model.id}: no {HEAD_FILE} of weight [classes, 2 x dim] and bias; "
                "put one beside config.json in a local copy and name that folder as the model"
            )
        return self._head

    @staticmethod
    def _answer(logits: torch.Tensor) -> Output:
        logits = logits[0].cpu()
        return Output(prediction=int(logits.argmax()), logits=logits)


def _declared_blocks(profile: ProfileSpec) -> dict[str, int]:
    """Read the number of the block that each key names."""
    blocks = {}
    for tensor in profile.keys:
        match = re.fullmatch(r"layer\.(\d+)", tensor.name)
        if match is None:
            raise DeclarationError(f"key {tensor.name!r}: a vit has keys layer.<i>")
        blocks[tensor.name] = int(match[1])
    return blocks


def _require_blocks(profile: ProfileSpec, blocks: Mapping[str, int], count: int) -> None:
    for key, block in blocks.items():
        if block >= count:
            raise ModelError(f"{profile.model.id}: has {count} blocks, so no {key}")


def _front_tensors(blocks: Mapping[str, int]) -> Wanted:
    return up_to_block(max(blocks.values()), stem="layer", without=["norm"])


def _head_parameters(checkpoint: Checkpoint) -> int:
    shapes = checkpoint.shapes_beside(HEAD_FILE)
    return sum(math.prod(shape) for shape in shapes.values())


def _load_head(checkpoint: Checkpoint, config: Any, dtype: torch.dtype) -> LinearHead | None:
    tensors = checkpoint.read_beside(HEAD_FILE)
    if not tensors:
        return None
    shapes = {key: tuple(value.shape) for key, value in tensors.items()}
    width = 2 * config.hidden_size
    match shapes:
        case {"weight": (rows, columns), "bias": (classes,)} if len(shapes) == 2:
            fits = rows == classes and columns == width
        case _:
            fits = False
    if not fits:
        raise ModelError(
            f"{checkpoint.name}: {HEAD_FILE} has {shapes}; "
            f"needs weight [classes, {width}] and bias [classes]"
        )
    return LinearHead(
        tensors["weight"].to(dtype), tensors["bias"].to(dtype), 1 + config.num_register_tokens
    )
