"""DINOv3 vision transformers with three kinds of heads, split after one block or several.

A checkpoint is a folder, or a repository on the Hub, of these files:

* ``config.json`` and ``model.safetensors`` (or its numbered parts and their index): the backbone as
  transformers publishes it, of model type ``dinov3_vit``;
* the head of the task: ``head.safetensors`` (classification), ``segmentation_head.safetensors`` or
  ``depth_head.safetensors``; `lamofcbench.models.heads` says what they hold.

The front half needs no head, so features can be captured from a backbone alone. The published
backbones come without heads, and those that the published segmentation and depth models use are
not weights of transformers: to answer at full size, put a head file into a local copy.

The axes of a profile's keys say which task it is: [token, dim] classification, [crop, token, dim]
segmentation, [view, token, dim] depth.
"""

import math
import re
import sys
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Self

import torch

from lamofcbench.errors import DeclarationError, ModelError, SampleError
from lamofcbench.models.base import Capture, Family, Half, Output
from lamofcbench.models.checkpoint import (
    Checkpoint,
    Wanted,
    everything,
    shortened,
    up_to_block,
)
from lamofcbench.models.heads.depth import DepthHead
from lamofcbench.models.heads.linear import LinearHead
from lamofcbench.models.heads.segmentation import SegmentationHead
from lamofcbench.models.vit_adapted import adapted_profile
from lamofcbench.models.vit_inputs import FlippedPair, Preprocess, SlidingCrops
from lamofcbench.optional import require
from lamofcbench.spec import ProfileSpec

__all__ = ["TASKS", "Vit"]

TASKS: dict[tuple[str, ...], tuple[Any, Any]] = {
    ("token", "dim"): (Preprocess, LinearHead),
    ("crop", "token", "dim"): (SlidingCrops, SegmentationHead),
    ("view", "token", "dim"): (FlippedPair, DepthHead),
}
"""What prepares a task's inputs, and its head, by the axes of the keys."""
STAGE_ENTRIES = ("stage_names", "out_features", "out_indices")


