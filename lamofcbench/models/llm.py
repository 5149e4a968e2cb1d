"""Transformer language models (Qwen3, Llama and their kin), split after a layer."""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch

from lamofcbench.errors import ModelError, SampleError
from lamofcbench.models.base import Capture, Half
from lamofcbench.models.checkpoint import Checkpoint
from lamofcbench.models.decoder import SplitDecoder
from lamofcbench.models.text import TextFamily, transformers
from lamofcbench.models.tokens import Resumed
from lamofcbench.spec import ProfileSpec, TensorSpec

__all__ = ["Llm"]


class Llm(TextFamily):
    """A decoder with a key-value cache, split after layer L.

    Keys are ``layer.<i>.k_cache`` and ``layer.<i>.v_cache``, [heads, N, d], of layers 0 to L (keys
    after their norm and rotation), and ``layer.<L>.output``, [N, D]. It needs no context.
    """

    name: ClassVar[str] = "llm"
    states = ("k_cache", "v_cache")

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
        inner, head = (model.model, model.lm_head) if half != "front" else (model, None)
        self.decoder = SplitDecoder(inner, head, self.split)

    @classmethod
    def classes(cls, checkpoint: Checkpoint) -> tuple[Any, Any]:
        """See `TextFamily.classes`: any decoder of transformers with a key-value cache."""
        kind = checkpoint.config.get("model_type")
        table = transformers.MODEL_FOR_CAUSAL_LM_MAPPING
        found = next((config for config in table if config.model_type == kind), None)
        if found is None or "num_key_value_heads" not in checkpoint.config:
            raise ModelError(
                f"{checkpoint.name}: a {kind!r} is no decoder with a key-value cache, such as a "
                "qwen3 or llama"
            )
        return table[found], transformers.MODEL_MAPPING[found]

    @classmethod
    def shape(cls, tensor: TensorSpec, config: Any) -> tuple[int | str, ...]:
        """See `TextFamily.shape`."""
        if not tensor.name.endswith("_cache"):
            return ("token", config.hidden_size)
        head_dim = getattr(config, "head_dim", None)
        head_dim = head_dim or config.hidden_size // config.num_attention_heads
        return ("token", config.num_key_value_heads, head_dim)

    @torch.inference_mode()
    def front(self, inputs: Mapping[str, Any]) -> Capture:
        """Run the layers up to the split over a prompt; see `Family.front`."""
        self.require_half("front")
        ids = self.prompt_ids(inputs)
        with self.decoder.stopping() as captured:
            self.decoder.hidden(captured.cache, self._positions(ids.shape[1]), input_ids=ids)
        features = {name: captured.tensor(name).cpu() for name in self.names}
        return Capture(features, {}, ids[0].cpu())

    def _positions(self, count: int) -> torch.Tensor:
        return torch.arange(count, device=self.device)[None]

    def _resume(
        self, features: Mapping[str, torch.Tensor], context: Mapping[str, torch.Tensor], mode: str
    ) -> Resumed:
        on = self.device
        output = features[f"layer.{self.split}.output"].to(on)
        positions = self._positions(len(output))
        caches = []
        if not self.is_partial(mode):
            for i in range(self.split + 1):
                pair = features[f"layer.{i}.k_cache"].to(on), features[f"layer.{i}.v_cache"].to(on)
                if any(tensor.shape[1] != len(output) for tensor in pair):
                    raise SampleError(f"layer.{i}: caches of other than {len(output)} tokens")
                caches.append(pair)
        cache, logits = self.decoder.resume(output, caches, positions)
        return self.decoder.resumed(cache, logits, positions, lambda ids: {"input_ids": ids[None]})
