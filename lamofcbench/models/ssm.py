"""Falcon-Mamba, a state-space language model, split after a layer."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar, Self

import torch

from lamofcbench.errors import DeclarationError, ModelError
from lamofcbench.models.base import Capture, Output
from lamofcbench.models.decoder import declared_split, greedy, load_config, load_library
from lamofcbench.models.text import TextFamily, transformers
from lamofcbench.spec import ProfileSpec, TensorSpec

__all__ = ["Ssm"]

STATES = ("ssm_state", "conv_state")


class Ssm(TextFamily):
    """A state-space model, split after layer L.

    Keys are ``layer.<i>.ssm_state``, [channels, states], and ``layer.<i>.conv_state``, [channels,
    kernel], of layers 0 to L after the prompt, and ``layer.<L>.output``, [N, D]. The back half
    needs no context. Not for use by several threads at once: a run swaps the model's layers.
    """

    name: ClassVar[str] = "ssm"

    def __init__(self, profile: ProfileSpec, model: Any, tokenizer: Any, revision: str) -> None:
        """Wrap a loaded model; use `load`.

        Raises:
            DeclarationError: the profile declares tensors that this family doesn't have.
            ModelError: the model has other shapes than the profile declares.
        """
        super().__init__(profile, model, tokenizer, revision)
        self.names = [tensor.name for tensor in profile.keys]
        self.split = declared_split(self.names, STATES)
        if extra := [name for name in self.names if not name.startswith("layer.")]:
            raise DeclarationError(f"family {self.name} has no tensor {extra[0]!r}")
        if self.split + 1 >= len(model.backbone.layers):
            raise ModelError(f"no layer after {self.split}: it has {len(model.backbone.layers)}")
        for tensor in profile.keys:
            if tensor.shape != (real := _shape(tensor, model.config)):
                raise ModelError(
                    f"{profile.model.id}: {tensor.name} is {list(real)}, "
                    f"declared {list(tensor.shape)}"
                )

    @classmethod
    def load(cls, profile: ProfileSpec, *, device: str = "cpu") -> Self:
        """Load the weights that a profile names; see `Family.load`."""
        library_class = transformers.FalconMambaForCausalLM
        return cls(profile, *load_library(profile.model, library_class, "falcon_mamba", device))

    @classmethod
    def adapted(cls, profile: ProfileSpec) -> ProfileSpec:
        """Bring the declared shapes to another Falcon-Mamba; see `Family.adapted`."""
        config = load_config(profile.model)
        if config.model_type != "falcon_mamba":
            raise ModelError(f"{profile.model.id}: a {config.model_type} is no falcon_mamba")
        keys = tuple(
            tensor.model_copy(update={"shape": _shape(tensor, config)}) for tensor in profile.keys
        )
        return profile.model_copy(update={"keys": keys})

    @contextmanager
    def _only(self, layers: slice) -> Iterator[None]:
        whole = self.model.backbone.layers
        self.model.backbone.layers = whole[layers]
        try:
            yield
        finally:
            self.model.backbone.layers = whole

    def _new_cache(self) -> Any:
        return transformers.DynamicCache(config=self.model.config)

    def _run(self, cache: Any, **inputs: Any) -> torch.Tensor:
        """Run the model as it is now; logits [vocabulary] of the last token."""
        hidden = self.model.backbone(cache_params=cache, use_cache=True, **inputs)[0][:, -1:]
        head = self.model.lm_head
        return head(hidden.to(head.weight.dtype)).float()[0, -1]  # type: ignore[no-any-return]

    @torch.inference_mode()
    def front(self, inputs: Mapping[str, Any]) -> Capture:
        """Run the layers up to the split over a prompt; see `Family.front`."""
        ids = self.prompt_ids(inputs)
        cache = self._new_cache()
        outputs: list[torch.Tensor] = []

        def keep(_module: Any, _inputs: Any, output: torch.Tensor) -> None:
            outputs.append(output)

        hook = self.model.backbone.layers[self.split].register_forward_hook(keep)
        try:
            with self._only(slice(self.split + 1)):
                self._run(cache, input_ids=ids)
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

    @torch.inference_mode()
    def _back(
        self, features: Mapping[str, torch.Tensor], context: Mapping[str, torch.Tensor], mode: str
    ) -> Output:
        on = self.device
        output = features[f"layer.{self.split}.output"].to(on)
        cache = self._new_cache()
        with self._only(slice(self.split + 1, None)):
            logits = self._run(cache, inputs_embeds=output[None])
        limit = 1
        if not self.is_partial(mode):
            limit = self.limit
            for i in range(self.split + 1):
                cache.update_conv_state(features[f"layer.{i}.conv_state"].to(on)[None], i)
                cache.update_recurrent_state(features[f"layer.{i}.ssm_state"].to(on)[None], i)

        def step(ids: torch.Tensor, _done: int) -> torch.Tensor:
            return self._run(cache, input_ids=ids)

        return self.answer(*greedy(logits, step, limit, self.ends))


def _shape(tensor: TensorSpec, config: Any) -> tuple[int | str, ...]:
    if tensor.name.endswith("ssm_state"):
        return (config.intermediate_size, config.state_size)
    if tensor.name.endswith("conv_state"):
        return (config.intermediate_size, config.conv_kernel)
    return ("token", config.hidden_size)
