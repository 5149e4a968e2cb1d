"""What the language families share: prompts, stop tokens, and the plain model's own generation."""

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, Self

import torch

from lamofcbench.errors import DeclarationError, ModelError, SampleError
from lamofcbench.models.base import Half, Output
from lamofcbench.models.checkpoint import (
    Checkpoint,
    Wanted,
    everything,
    from_block,
    shortened,
    up_to_block,
)
from lamofcbench.models.decoder import declared_split
from lamofcbench.models.tokenizer import TOKENIZER_FILES, load_tokenizer, stop_tokens
from lamofcbench.models.tokens import TokenFamily
from lamofcbench.optional import require
from lamofcbench.spec import ProfileSpec, TensorSpec

__all__ = ["TextFamily", "greedy_generation", "transformers"]

transformers = require("transformers", "models")

MAX_NEW_TOKENS = 16


def greedy_generation(limit: int, ends: list[int], tokenizer: Any) -> Any:
    """Make the plain model generate greedily, whatever its checkpoint would do.

    Args:
        limit: most new tokens.
        ends: tokens that end the text.
        tokenizer: whose padding token is named, for the library complains without one.
    """
    pad = tokenizer.pad_token_id
    return transformers.GenerationConfig(
        do_sample=False,
        max_new_tokens=limit,
        eos_token_id=ends,
        pad_token_id=ends[0] if pad is None else pad,
    )


