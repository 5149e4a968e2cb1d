"""Stable Diffusion 3 and 3.5 with a ControlNet, split around the transformer that denoises.

A checkpoint is a folder, or a repository on the Hub, in diffusers' layout: ``text_encoder``,
``text_encoder_2``, ``text_encoder_3``, their tokenizers, ``transformer``, ``vae`` and
``scheduler``. The ControlNet is the folder ``controlnet`` beside them, or what the profile's
preprocessing names: a folder or a repository of its own.

Both halves run the library's own pipeline; the back half gives it embeddings in place of the
prompts, and an autoencoder that hands over the captured moments in place of the control image.
"""

import copy
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, ClassVar, Self

import torch
from torch.nn import functional as F

from lamofcbench.errors import DeclarationError, ModelError, SampleError
from lamofcbench.models.base import Capture, Family, Half, Output
from lamofcbench.models.control import Edges
from lamofcbench.models.quiet import quiet
from lamofcbench.models.t2i_generation import Generation
from lamofcbench.models.t2i_load import PARTS, load_pipeline, pipeline_revision
from lamofcbench.optional import require
from lamofcbench.spec import ProfileSpec

__all__ = ["Generation", "T2i", "condition", "key_shapes"]

PROMPTS = ("pos", "neg")
CLIPS = ("text_encoder", "text_encoder_2")
T5 = "text_encoder_3"
TEXT_PARTS = {*CLIPS, T5}
LATENT = "vae.decoder"


