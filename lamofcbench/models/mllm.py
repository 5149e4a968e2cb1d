"""Qwen3-VL, split after its vision tower or after a layer of its language model."""

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import torch

from lamofcbench.errors import ModelError, SampleError
from lamofcbench.models.base import Capture, Half, Output
from lamofcbench.models.checkpoint import Checkpoint, Wanted, everything, shortened, up_to_block
from lamofcbench.models.decoder import SplitDecoder, declared_split
from lamofcbench.models.text import greedy_generation, transformers
from lamofcbench.models.tokenizer import TOKENIZER_FILES, load_tokenizer, stop_tokens
from lamofcbench.models.tokens import Resumed, TokenFamily
from lamofcbench.spec import ProfileSpec

__all__ = ["Mllm", "Prompt", "patchify", "resize"]

IMAGE_TOKEN = "<|image_pad|>"
_MEAN = _STD = 0.5
_MAX_NEW_TOKENS = 16
_MAX_ASPECT = 200


def _without_vision(name: str) -> bool:
    return "visual" not in name.split(".")


class Prompt:
    """One sample as the model takes it, batch 1.

    Attributes:
        patches: [P, 3 * temporal * patch * patch] float32, in the order of the vision tower.
        grid: [1, 3] int64: frames, rows and columns of patches.
        ids: [1, N] int64.
        types: [1, N] int64, 1 for an image token, else 0.
    """

    def __init__(
        self, patches: torch.Tensor, grid: torch.Tensor, ids: torch.Tensor, image_token: int
    ) -> None:
        """Derive the token types from the ids."""
        self.patches = patches
        self.grid = grid
        self.ids = ids
        self.types = (ids == image_token).long()


def resize(image: torch.Tensor, step: int, min_pixels: int, max_pixels: int) -> torch.Tensor:
    """Resize an image so that both sides are multiples of ``step``.

    Args:
        image: [3, H, W] uint8.
        step: pixels of a merged patch.
        min_pixels: the least area of the result, as nearly as its shape allows.
        max_pixels: the largest area of the result.

    Returns:
        [3, h, w] uint8, bicubic with antialiasing; the image itself if it fits already.

    Raises:
        SampleError: one side is more than 200 times the other.
    """
    height, width = image.shape[1:]
    if max(height, width) > _MAX_ASPECT * min(height, width):
        raise SampleError(f"image of {width} x {height} pixels: too long for its width")

    def fit(side: int, scale: float, rounding: Any) -> int:
        return max(step, int(rounding(side * scale / step)) * step)

    size = (fit(height, 1, round), fit(width, 1, round))
    if size[0] * size[1] > max_pixels:
        scale = (max_pixels / (height * width)) ** 0.5
        size = (fit(height, scale, np.floor), fit(width, scale, np.floor))
    elif size[0] * size[1] < min_pixels:
        scale = (min_pixels / (height * width)) ** 0.5
        size = (fit(height, scale, np.ceil), fit(width, scale, np.ceil))
    if size == (height, width):
        return image
    return torch.nn.functional.interpolate(image[None], size, mode="bicubic", antialias=True)[0]


def patchify(images: torch.Tensor, patch: int, merge: int, temporal: int) -> torch.Tensor:
    """Cut images into patches, those that will be merged next to one another.

    Args:
        images: [B, 3, H, W] uint8, sides multiples of ``patch * merge``.
        patch: side of a patch, pixels.
        merge: side of a merged patch, patches.
        temporal: frames of a patch; a still image is repeated.

    Returns:
        [B * P, 3 * temporal * patch * patch] float32, in -1 to 1; a patch is channel, frame, row,
        column.
    """
    batch, channels, height, width = images.shape
    rows, columns = height // patch, width // patch
    pixels = (images.float() / 255 - _MEAN) / _STD
    pixels = pixels.view(
        batch, channels, rows // merge, merge, patch, columns // merge, merge, patch
    )
    pixels = pixels.permute(0, 2, 5, 3, 6, 1, 4, 7)[:, :, :, :, :, :, None]
    pixels = pixels.expand(*pixels.shape[:6], temporal, patch, patch)
    return pixels.reshape(batch * rows * columns, channels * temporal * patch * patch)