class TextFamily(TokenFamily):
    """Answers a prompt in text.

    Inputs are ``prompt`` (one user turn) and ``prefix`` (how the answer begins, or empty). The
    prediction is the answer's text, without the prefix. ``preprocess`` may declare
    ``max_new_tokens`` (16 by default).

    Attributes:
        states: what each layer of the front half leaves, besides the split layer's output.
        blocks: what precedes a layer's number in the checkpoint's tensor names.
        outside: tensors outside the layers that the front half does without.
        embedding: those that the back half does without when it gives one token.
    """

    states: tuple[str, ...]
    blocks: str = "layers"
    outside: tuple[str, ...] = ("norm", "lm_head")
    embedding: tuple[str, ...] = ("embed_tokens",)

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
            half: which half is there; a model of the whole class serves the back one.

        Raises:
            DeclarationError: the profile declares tensors that this family doesn't have.
            ModelError: the model has other shapes than the profile declares.
        """
        self.profile = profile
        self.model = model
        self.tokenizer = tokenizer
        self.half = half
        self.names = [tensor.name for tensor in profile.keys]
        self.split = self.declared(profile)
        self.limit = int(profile.preprocess.get("max_new_tokens", MAX_NEW_TOKENS))
        self.ends = ends
        for tensor in profile.keys:
            if tensor.shape != (real := self.shape(tensor, model.config)):
                raise ModelError(
                    f"{profile.model.id}: {tensor.name} is {list(real)}, "
                    f"declared {list(tensor.shape)}"
                )
        if half != "front":
            model.generation_config = greedy_generation(self.limit, ends, tokenizer)

    @classmethod
    def declared(cls, profile: ProfileSpec) -> int:
        """The layer after which a profile splits the model.

        Raises:
            DeclarationError: it declares tensors that this family doesn't have.
        """
        names = [tensor.name for tensor in profile.keys]
        if extra := [name for name in names if not name.startswith("layer.")]:
            raise DeclarationError(f"family {cls.name} has no tensor {extra[0]!r}")
        return declared_split(names, cls.states)

    @classmethod
    @abstractmethod
    def shape(cls, tensor: TensorSpec, config: Any) -> tuple[int | str, ...]:
        """Shape of a declared tensor in a model of that configuration."""

    @classmethod
    @abstractmethod
    def classes(cls, checkpoint: Checkpoint) -> tuple[Any, Any]:
        """The library's classes for a checkpoint: with the head, and without.

        Raises:
            ModelError: it is of another architecture.
        """

    @classmethod
    def front_tensors(cls, profile: ProfileSpec) -> Wanted:
        """Which tensors of a checkpoint the front half needs."""
        return up_to_block(cls.declared(profile), stem=cls.blocks, without=cls.outside)

    @classmethod
    def back_tensors(cls, profile: ProfileSpec, mode: str | None, tied: bool) -> Wanted:
        """Which tensors of a checkpoint the back half needs in a mode.

        Args:
            profile: the declaration.
            mode: which; the first by default.
            tied: whether the head is the embedding.
        """
        if len(profile.mode(mode).keys) > 1:
            # The first layers run for new tokens, too.
            return everything
        first = cls.declared(profile) + 1
        return from_block(first, stem=cls.blocks, without=() if tied else cls.embedding)

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
        whole, bare = cls.classes(checkpoint)
        split = cls.declared(profile)
        dtype: torch.dtype = getattr(torch, profile.model.dtype)
        if half == "front":
            layers = checkpoint.config.get("num_hidden_layers")
            if not isinstance(layers, int) or layers < split + 2:
                raise ModelError(f"{profile.model.id}: has {layers} layers, so none after {split}")
            model = checkpoint.build(
                bare,
                cls.front_tensors(profile),
                dtype=dtype,
                config=shortened(checkpoint.config, split + 1),
                unused=lambda name: name.startswith("norm"),
            )
        else:
            tied = bool(checkpoint.config.get("tie_word_embeddings"))
            needed = cls.back_tensors(profile, mode, tied) if half == "back" else everything
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
        checkpoint = Checkpoint(profile.model)
        return checkpoint.revision(cls.front_tensors(profile), TOKENIZER_FILES)

    @classmethod
    def adapted(cls, profile: ProfileSpec) -> ProfileSpec:
        """Bring the declared shapes to another checkpoint of this family; see `Family.adapted`."""
        checkpoint = Checkpoint(profile.model)
        whole, _ = cls.classes(checkpoint)
        config = whole.config_class.from_dict(checkpoint.config)
        keys = tuple(
            tensor.model_copy(update={"shape": cls.shape(tensor, config)})
            for tensor in profile.keys
        )
        return profile.model_copy(update={"keys": keys})

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.model.device  # type: ignore[no-any-return]

    def prompt_ids(self, inputs: Mapping[str, Any]) -> torch.Tensor:
        """Token ids [1, N] of a prompt in the checkpoint's chat template, thinking off.

        Raises:
            SampleError: the prompt is empty.
            ModelError: the checkpoint has no chat template.
        """
        prompt = inputs["prompt"]
        if not isinstance(prompt, str) or not prompt.strip():
            raise SampleError("the prompt is empty")
        if not self.tokenizer.chat_template:
            raise ModelError(f"{self.profile.model.id}: its tokenizer has no chat template")
        text = self.tokenizer.apply_chat_template(
            [{"role": "user", "content": prompt}],
            tokenize=False,
            add_generation_prompt=True,
            enable_thinking=False,
        )
        encoded = self.tokenizer(text + inputs["prefix"], add_special_tokens=False)
        return torch.tensor([encoded["input_ids"]], device=self.device)

    def answer(self, tokens: list[int], logits: torch.Tensor) -> Output:
        """Make an output of decoded tokens and the logits [steps, vocabulary] behind them."""
        text = self.tokenizer.decode(tokens, skip_special_tokens=True)
        return Output(prediction=text.strip(), logits=logits.cpu())

    @torch.inference_mode()
    def plain(self, inputs: Mapping[str, Any], mode: str | None = None) -> Output:
        """Generate with the library alone; see `Family.plain`."""
        self.require_half("whole")
        ids = self.prompt_ids(inputs)
        partial = mode is not None and self.is_partial(mode)
        result = self.model.generate(
            input_ids=ids,
            max_new_tokens=1 if partial else self.limit,
            attention_mask=torch.ones_like(ids),
            output_logits=True,
            return_dict_in_generate=True,
        )
        tokens = result.sequences[0, ids.shape[1] :].tolist()
        return self.answer(tokens, torch.cat(result.logits).float())