def condition(
    hidden: Sequence[torch.Tensor], pooled: Sequence[torch.Tensor], third: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Join what the text encoders give into what the transformer takes.

    Args:
        hidden: of the two CLIP encoders, [batch, tokens, dim of each].
        pooled: of the two, [batch, dim of each].
        third: of the T5 encoder, [batch, tokens, dim], no narrower than the two CLIPs together.

    Returns:
        Tokens [batch, 2 x tokens, dim of the T5] and the pooled vector [batch, dim of both CLIPs].
    """
    clip = torch.cat(list(hidden), dim=-1)
    clip = F.pad(clip, (0, third.shape[-1] - clip.shape[-1]))
    return torch.cat([clip, third], dim=-2), torch.cat(list(pooled), dim=-1)


def key_shapes(
    clips: Sequence[Any], t5: Any, vae: Any, size: int, tokens: int
) -> dict[str, tuple[int, ...]]:
    """Shapes of all keys, from the parts' configurations alone.

    Args:
        clips: configurations of the two CLIP text encoders.
        t5: that of the T5 encoder.
        vae: that of the autoencoder.
        size: of the image, in pixels.
        tokens: per prompt.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    for prompt in PROMPTS:
        for name, config in zip(CLIPS, clips, strict=True):
            shapes[f"{name}.{prompt}.pooled"] = (config.projection_dim,)
            shapes[f"{name}.{prompt}.hidden"] = (tokens, config.hidden_size)
        shapes[f"{T5}.{prompt}.hidden"] = (tokens, t5.d_model)
    side = size // 2 ** (len(vae.block_out_channels) - 1)
    shapes["vae.encoder"] = (2 * vae.latent_channels, side, side)
    shapes["vae.decoder"] = (vae.latent_channels, side, side)
    return shapes


class _Handover:
    """Stands in for the autoencoder: gives captured moments for whatever image it is shown."""

    def __init__(self, vae: Any, moments: torch.Tensor, layout: torch.memory_format) -> None:
        self.config = vae.config
        self._vae = vae
        self._moments = moments
        self._layout = layout

    def encode(self, image: torch.Tensor) -> Any:
        autoencoders = require("diffusers.models.autoencoders.vae", "models")
        moments = self._moments.repeat(image.shape[0], 1, 1, 1)
        moments = moments.contiguous(memory_format=self._layout)
        if self._vae.quant_conv is not None:
            moments = self._vae.quant_conv(moments)
        return SimpleNamespace(latent_dist=autoencoders.DiagonalGaussianDistribution(moments))


class T2i(Family):
    """An image from a caption and edges.

    Keys are, for the caption (``pos``) and the empty text that guidance moves away from (``neg``):
    ``text_encoder.<prompt>.pooled`` [dim] and ``.hidden`` [tokens, dim], the same of
    ``text_encoder_2``, and ``text_encoder_3.<prompt>.hidden``; ``vae.encoder`` [2 x channels,
    height, width], mean and log variance of the control image's latent; and ``vae.decoder``
    [channels, height, width], the latent as it enters the decoder. A mode has either all but the
    last, and the back half denoises and decodes, or the last alone, and it only decodes.

    The context of the former is ``seed``, int64 [1]. It is drawn from the declared seed, the
    caption and the control image, so that no sample's noise depends on another sample or on its
    place in a set, nor is it the same in all. It seeds a generator for the initial noise, and, plus
    one, the noise of the control latent, which the pipeline draws from the device's own generator:
    that one is put back as it was. The control latent's noise therefore differs between kinds of
    devices.
    """

    name: ClassVar[str] = "t2i"

    def __init__(self, profile: ProfileSpec, pipeline: Any, revision: str) -> None:
        """Split a model that is in memory.

        Args:
            profile: the declaration.
            pipeline: a ``StableDiffusion3ControlNetPipeline``.
            revision: what pins the weights.

        Raises:
            DeclarationError: the profile's keys, modes or preprocessing are not of this family.
            ModelError: the model gives other shapes than the profile declares.
        """
        self.profile = profile
        self.revision = revision
        self.generation = Generation.declared(profile)
        self._edges = Edges(
            self.generation.size, self.generation.canny_low, self.generation.canny_high
        )
        self._pipeline = pipeline
        self._vae = pipeline.vae
        modules = [
            part for part in pipeline.components.values() if isinstance(part, torch.nn.Module)
        ]
        for module in modules:
            # Not frozen as well: linear layers round differently if their weights are, and users of
            # the pipeline don't freeze them.
            module.eval()
        self._device = self._vae.device
        self._check(profile)
        self._layout = _layout(self._vae)
        # The ControlNet may hold a copy of the transformer's patch embedding; it is counted once.
        own = sum(p.numel() for module in modules for p in module.parameters())
        control = pipeline.controlnet
        shared = control.pos_embed if control and not control.config.use_pos_embed else None
        copied = 0 if shared is None else sum(p.numel() for p in shared.parameters())
        self.parameters_total = self.parameters_loaded = own - copied

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
            half: ``front`` loads the whole, for the final latent is captured after all denoising,
                and only the VAE's decoder comes after it; ``back`` loads no text encoders and, if
                the mode is the latent alone, no more than the VAE.
            mode: which, for the back half; the first by default.

        Raises:
            ModelError: the checkpoint is missing, unreadable or of another architecture.
            DeclarationError: the profile's keys, modes or preprocessing are not of this family.
            MissingDependencyError: diffusers or transformers is not installed.
        """
        generation = Generation.declared(profile)
        parts = frozenset(PARTS)
        if half == "back":
            latent = profile.mode(mode).keys == (LATENT,)
            parts = frozenset({"vae"}) if latent else parts - TEXT_PARTS
        pipeline, revision = load_pipeline(
            profile.model, generation.controlnet, generation.controlnet_revision, device, parts
        )
        family = cls(profile, pipeline, revision)
        # The front half needs all, so what was loaded for it is the whole.
        family.loaded_half("back" if half == "back" else "whole", mode)
        return family

    @classmethod
    def revision_of(cls, profile: ProfileSpec) -> str:
        """See `Family.revision_of`."""
        generation = Generation.declared(profile)
        return pipeline_revision(
            profile.model, generation.controlnet, generation.controlnet_revision
        )

    @torch.no_grad()
    def front(self, inputs: Mapping[str, Any]) -> Capture:
        """Encode the prompts and the control image, and denoise up to the final latent.

        Args:
            inputs: ``prompt``, a text, and ``image``, uint8 [height, width, 3] or [height, width],
                or the bytes of an image file; only its edges are used.

        Raises:
            SampleError: the prompt is empty or no text, or the image is none.
        """
        self.require_half("front")
        prompt, control, seed = self._inputs(inputs)
        features: dict[str, torch.Tensor] = {}
        for kind, text in zip(PROMPTS, (prompt, ""), strict=True):
            features.update(self._encode_text(text, kind))
        # The pipeline encodes the control image once per prompt; so does this, since a batch of
        # two may round otherwise than one. Both rows are the same, and one is kept.
        features["vae.encoder"] = self._vae.encoder(control.repeat(2, 1, 1, 1))[:1]
        features[LATENT] = self._denoise(features, seed)
        context = {"seed": torch.tensor([seed], dtype=torch.int64)}
        return Capture(
            features={t.name: features[t.name][0].cpu() for t in self.profile.keys},
            context={t.name: context[t.name] for t in self.profile.context},
        )

    @torch.no_grad()
    def plain(self, inputs: Mapping[str, Any], mode: str | None = None) -> Output:
        """Run the library's pipeline whole, from the prompt and the control image to the image.

        Args:
            inputs: as for `front`.
            mode: makes no difference.

        Raises:
            SampleError: the prompt is empty or no text, or the image is none.
        """
        self.require_half("whole")
        prompt, control, seed = self._inputs(inputs)
        image = self._run(
            self._pipeline,
            seed,
            prompt=prompt,
            negative_prompt="",
            control_image=control,
            max_sequence_length=self.generation.tokens,
            output_type="pt",
        )
        return _answer(image)

    @torch.no_grad()
    def _back(
        self, features: Mapping[str, torch.Tensor], context: Mapping[str, torch.Tensor], mode: str
    ) -> Output:
        keys = self.profile.mode(mode).keys
        # Fresh copies, because products may round differently on memory that is not aligned.
        given = {}
        for key in keys:
            shape = self.profile.key(key).shape
            if features[key].shape != shape:
                raise SampleError(f"{key}: {list(features[key].shape)}; needs {list(shape)}")
            given[key] = torch.empty(
                (1, *features[key].shape), dtype=self._vae.dtype, device=self._device
            )
            given[key][0] = features[key]
        latent = given.get(LATENT)
        if latent is None:
            latent = self._denoise(given, int(context["seed"][0]))
        return _answer(self._decode(latent))

    def _check(self, profile: ProfileSpec) -> None:
        """Compare a profile's keys and modes with what the model gives."""
        parts, size = self._pipeline, self.generation.size
        if parts.text_encoder is None:
            # A back half: what is stored was checked when it was captured.
            return
        shapes = key_shapes(
            [getattr(parts, name).config for name in CLIPS],
            parts.text_encoder_3.config,
            self._vae.config,
            size,
            self.generation.tokens,
        )
        for tensor in profile.keys:
            if tensor.name not in shapes:
                raise DeclarationError(f"key {tensor.name!r}: a t2i has keys {', '.join(shapes)}")
            if tensor.shape != shapes[tensor.name]:
                raise ModelError(
                    f"{profile.model.id}: gives {tensor.name} {list(shapes[tensor.name])}; "
                    f"declared {list(tensor.shape)}"
                )
        conditioning = set(shapes) - {LATENT}
        for mode, spec in profile.modes.items():
            if set(spec.keys) == conditioning and "seed" in spec.context:
                continue
            if spec.keys != (LATENT,):
                raise DeclarationError(
                    f"mode {mode}: needs vae.decoder alone, or all other keys and the context seed"
                )
        limit = parts.tokenizer_max_length
        if self.generation.tokens != limit:
            raise ModelError(
                f"{profile.model.id}: its CLIP tokenizers give {limit} tokens; "
                f"declared {self.generation.tokens}"
            )

    def _inputs(self, inputs: Mapping[str, Any]) -> tuple[str, torch.Tensor, int]:
        prompt = inputs["prompt"]
        if not isinstance(prompt, str) or not prompt.strip():
            raise SampleError(f"prompt: {prompt!r}: needs a text that is not empty")
        edges = self._edges(inputs["image"])
        digest = hashlib.sha256(f"{self.generation.seed}\n{prompt}\n".encode())
        digest.update(edges.tobytes())
        # 62 bits, so that it and its successor fit int64.
        seed = int(inputs.get("seed", int.from_bytes(digest.digest()[:8], "little") >> 2))
        control = torch.from_numpy(edges).float().repeat(1, 3, 1, 1)
        control = control * self.generation.control_gain + self.generation.control_offset
        return prompt, control.to(self._device, self._vae.dtype), seed

    def _encode_text(self, text: str, kind: str) -> dict[str, torch.Tensor]:
        parts = self._pipeline
        options = {
            "padding": "max_length",
            "max_length": self.generation.tokens,
            "truncation": True,
            "return_tensors": "pt",
        }
        features = {}
        for name, tokenizer in zip(CLIPS, (parts.tokenizer, parts.tokenizer_2), strict=True):
            ids = tokenizer([text], **options).input_ids.to(self._device)
            output = getattr(parts, name)(ids, output_hidden_states=True)
            features[f"{name}.{kind}.pooled"] = output[0]
            features[f"{name}.{kind}.hidden"] = output.hidden_states[-2]
        ids = parts.tokenizer_3([text], **options).input_ids.to(self._device)
        features[f"{T5}.{kind}.hidden"] = parts.text_encoder_3(ids)[0]
        return features

    def _denoise(self, features: Mapping[str, torch.Tensor], seed: int) -> Any:
        """Return the latent as it enters the decoder, [1, channels, height, width]."""
        embeddings = {}
        for kind, prefix in zip(PROMPTS, ("", "negative_"), strict=True):
            tokens, pooled = condition(
                [features[f"{name}.{kind}.hidden"] for name in CLIPS],
                [features[f"{name}.{kind}.pooled"] for name in CLIPS],
                features[f"{T5}.{kind}.hidden"],
            )
            embeddings[f"{prefix}prompt_embeds"] = tokens
            embeddings[f"{prefix}pooled_prompt_embeds"] = pooled
        pipeline = copy.copy(self._pipeline)
        pipeline.vae = _Handover(self._vae, features["vae.encoder"], self._layout)
        size = self.generation.size
        # Nothing but the size of this image is read.
        blank = torch.empty((), dtype=self._vae.dtype, device=self._device).expand(1, 3, size, size)
        latent = self._run(pipeline, seed, **embeddings, control_image=blank, output_type="latent")
        latent = latent / self._vae.config.scaling_factor + self._vae.config.shift_factor
        if self._vae.post_quant_conv is not None:
            latent = self._vae.post_quant_conv(latent)
        return latent

    def _run(self, pipeline: Any, seed: int, **options: Any) -> Any:
        with _seeded(self._device, seed + 1), quiet("diffusers"):
            (result,) = pipeline(
                **options,
                height=self.generation.size,
                width=self.generation.size,
                num_inference_steps=self.generation.steps,
                guidance_scale=self.generation.guidance,
                controlnet_conditioning_scale=self.generation.control_scale,
                generator=torch.Generator().manual_seed(seed),
                return_dict=False,
            )
        return result

    def _decode(self, latent: torch.Tensor) -> torch.Tensor:
        # The key is the input of this module, so the autoencoder's `decode` would begin too early.
        image = self._vae.decoder(latent)
        made: torch.Tensor = self._pipeline.image_processor.postprocess(image, output_type="pt")
        return made


@torch.no_grad()
def _layout(vae: Any) -> torch.memory_format:
    """Find how the encoder lays out in memory what it gives, on a small blank image.

    What follows takes over that layout, and convolutions round differently in another.
    """
    side = 4 * 2 ** (len(vae.config.block_out_channels) - 1)
    blank = torch.zeros((2, 3, side, side), dtype=vae.dtype, device=vae.device)
    last = vae.encoder(blank).is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if last else torch.contiguous_format


@contextmanager
def _seeded(device: torch.device, seed: int) -> Iterator[None]:
    """Seed the generators that the library draws from by itself, and put them back afterwards."""
    with torch.random.fork_rng([] if device.type == "cpu" else [device]):
        torch.manual_seed(seed)
        yield


def _answer(image: torch.Tensor) -> Output:
    """Make an answer of an image of [1, 3, height, width] in 0..1."""
    pixels = image[0].float().cpu()
    prediction = (pixels * 255).round().to(torch.uint8).permute(1, 2, 0).contiguous()
    return Output(prediction=prediction, logits=pixels)