class Mllm(TokenFamily):
    """Qwen3-VL: answers a question about an image.

    Inputs are ``image`` ([H, W, 3] uint8, numpy) and ``question`` (text). The prediction is the
    answer's text. ``preprocess`` may declare ``min_pixels`` and ``max_pixels`` (area of the resized
    image) and ``max_new_tokens`` (16 by default).
    """

    name = "mllm"

    def __init__(
        self,
        profile: ProfileSpec,
        model: Any,
        tokenizer: Any,
        ends: list[int],
        half: Half = "whole",
    ) -> None:
        """Wrap a loaded model; use `load`.

        Args:
            profile: the declaration.
            model: the library's model with its head, or without it for the front half alone.
            tokenizer: with a chat template.
            ends: tokens that end an answer.
            half: which half is there.

        Raises:
            DeclarationError: the profile declares tensors that this family doesn't have.
            ModelError: the model has other shapes than the profile declares.
        """
        self.profile = profile
        self.model = model
        self.tokenizer = tokenizer
        self.half = half
        self.inner, head = (model.model, model.lm_head) if half != "front" else (model, None)
        self.names = [tensor.name for tensor in profile.keys]
        self.levels = len(model.config.vision_config.deepstack_visual_indexes)
        self._check_names()
        self.decoder = SplitDecoder(self.inner.language_model, head, declared_split(self.names))
        if self.decoder.split < self.levels:
            # DeepStack adds to what a layer has put out, outside of the layer.
            raise ModelError(f"a split after layer {self.decoder.split} lies within DeepStack")
        self._check_shapes()
        vision = model.config.vision_config
        self._patch = int(vision.patch_size)
        self._merge = int(vision.spatial_merge_size)
        self._temporal = int(vision.temporal_patch_size)
        self.ends = ends
        self.limit = int(profile.preprocess.get("max_new_tokens", _MAX_NEW_TOKENS))
        if half != "front":
            model.generation_config = greedy_generation(self.limit, ends, tokenizer)

    @classmethod
    def _front_tensors(cls, profile: ProfileSpec) -> Wanted:
        split = declared_split(tensor.name for tensor in profile.keys)
        outside = ["lm_head", r"language_model\.norm"]
        return up_to_block(split, stem="language_model.layers", without=outside)

    @classmethod
    def load(
        cls,
        profile: ProfileSpec,
        *,
        device: str = "cpu",
        half: Half = "whole",
        mode: str | None = None,
    ) -> Self:
        """Load the weights that a profile names; see `Family.load`."""
        checkpoint = Checkpoint(profile.model)
        checkpoint.require_type("qwen3_vl")
        dtype: torch.dtype = getattr(torch, profile.model.dtype)
        if half == "front":
            split = declared_split(tensor.name for tensor in profile.keys)
            text = shortened(checkpoint.config["text_config"], split + 1)
            model = checkpoint.build(
                transformers.Qwen3VLModel,
                cls._front_tensors(profile),
                dtype=dtype,
                config={**checkpoint.config, "text_config": text},
                unused=lambda name: name.startswith("language_model.norm."),
            )
        else:
            whole = transformers.Qwen3VLForConditionalGeneration
            # Whatever the mode, the back half sees no pixels.
            needed = _without_vision if half == "back" else everything
            model = checkpoint.build(
                whole, needed, dtype=dtype, unused=lambda name: not needed(name)
            )
        tokenizer = load_tokenizer(checkpoint.files_beside)
        ends = stop_tokens(checkpoint.files_beside, tokenizer)
        family = cls(profile, model.to(device), tokenizer, ends, half)
        family.parameters_loaded = checkpoint.parameters_loaded
        family.parameters_total = checkpoint.parameters_total
        family.loaded_half(half, mode)
        family.revision = "" if half == "back" else cls.revision_of(profile)
        return family

    @classmethod
    def revision_of(cls, profile: ProfileSpec) -> str:
        """See `Family.revision_of`."""
        return Checkpoint(profile.model).revision(cls._front_tensors(profile), TOKENIZER_FILES)

    def _check_names(self) -> None:
        ours = {"vision.output", *(f"vision.deepstack.{k}" for k in range(self.levels))}
        for name in self.names:
            if name not in ours and not name.startswith("layer."):
                raise ModelError(f"{self.profile.model.id}: has no tensor {name!r}")

    def _check_shapes(self) -> None:
        text = self.model.config.text_config
        for tensor in self.profile.keys:
            sizes = tuple(size for size in tensor.shape if isinstance(size, int))
            cache = tensor.name.endswith("_cache")
            real = (text.num_key_value_heads, text.head_dim) if cache else (text.hidden_size,)
            if sizes != real:
                raise ModelError(
                    f"{self.profile.model.id}: {tensor.name} has sizes {real}, declared are {sizes}"
                )

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.model.device  # type: ignore[no-any-return]

    def prompt(self, inputs: Mapping[str, Any]) -> Prompt:
        """Build the model's inputs from raw ones.

        Raises:
            SampleError: the image is not [H, W, 3] uint8, or the question has an image token.
        """
        image = np.asarray(inputs["image"])
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise SampleError(f"image must be [H, W, 3] uint8, not {image.shape} {image.dtype}")
        declared = self.profile.preprocess
        step = self._patch * self._merge
        pixels = resize(
            torch.tensor(image).permute(2, 0, 1),
            step,
            int(declared.get("min_pixels", 0)),
            int(declared.get("max_pixels", 1 << 24)),
        )
        patches = patchify(pixels[None], self._patch, self._merge, self._temporal)
        grid = torch.tensor([[1, pixels.shape[1] // self._patch, pixels.shape[2] // self._patch]])
        content = [{"type": "image"}, {"type": "text", "text": inputs["question"]}]
        text = self.tokenizer.apply_chat_template(
            [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
        )
        if text.count(IMAGE_TOKEN) != 1:
            raise SampleError(f"the prompt must hold {IMAGE_TOKEN} once: {text[:200]!r}")
        count = len(patches) // self._merge**2
        ids = self.tokenizer(
            text.replace(IMAGE_TOKEN, IMAGE_TOKEN * count), add_special_tokens=False
        )["input_ids"]
        return Prompt(
            patches.to(self.device),
            grid.to(self.device),
            torch.tensor([ids], device=self.device),
            self.model.config.image_token_id,
        )

    def _positions(self, types: torch.Tensor, grid: torch.Tensor) -> torch.Tensor:
        """Rotary positions [3, 1, N]; they depend on where the image is, not on the tokens."""
        # An instance of the library computes them from ids of which it reads the count alone.
        return self.inner.get_rope_index(torch.zeros_like(types), types, grid)[0]  # type: ignore[no-any-return]

    def _hidden(self, ids: torch.Tensor, vision: Any, cache: Any, grid: torch.Tensor) -> Any:
        """Run the language model over a prompt with encoded images: [1, N, D]."""
        types = (ids == self.model.config.image_token_id).long()
        return self.inner(
            input_ids=ids,
            position_ids=self._positions(types, grid),
            past_key_values=cache,
            use_cache=True,
            mm_encoder_outputs={"image": vision},
        ).last_hidden_state

    def answer(self, tokens: list[int], logits: torch.Tensor) -> Output:
        """See `TokenFamily.answer`."""
        text = self.tokenizer.decode(tokens, skip_special_tokens=True)
        return Output(prediction=text.strip(), logits=logits)

    @torch.inference_mode()
    def front(self, inputs: Mapping[str, Any]) -> Capture:
        """Run the vision tower and the layers up to the split; see `Family.front`."""
        self.require_half("front")
        prompt = self.prompt(inputs)
        vision = self.inner.get_image_features(prompt.patches, prompt.grid)
        with self.decoder.stopping() as captured:
            self._hidden(prompt.ids, vision, captured.cache, prompt.grid)
        features = {}
        for name in self.names:
            if name == "vision.output":
                features[name] = torch.cat(vision.pooler_output)
            elif name.startswith("vision."):
                level = int(name.rpartition(".")[2])
                features[name] = torch.cat(vision.deepstack_features[level])
            else:
                features[name] = captured.tensor(name)
        context = {
            "image_grid": prompt.grid[0],
            "image_start": prompt.types[0].argmax()[None],
            "token_ids": prompt.ids[0],
        }
        declared = {tensor.name: context[tensor.name] for tensor in self.profile.context}
        return Capture(features, declared, prompt.ids[0].cpu())

    @torch.inference_mode()
    def plain(self, inputs: Mapping[str, Any], mode: str | None = None) -> Output:
        """Generate with the library alone, the same in every mode; see `Family.plain`."""
        self.require_half("whole")
        prompt = self.prompt(inputs)
        result = self.model.generate(
            input_ids=prompt.ids,
            attention_mask=torch.ones_like(prompt.ids),
            pixel_values=prompt.patches,
            image_grid_thw=prompt.grid,
            mm_token_type_ids=prompt.types,
            output_logits=True,
            return_dict_in_generate=True,
        )
        tokens = result.sequences[0, prompt.ids.shape[1] :].tolist()
        return self.answer(tokens, torch.cat(result.logits).float())

    def _resume(
        self, features: Mapping[str, torch.Tensor], context: Mapping[str, torch.Tensor], mode: str
    ) -> Resumed:
        on = self.device
        grid = context["image_grid"].to(on)[None]
        if any(name.startswith("layer.") for name in features):
            split = self.decoder.split
            output = features[f"layer.{split}.output"].to(on)
            start = int(context["image_start"])
            count = int(grid.prod()) // self._merge**2
            types = torch.zeros(1, len(output), dtype=torch.int64, device=on)
            types[0, start : start + count] = 1
            positions = self._positions(types, grid)
            caches = [
                (features[f"layer.{i}.k_cache"].to(on), features[f"layer.{i}.v_cache"].to(on))
                for i in range(split + 1)
            ]
            cache, logits = self.decoder.resume(output, caches, positions)
        else:
            ids = context["token_ids"].to(on)[None]
            levels = [(features[f"vision.deepstack.{k}"].to(on),) for k in range(self.levels)]
            vision = transformers.modeling_outputs.BaseModelOutputWithPooling(
                pooler_output=(features["vision.output"].to(on),)
            )
            vision.deepstack_features = levels
            cache = self.decoder.new_cache()
            logits = self.decoder.logits(self._hidden(ids, vision, cache, grid)[:, -1:])[-1]
            positions = self._positions((ids == self.model.config.image_token_id).long(), grid)
        return self.decoder.resumed(cache, logits, positions, lambda ids: {"input_ids": ids[None]})
