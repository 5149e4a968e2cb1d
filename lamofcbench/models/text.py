"""What the language families share: prompts, stop tokens, and the plain model's own generation."""

from collections.abc import Mapping
from typing import Any

import torch

from lamofcbench.errors import ModelError, SampleError
from lamofcbench.models.base import Family, Output
from lamofcbench.optional import require
from lamofcbench.spec import ProfileSpec

__all__ = ["TextFamily"]

transformers = require("transformers", "models")

MAX_NEW_TOKENS = 16


class TextFamily(Family):
    """Answers a prompt in text.

    Inputs are ``prompt`` (one user turn) and ``prefix`` (how the answer begins, or empty).
    The prediction is the answer's text, without the prefix. ``preprocess`` may declare
    ``max_new_tokens`` (16 by default).

    A mode that holds the states of the front half's layers (caches, or state-space states) answers
    in full; one that holds the split layer's output alone answers with the first token, since later
    ones need those states.
    """

    def __init__(self, profile: ProfileSpec, model: Any, tokenizer: Any, revision: str) -> None:
        """Wrap a loaded model; use `load`."""
        self.profile = profile
        self.model = model
        self.tokenizer = tokenizer
        self.revision = revision
        self.parameters_loaded = sum(p.numel() for p in model.parameters())
        self.parameters_total = self.parameters_loaded
        self.limit = int(profile.preprocess.get("max_new_tokens", MAX_NEW_TOKENS))
        ends = model.generation_config.eos_token_id
        ends = tokenizer.eos_token_id if ends is None else ends
        self.ends: list[int] = ends if isinstance(ends, list) else [ends]
        pad = tokenizer.pad_token_id
        # In place of the checkpoint's own, which may sample.
        model.generation_config = transformers.GenerationConfig(
            do_sample=False,
            max_new_tokens=self.limit,
            eos_token_id=self.ends,
            pad_token_id=self.ends[0] if pad is None else pad,
        )

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

    def is_partial(self, mode: str) -> bool:
        """Whether a mode holds the split layer's output alone, and so gives one token."""
        return len(self.profile.mode(mode).keys) == 1

    def answer(self, tokens: list[int], logits: torch.Tensor) -> Output:
        """Make an output of decoded tokens and the logits [steps, vocabulary] behind them."""
        text = self.tokenizer.decode(tokens, skip_special_tokens=True)
        return Output(prediction=text.strip(), logits=logits.cpu())

    @torch.inference_mode()
    def plain(self, inputs: Mapping[str, Any]) -> Output:
        """Generate with the library alone; see `Family.plain`."""
        ids = self.prompt_ids(inputs)
        result = self.model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            output_logits=True,
            return_dict_in_generate=True,
        )
        tokens = result.sequences[0, ids.shape[1] :].tolist()
        return self.answer(tokens, torch.cat(result.logits).float())
