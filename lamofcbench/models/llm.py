"""Transformer language models (Qwen3, Llama and their kin), split after a layer."""

from collections.abc import Mapping
from typing import Any, ClassVar, Self

import torch

from lamofcbench.errors import DeclarationError, ModelError, SampleError
from lamofcbench.models.base import Capture, Output
from lamofcbench.models.decoder import SplitDecoder, declared_split, load_config, load_library
from lamofcbench.models.text import TextFamily, transformers
from lamofcbench.spec import ProfileSpec, TensorSpec

__all__ = ["Llm"]


class Llm(TextFamily):
    """A decoder with a key-value cache, split after layer L.

    Keys are ``layer.<i>.k_cache`` and ``layer.<i>.v_cache``, [heads, N, d], of layers 0 to L (keys
    after their norm and rotation), and ``layer.<L>.output``, [N, D]. It needs no context.
    """

    name: ClassVar[str] = "llm"

    def __init__(self, profile: ProfileSpec, model: Any, tokenizer: Any, revision: str) -> None:
        """Wrap a loaded model; use `load`.

        Raises:
            DeclarationError: the profile declares tensors that this family doesn't have.
            ModelError: the model has other shapes than the profile declares.
        """
        super().__init__(profile, model, tokenizer, revision)
        self.names = [tensor.name for tensor in profile.keys]
        if extra := [name for name in self.names if not name.startswith("layer.")]:
            raise DeclarationError(f"family {self.name} has no tensor {extra[0]!r}")
        self.decoder = SplitDecoder(model.model, model.lm_head, declared_split(self.names))
        for tensor in profile.keys:
            if tensor.shape != (real := _shape(tensor, model.config)):
                raise ModelError(
                    f"{profile.model.id}: {tensor.name} is {list(real)}, "
                    f"declared {list(tensor.shape)}"
                )

    @classmethod
    def load(cls, profile: ProfileSpec, *, device: str = "cpu") -> Self:
        """Load the weights that a profile names; see `Family.load`."""
        loaded = load_library(profile.model, transformers.AutoModelForCausalLM, None, device)
        return cls(profile, *loaded)

    @classmethod
    def adapted(cls, profile: ProfileSpec) -> ProfileSpec:
        """Bring the declared shapes to another decoder; see `Family.adapted`."""
        config = load_config(profile.model)
        if not hasattr(config, "num_key_value_heads"):
            raise ModelError(
                f"{profile.model.id}: a {config.model_type} is no decoder with a key-value cache"
            )
        keys = tuple(
            tensor.model_copy(update={"shape": _shape(tensor, config)}) for tensor in profile.keys
        )
        return profile.model_copy(update={"keys": keys})

    @torch.inference_mode()
    def front(self, inputs: Mapping[str, Any]) -> Capture:
        """Run the layers up to the split over a prompt; see `Family.front`."""
        ids = self.prompt_ids(inputs)
        with self.decoder.stopping() as captured:
            self.decoder.run(captured.cache, self._positions(ids.shape[1]), input_ids=ids)
        features = {name: captured.tensor(name).cpu() for name in self.names}
        return Capture(features, {}, ids[0].cpu())

    def _positions(self, count: int) -> torch.Tensor:
        return torch.arange(count, device=self.device)[None]

    @torch.inference_mode()
    def _back(
        self, features: Mapping[str, torch.Tensor], context: Mapping[str, torch.Tensor], mode: str
    ) -> Output:
        on, split = self.device, self.decoder.split
        output = features[f"layer.{split}.output"].to(on)
        positions = self._positions(len(output))
        caches = []
        if not self.is_partial(mode):
            for i in range(split + 1):
                pair = features[f"layer.{i}.k_cache"].to(on), features[f"layer.{i}.v_cache"].to(on)
                if any(tensor.shape[1] != len(output) for tensor in pair):
                    raise SampleError(f"layer.{i}: caches of other than {len(output)} tokens")
                caches.append(pair)
        cache, logits = self.decoder.resume(output, caches, positions)
        limit = self.limit if caches else 1
        return self.answer(*self.decoder.greedy(cache, logits, positions, limit, self.ends))


def _shape(tensor: TensorSpec, config: Any) -> tuple[int | str, ...]:
    if not tensor.name.endswith("_cache"):
        return ("token", config.hidden_size)
    heads = config.num_attention_heads
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // heads
    return ("token", config.num_key_value_heads, head_dim)
