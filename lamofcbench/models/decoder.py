"""What decoders with a key-value cache share: stopping early, going on from a split, greedy text.

A decoder here is the inner text model of a library class (embedding, ``layers``, final norm)
with its output head. It is run by its own forward, with part of its layers taken out, so that
masks, rotary embeddings and kernels are those of the whole model and results are equal bit for bit.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from lamofcbench.errors import DeclarationError, ModelError
from lamofcbench.models import bundled_path
from lamofcbench.optional import require
from lamofcbench.spec import ModelSpec

__all__ = ["Captured", "SplitDecoder", "declared_split", "fingerprint", "load_library", "locate"]

transformers = require("transformers", "models")
require("transformers.utils.logging", "models")

_BUNDLED = "bundled:"


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


def declared_split(names: Iterable[str]) -> int:
    """Number of the layer after which a declaration splits a decoder.

    Args:
        names: the declared keys; those that don't start with ``layer.`` are ignored.

    Returns:
        L of ``layer.<L>.output``.

    Raises:
        DeclarationError: there isn't exactly one output, or a cache lies beyond it.
    """
    layers = [name for name in names if name.startswith("layer.")]
    outputs = [int(m[1]) for n in layers if (m := re.fullmatch(r"layer\.(\d+)\.output", n))]
    if len(outputs) != 1:
        raise DeclarationError(f"a decoder is split after one layer, not after {outputs}")
    allowed = {f"layer.{i}.{c}_cache" for i in range(outputs[0] + 1) for c in "kv"}
    if extra := set(layers) - allowed - {f"layer.{outputs[0]}.output"}:
        raise DeclarationError(f"no tensor of layers 0 to {outputs[0]}: {', '.join(sorted(extra))}")
    return outputs[0]


class SplitDecoder:
    """A decoder that can stop after its split layer and go on from there.

    Not for use by several threads at once: a run swaps the model's list of layers.

    Attributes:
        text: the library's text model.
        head: maps [1, n, D] to logits [1, n, vocabulary].
        split: number of the last layer of the front half.
    """

    def __init__(self, text: Any, head: Any, split: int) -> None:
        """Split ``text`` after layer ``split``.

        Raises:
            ModelError: it has no layer after that one, or layers of several kinds of attention.
        """
        if split + 1 >= len(text.layers):
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
            logits = self.run(cache, positions, inputs_embeds=output[None])
        for i, (keys, values) in enumerate(caches):
            cache.update(keys[None], values[None], i)
        return cache, logits

    def run(self, cache: Any, positions: torch.Tensor, **inputs: Any) -> torch.Tensor:
        """Run the model as it is now.

        Args:
            cache: what came before; extended by this run.
            positions: of the new tokens, as for `resume`.
            **inputs: ``input_ids`` [1, n] or ``inputs_embeds`` [1, n, D], and what else it takes.

        Returns:
            Logits [vocabulary] of the last token.
        """
        hidden = self.text(
            position_ids=positions, past_key_values=cache, use_cache=True, **inputs
        ).last_hidden_state
        return self.head(hidden[:, -1:])[0, -1]  # type: ignore[no-any-return]

    def greedy(
        self,
        cache: Any,
        logits: torch.Tensor,
        positions: torch.Tensor,
        limit: int,
        stops: Iterable[int] = (),
    ) -> tuple[list[int], torch.Tensor]:
        """Decode token by token with the whole model, always taking the likeliest.

        Args:
            cache: of the prompt, all layers.
            logits: [vocabulary], of the prompt's last token.
            positions: of the prompt, as for `resume`.
            limit: most tokens to decode.
            stops: tokens that end the text; the one that did is the last returned.

        Returns:
            The tokens, and the logits [steps, vocabulary] float32 that each was taken from.
        """
        ends = set(stops)
        following = positions.max() + 1
        tokens: list[int] = []
        steps: list[torch.Tensor] = []
        while True:
            steps.append(logits.float())
            tokens.append(int(logits.float().argmax()))
            if tokens[-1] in ends or len(tokens) == limit:
                return tokens, torch.stack(steps)
            place = (following + len(tokens) - 1).expand(*positions.shape[:-1], 1)
            ids = torch.tensor([tokens[-1:]], device=logits.device)
            logits = self.run(cache, place, input_ids=ids)


def locate(model: ModelSpec) -> Path | None:
    """Folder of a model that is bundled or local; None if it is on the Hub.

    Raises:
        ModelError: a bundled model is not there.
    """
    if model.id.startswith(_BUNDLED):
        folder = bundled_path(model.id.removeprefix(_BUNDLED))
        if not folder.is_dir():
            raise ModelError(f"{model.id}: this installation has no such miniature")
        return folder
    return folder if (folder := Path(model.id)).is_dir() else None


def fingerprint(folder: Path) -> str:
    """Hex sha256 over the names and contents of what is loaded from a folder."""
    digest = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if path.suffix in (".safetensors", ".json", ".jinja", ".txt") and path.is_file():
            if path.name == "training.json":
                continue  # a report of how the weights were made: not loaded
            digest.update(f"{path.name}\0{path.stat().st_size}\0".encode())
            with path.open("rb") as file:
                while block := file.read(1 << 24):
                    digest.update(block)
    return digest.hexdigest()


@contextmanager
def _quiet() -> Iterator[None]:
    log = transformers.utils.logging
    level, bars = log.get_verbosity(), log.is_progress_bar_enabled()
    log.set_verbosity_error()
    log.disable_progress_bar()
    try:
        yield
    finally:
        log.set_verbosity(level)
        if bars:
            log.enable_progress_bar()


def load_library(
    model: ModelSpec, library_class: Any, model_type: str, device: str
) -> tuple[Any, Any, str]:
    """Load a checkpoint and its tokenizer: safetensors only, no code from the checkpoint, silently.

    Args:
        model: which weights, and the dtype to compute in.
        library_class: the library's class for the architecture.
        model_type: what the checkpoint's config must call itself.
        device: where the model goes.

    Returns:
        The model in evaluation mode, the tokenizer, and what pins the weights: a Hub commit, or
        the `fingerprint` of a folder.

    Raises:
        ModelError: the checkpoint is missing, damaged or of another architecture.
    """
    folder = locate(model)
    where = str(folder or model.id)
    pinned: Mapping[str, Any] = {} if folder or not model.revision else {"revision": model.revision}
    try:
        with _quiet():
            # The bare file first: the library's own classes accept any other model's config.
            config, _ = transformers.PreTrainedConfig.get_config_dict(where, **pinned)
            if (found := config.get("model_type")) != model_type:
                raise ModelError(f"{model.id}: a {model_type} is needed, this is a {found}")
            loaded, report = library_class.from_pretrained(
                where,
                dtype=getattr(torch, model.dtype),
                use_safetensors=True,
                output_loading_info=True,
                **pinned,
            )
            tokenizer = transformers.AutoTokenizer.from_pretrained(where, **pinned)
    except ModelError:
        raise
    except Exception as error:  # what damaged files raise is nowhere declared
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        hint = ""
        if folder is None and model.gated:
            hint = (
                f" Accept its licence at https://huggingface.co/{model.id}, then `hf auth login`."
            )
        raise ModelError(f"{model.id}: cannot be loaded: {reason}{hint}") from error
    if wrong := [*report["missing_keys"], *report["mismatched_keys"]]:
        raise ModelError(f"{model.id}: {len(wrong)} weights are missing or misshapen: {wrong[0]}")
    commit = getattr(loaded.config, "_commit_hash", None) or model.revision or ""
    revision = fingerprint(folder) if folder else commit
    return loaded.to(device).eval(), tokenizer, revision
