"""What decoders with a key-value cache share: stopping early, going on from a split, greedy text.

A decoder here is the inner text model of a library class (embedding, ``layers``, final norm)
with its output head. It is run by its own forward, with part of its layers taken out, so that
masks, rotary embeddings and kernels are those of the whole model and results are equal bit for bit.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch

from lamofcbench.errors import DeclarationError, ModelError
from lamofcbench.models.tokens import Resumed
from lamofcbench.optional import require

__all__ = [
    "Captured",
    "SplitDecoder",
    "declared_split",
]

transformers = require("transformers", "models")


@dataclass
class Captured:
    """What a run that stopped after the split layer left behind.

    Attributes:
        cache: keys and values of the layers that ran.
        output: [1, N, D], the split layer's output.
    """

    cache: Any
    output: torch.Tensor = field(default_factory=lambda: torch.empty(0))

    def tensor(self, name: str) -> torch.Tensor:
        """Return a cache [heads, N, d] or the output [N, D] by its declared name."""
        _, index, kind = name.split(".")
        if kind == "output":
            return self.output[0]
        layer = self.cache.layers[int(index)]
        return (layer.keys if kind == "k_cache" else layer.values)[0]  # type: ignore[no-any-return]


def declared_split(names: Iterable[str], states: Sequence[str] = ("k_cache", "v_cache")) -> int:
    """Number of the layer after which a declaration splits a decoder.

    Args:
        names: the declared keys; those that don't start with ``layer.`` are ignored.
        states: what else a layer of the front half may leave.

    Returns:
        L of ``layer.<L>.output``.

    Raises:
        DeclarationError: there isn't exactly one output, or a state lies beyond it.
    """
    layers = [name for name in names if name.startswith("layer.")]
    outputs = [int(m[1]) for n in layers if (m := re.fullmatch(r"layer\.(\d+)\.output", n))]
    if len(outputs) != 1:
        raise DeclarationError(f"a decoder is split after one layer, not after {outputs}")
    allowed = {f"layer.{i}.{state}" for i in range(outputs[0] + 1) for state in states}
    if extra := set(layers) - allowed - {f"layer.{outputs[0]}.output"}:
        raise DeclarationError(f"no tensor of layers 0 to {outputs[0]}: {', '.join(sorted(extra))}")
    return outputs[0]


class SplitDecoder:
    """A decoder that can stop after its split layer and go on from there.

    Not for use by several threads at once: a run swaps the model's list of layers.

    Attributes:
        text: the library's text model.
        head: maps [1, n, D] to logits [1, n, vocabulary]; None if only the front half is there.
        split: number of the last layer of the front half.
    """

    def __init__(self, text: Any, head: Any, split: int) -> None:
        """Split ``text`` after layer ``split``.

        Raises:
            ModelError: it has no layer after that one, or layers of several kinds of attention.
        """
        if len(text.layers) < split + (1 if head is None else 2):
            raise ModelError(f"no layer after {split}: the model has {len(text.layers)}")
        kinds = set(getattr(text.config, "layer_types", None) or ["full_attention"])
        if kinds != {"full_attention"}:
            # The library picks a mask by a layer's place in the list, which the swap changes.
            raise ModelError(f"only full attention can be split, not {', '.join(sorted(kinds))}")
        self.text = text
        self.head = head
        self.split = split

    def new_cache(self) -> Any:
        """Return an empty cache for all layers."""
        return transformers.DynamicCache(config=self.text.config)

    @contextmanager
    def _only(self, layers: slice) -> Iterator[None]:
        whole = self.text.layers
        self.text.layers = whole[layers]
        try:
            yield
        finally:
            self.text.layers = whole

    @contextmanager
    def stopping(self) -> Iterator[Captured]:
        """Within this context a run ends after the split layer, and leaves its tensors behind.

        Yields:
            The capture; run the model with its ``cache`` as ``past_key_values``.
        """
        captured = Captured(self.new_cache())

        def keep(_module: Any, _inputs: Any, output: Any) -> None:
            captured.output = output[0] if isinstance(output, tuple) else output

        hook = self.text.layers[self.split].register_forward_hook(keep)
        try:
            with self._only(slice(self.split + 1)):
                yield captured
        finally:
            hook.remove()

    def resume(
        self,
        output: torch.Tensor,
        caches: Sequence[tuple[torch.Tensor, torch.Tensor]],
        positions: torch.Tensor,
    ) -> tuple[Any, torch.Tensor]:
        """Run the layers after the split layer over the prompt, and put the cache together.

        Args:
            output: [N, D], output of the split layer.
            caches: keys and values [heads, N, d] of layers 0 to the split layer, in order.
            positions: [1, N], or [3, 1, N] for rotary embeddings of three axes.

        Returns:
            The cache of all layers, and the logits [vocabulary] of the prompt's last token.
        """
        cache = self.new_cache()
        # The cache is empty for now, and masks follow from that; the attention modules know their
        # own numbers, so their entries land where they belong.
        with self._only(slice(self.split + 1, None)):
            hidden = self.hidden(cache, positions, inputs_embeds=output[None])
        for i, (keys, values) in enumerate(caches):
            cache.update(keys[None], values[None], i)
        return cache, self.logits(hidden[:, -1:])[-1]

    def hidden(self, cache: Any, positions: torch.Tensor, **inputs: Any) -> torch.Tensor:
        """Run the model as it is now, without its head.

        Args:
            cache: what came before; extended by this run.
            positions: of the new tokens, as for `resume`.
            **inputs: ``input_ids`` [1, n] or ``inputs_embeds`` [1, n, D], and what else it takes.

        Returns:
            [1, n, D], after the final norm.
        """
        return self.text(  # type: ignore[no-any-return]
            position_ids=positions, past_key_values=cache, use_cache=True, **inputs
        ).last_hidden_state

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """Logits [n, vocabulary] of tokens [1, n, D].

        Raises:
            ModelError: only the front half was loaded.
        """
        if self.head is None:
            raise ModelError("only the front half of the model was loaded")
        return self.head(hidden)[0]  # type: ignore[no-any-return]

    def resumed(
        self,
        cache: Any,
        logits: torch.Tensor,
        positions: torch.Tensor,
        given: Callable[[torch.Tensor], dict[str, torch.Tensor]],
    ) -> Resumed:
        """Make the whole model ready to go on after a prompt.

        Args:
            cache: of the prompt, all layers.
            logits: [vocabulary], of the prompt's last token.
            positions: of the prompt, as for `resume`.
            given: makes of new tokens' ids [n] what the text model takes: ``input_ids`` [1, n] or
                ``inputs_embeds`` [1, n, D].
        """
        following = positions.max() + 1

        def run(ids: torch.Tensor, done: int) -> torch.Tensor:
            places = following + done + torch.arange(len(ids), device=ids.device)
            places = places.expand(*positions.shape[:-1], -1)
            return self.logits(self.hidden(cache, places, **given(ids)))

        return Resumed(logits, run)
