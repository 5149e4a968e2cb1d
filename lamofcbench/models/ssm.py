"""Falcon-Mamba, a state-space language model, split after a layer."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar

import torch

from lamofcbench.errors import ModelError
from lamofcbench.models.base import Capture, Half, Output
from lamofcbench.models.checkpoint import Checkpoint
from lamofcbench.models.quiet import quiet
from lamofcbench.models.text import TextFamily, transformers
from lamofcbench.models.tokens import Resumed
from lamofcbench.spec import ProfileSpec, TensorSpec

__all__ = ["Ssm"]


class Ssm(TextFamily):
    """A state-space model, split after layer L.

    Keys are ``layer.<i>.ssm_state``, [channels, states], and ``layer.<i>.conv_state``, [channels,
    kernel], of layers 0 to L after the prompt, and ``layer.<L>.output``, [N, D]. It needs no
    context. Not for use by several threads at once: a run swaps the model's layers.
    """

    name: ClassVar[str] = "ssm"
    states = ("ssm_state", "conv_state")
    outside = ("norm_f", "lm_head")
    embedding = ("embeddings",)

    def __init__(
        self,
        profile: ProfileSpec,
        model: Any,
        tokenizer: Any,
        ends: list[int],
        half: Half = "whole",
    ) -> None:
        """See `TextFamily`."""
        super().__init__(profile, model, tokenizer, ends, half)
        self.backbone = model.backbone if half != "front" else model
        if half != "front" and self.split + 1 >= len(self.backbone.layers):
            raise ModelError(f"no layer after {self.split}: it has {len(self.backbone.layers)}")

    @classmethod
    def classes(cls, checkpoint: Checkpoint) -> tuple[Any, Any]:
        """See `TextFamily.classes`."""
        checkpoint.require_type("falcon_mamba")
        return transformers.FalconMambaForCausalLM, transformers.FalconMambaModel

    @classmethod
    def shape(cls, tensor: TensorSpec, config: Any) -> tuple[int | str, ...]:
        """See `TextFamily.shape`."""
        if tensor.name.endswith("ssm_state"):
            return (config.intermediate_size, config.state_size)
        if tensor.name.endswith("conv_state"):
            return (config.intermediate_size, config.conv_kernel)
        return ("token", config.hidden_size)

    def plain(self, inputs: Mapping[str, Any], mode: str | None = None) -> Output:
        """See `TextFamily.plain`."""
        with quiet():
            return super().plain(inputs, mode)

    @contextmanager
    def _only(self, layers: slice) -> Iterator[None]:
        whole = self.backbone.layers
        self.backbone.layers = whole[layers]
        try:
            yield
        finally:
            self.backbone.layers = whole

    def _new_cache(self) -> Any:
        return transformers.DynamicCache(config=self.backbone.config)

    def _hidden(self, cache: Any, **inputs: Any) -> torch.Tensor:
        """Run the layers that are there: [1, n, D], after the final norm."""
        # The library says at every first use that its kernels are not installed.
        with quiet():
            return self.backbone(cache_params=cache, use_cache=True, **inputs)[0]  # type: ignore[no-any-return]

    def _logits(self, hidden: torch.Tensor) -> torch.Tensor:
        head = self.model.lm_head
        return head(hidden[:, -1:].to(head.weight.dtype)).float()[0, -1]  # type: ignore[no-any-return]

    @torch.inference_mode()
    def front(self, inputs: Mapping[str, Any]) -> Capture:
        """Run the layers up to the split over a prompt; see `Family.front`."""
        self.require_half("front")
        ids = self.prompt_ids(inputs)
        cache = self._new_cache()
        outputs: list[torch.Tensor] = []

        def keep(_module: Any, _inputs: Any, output: torch.Tensor) -> None:
            outputs.append(output)

        hook = self.backbone.layers[self.split].register_forward_hook(keep)
        try:
            with self._only(slice(self.split + 1)):
                self._hidden(cache, input_ids=ids)
        finally:
            hook.remove()

        def tensor(name: str) -> torch.Tensor:
            _, index, kind = name.split(".")
            if kind == "output":
                return outputs[0][0]
            layer = cache.layers[int(index)]
            state = layer.recurrent_states if kind == "ssm_state" else layer.conv_states
            return state[0][0]  # type: ignore[no-any-return]

        features = {name: tensor(name).clone().cpu() for name in self.names}
        return Capture(features, {}, ids[0].cpu())

    def _resume(
        self, features: Mapping[str, torch.Tensor], context: Mapping[str, torch.Tensor], mode: str
    ) -> Resumed:
        on = self.device
        output = features[f"layer.{self.split}.output"].to(on)
        cache = self._new_cache()
        with self._only(slice(self.split + 1, None)):
            logits = self._logits(self._hidden(cache, inputs_embeds=output[None]))
        if not self.is_partial(mode):
            for i in range(self.split + 1):
                cache.update_conv_state(features[f"layer.{i}.conv_state"].to(on)[None], i)
                cache.update_recurrent_state(features[f"layer.{i}.ssm_state"].to(on)[None], i)

        def run(ids: torch.Tensor, _done: int) -> torch.Tensor:
            # The library scans several tokens from an empty state only.
            steps = [self._logits(self._hidden(cache, input_ids=one[None, None])) for one in ids]
            return torch.stack(steps)

        return Resumed(logits, run)