class Vit(Family):
    """DINOv3 split after blocks: what crosses are those blocks' outputs, before the final norm.

    Keys are ``layer.<i>``, [..., tokens, dim] each: the class token, the registers, the patches by
    rows. The context is ``image_size``, int64 [2]: height and width after resizing, in pixels; and
    for maps ``map_size``, int64 [2]: those of the answer.

    A mode of a classifier has one key; the rest of the network runs on it. The other heads read
    several levels. A mode with all of them, ``multi``, replaces them all and runs no block. A mode
    with one, ``single:<i>``, replaces that level and computes the later ones from it; the earlier
    ones, which are not there to be read, are left out of the head's sum. So its uncoded answer is
    that of `plain` with the mode's name, which differs from that of all levels unless the mode's
    level is the first.
    """

    name: ClassVar[str] = "vit"

    def __init__(
        self,
        profile: ProfileSpec,
        backbone: Any,
        head: Any,
        *,
        half: Half = "whole",
    ) -> None:
        """Split a model that is in memory.

        Args:
            profile: the declaration.
            backbone: a ``DINOv3ViTModel``; for the front half, of the blocks up to the last key.
            head: the task's head; None serves the front half only.
            half: what there is of the backbone.

        Raises:
            DeclarationError: the profile's keys, modes or preprocessing are not of this family.
            ModelError: the backbone has no such block.
        """
        self.profile = profile
        self.half = half
        inputs, self._head_type = _task(profile)
        self._inputs = inputs.declared(profile)
        self._dense = self._head_type is not LinearHead
        self._backbone = backbone.eval().requires_grad_(False)
        self._head: Any = None if head is None else head.eval().requires_grad_(False)
        self._blocks = _declared_blocks(profile)
        _require_blocks(profile, self._blocks, len(backbone.model.layer))
        for mode, spec in profile.modes.items():
            if sorted(spec.context) != sorted(inputs.context):
                raise DeclarationError(
                    f"mode {mode}: needs the context {', '.join(inputs.context)}"
                )
            if len(spec.keys) != 1 and not self._dense:
                raise DeclarationError(f"mode {mode}: a classifier continues from one key")

    @classmethod
    def load(
        cls,
        profile: ProfileSpec,
        *,
        device: str = "cpu",
        half: Half = "whole",
        mode: str | None = None,
    ) -> Self:
        """Load the weights that a profile names: ``bundled:<name>``, a folder or a Hub id.

        Args:
            profile: the declaration.
            device: where the model runs; what it captures and answers comes back to the CPU.
            half: ``front`` loads the blocks up to the last declared one and nothing after them,
                ``back`` those that a mode runs after its keys, and the head.
            mode: which, for the back half; the first by default.

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
            needed = _back_tensors(profile, blocks, mode) if half == "back" else everything
            backbone = checkpoint.build(
                transformers.DINOv3ViTModel,
                needed,
                dtype=dtype,
                config=config,
                unused=lambda name: not needed(name),
            )
            head = _load_head(checkpoint, profile, backbone.config, dtype)
        model = cls(
            profile,
            backbone.to(device),
            None if head is None else head.to(device),
            half=half,
        )
        model.parameters_loaded = checkpoint.parameters_loaded
        model.parameters_total = checkpoint.parameters_total + _head_parameters(checkpoint, profile)
        model.loaded_half(half, mode)
        # After loading, so that an unreadable file is reported as such.
        model.revision = "" if half == "back" else checkpoint.revision(_front_tensors(blocks))
        return model

    @classmethod
    def adapted(cls, profile: ProfileSpec) -> ProfileSpec:
        """Bring the declared blocks and shapes to the checkpoint that the profile now names.

        Raises:
            ModelError: the checkpoint is missing, of another architecture or too shallow.
        """
        checkpoint = Checkpoint(profile.model)
        checkpoint.require_type("dinov3_vit")
        return adapted_profile(profile, checkpoint.config)

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
        self.require_half("front")
        pixels, context = self._prepared(inputs)
        lead, size = self._inputs.batch(context)
        hidden = self._backbone.embeddings(pixels)
        positions = self._positions(size)
        features = {}
        for i, block in enumerate(self._backbone.model.layer[: self._levels()[-1] + 1]):
            hidden = block(hidden, position_embeddings=positions)
            if i in self._blocks.values():
                features[i] = hidden if lead else hidden[0]
        return Capture({key: features[i].cpu() for key, i in self._blocks.items()}, context)

    @torch.no_grad()
    def plain(self, inputs: Mapping[str, Any], mode: str | None = None) -> Output:
        """Run the whole model through its library's own forward pass.

        Args:
            inputs: as for `front`.
            mode: whose answer to give, where the head reads several levels: its first level and
                all later ones. By default all levels.

        Raises:
            SampleError: the image is no such array.
            ModelError: the checkpoint has no head, or only the front half was loaded.
            UnknownNameError: no such mode.
        """
        self.require_half("whole")
        self._require_head()
        pixels, context = self._prepared(inputs)
        if not self._dense:
            return self._classified(self._backbone(pixels).last_hidden_state)
        keys = list(self._blocks) if mode is None else self.profile.mode(mode).keys
        first = min(self._blocks[key] for key in keys)
        states = self._backbone(pixels, output_hidden_states=True).hidden_states
        levels = {i: states[i + 1] for i in self._levels() if i >= first}
        return self._mapped(levels, context)

    @torch.no_grad()
    def _back(
        self, features: Mapping[str, torch.Tensor], context: Mapping[str, torch.Tensor], mode: str
    ) -> Output:
        self._require_head()
        lead, size = self._inputs.batch(context)
        positions = self._positions(size)
        config = self._backbone.config
        shape = (*lead, 1 + config.num_register_tokens + positions[0].shape[0], config.hidden_size)
        injected = {
            self._blocks[key]: self._injected(key, features[key], shape)
            for key in self.profile.mode(mode).keys
        }
        stops = self._levels() if self._dense else [len(self._backbone.model.layer) - 1]
        hidden = torch.empty(0)
        levels = {}
        for stop, run in _runs(injected, stops).items():
            if stop in injected:
                hidden = injected[stop]
            for number in run:
                hidden = self._backbone.model.layer[number](hidden, position_embeddings=positions)
            levels[stop] = hidden
        if self._dense:
            return self._mapped(levels, context)
        return self._classified(self._backbone.norm(hidden))

    def _injected(self, key: str, feature: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
        if feature.shape != shape:
            raise SampleError(f"{key}: {list(feature.shape)}; the context gives {list(shape)}")
        # A copy, because matrix products may round differently on memory that is not aligned, as
        # slices of a mapped file are; a fresh tensor has the alignment that `plain` sees.
        batch = shape if len(shape) == 3 else (1, *shape)
        hidden = torch.empty(batch, dtype=self._backbone.dtype, device=self._backbone.device)
        return hidden.copy_(feature.view(batch) if len(shape) == 3 else feature[None])

    @torch.no_grad()
    def embedding(self, inputs: Mapping[str, Any]) -> torch.Tensor:
        """What the backbone makes of a whole image: its class token [dim], after the final norm.

        Args:
            inputs: as for `front`; a classifier's.
        """
        self.require_half("whole")
        pixels, _ = self._prepared(inputs)
        return self._backbone(pixels).last_hidden_state[0, 0].float().cpu()  # type: ignore[no-any-return]

    def _prepared(self, inputs: Mapping[str, Any]) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        pixels, context = self._inputs.prepare(inputs["image"])
        return pixels.to(self._backbone.device, self._backbone.dtype), context

    def _levels(self) -> list[int]:
        return sorted(self._blocks.values())

    def _positions(self, size: tuple[int, int]) -> Any:
        # The library takes pixels here, but reads no more than their shape, dtype and device.
        blank = torch.empty((), dtype=self._backbone.dtype, device=self._backbone.device)
        return self._backbone.rope_embeddings(blank.expand(1, 3, *size))

    def _require_head(self) -> None:
        if self._head is None:
            layout = self._head_type.layout(self._backbone.config.hidden_size, len(self._blocks))
            raise ModelError(
                f"{self.profile.model.id}: no {self._head_type.file} of {layout}; "
                "put one beside config.json in a local copy and name that folder as the model"
            )

    def _classified(self, tokens: torch.Tensor) -> Output:
        logits = self._head(tokens)[0].cpu()
        return Output(prediction=int(logits.argmax()), logits=logits)

    def _mapped(
        self, levels: Mapping[int, torch.Tensor], context: Mapping[str, torch.Tensor]
    ) -> Output:
        """Answer a map from tokens [batch, tokens, dim] by block."""
        _, (height, width) = self._inputs.batch(context)
        patch = self._backbone.config.patch_size
        order = self._levels()
        parts = {order.index(block): tokens for block, tokens in levels.items()}
        answers = self._head(parts, (height // patch, width // patch))
        merged = self._inputs.merged(answers, context).cpu()
        if self._head_type is SegmentationHead:
            return Output(prediction=merged.argmax(0).to(torch.uint8), logits=merged)
        return Output(prediction=merged, logits=merged)


def _task(profile: ProfileSpec) -> tuple[Any, Any]:
    axes = {tensor.axes for tensor in profile.keys}
    if len(axes) != 1 or (task := TASKS.get(next(iter(axes)))) is None:
        known = " or ".join(f"[{', '.join(known)}]" for known in TASKS)
        raise DeclarationError(f"keys: a vit has keys layer.<i>, all of axes {known}")
    return task


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


def _runs(injected: Iterable[int], stops: Iterable[int]) -> dict[int, range]:
    """Plan a pass through a back half.

    Args:
        injected: blocks whose outputs are given.
        stops: blocks whose outputs are wanted; those before all that is given are left out.

    Returns:
        By the number of each block whose output is given or computed, in order, the blocks to run
        for it: none if it is given.
    """
    given = set(injected)
    order = sorted(stop for stop in {*stops, *given} if stop >= min(given))
    runs, done = {}, -1
    for stop in order:
        runs[stop] = range(0) if stop in given else range(done + 1, stop + 1)
        done = stop
    return runs


def _back_tensors(profile: ProfileSpec, blocks: Mapping[str, int], mode: str | None) -> Wanted:
    """Want the blocks that a mode runs, and the final norm."""
    injected = [blocks[key] for key in profile.mode(mode).keys]
    dense = _task(profile)[1] is not LinearHead
    # A classifier runs to the last block, whichever that is.
    last = max(blocks.values()) if dense else sys.maxsize
    runs = _runs(injected, blocks.values() if dense else [last])
    number = re.compile(r"(?:^|\.)layer\.(\d+)\.")

    def wanted(name: str) -> bool:
        if (match := number.search(name)) is not None:
            return any(int(match[1]) in run for run in runs.values())
        return "norm" in name.split(".")

    return wanted


def _head_parameters(checkpoint: Checkpoint, profile: ProfileSpec) -> int:
    shapes = checkpoint.shapes_beside(_task(profile)[1].file)
    return sum(math.prod(shape) for shape in shapes.values())


def _load_head(
    checkpoint: Checkpoint, profile: ProfileSpec, config: Any, dtype: torch.dtype
) -> Any:
    kind = _task(profile)[1]
    tensors = checkpoint.read_beside(kind.file)
    if not tensors:
        return None
    try:
        return kind.from_tensors(
            {name: tensor.to(dtype) for name, tensor in tensors.items()},
            config.hidden_size,
            len(profile.keys),
            1 + config.num_register_tokens,
        )
    except ModelError as error:
        raise ModelError(f"{checkpoint.name}: {error}") from None
