"""Kimi-Audio, split after a layer of its language model."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch

from lamofcbench.errors import DeclarationError, ModelError, SampleError
from lamofcbench.models.audio import checked_audio
from lamofcbench.models.base import Capture, Half, Output
from lamofcbench.models.decoder import SplitDecoder, declared_split
from lamofcbench.models.kimi import KimiCheckpoint, KimiParts
from lamofcbench.models.tokens import Resumed, TokenFamily, greedy
from lamofcbench.spec import ProfileSpec, TensorSpec

__all__ = ["Alm", "Penalty"]

MAX_NEW_TOKENS = 1024


@dataclass(frozen=True)
class Penalty:
    """Makes what was said lately less likely.

    As in the published model's own sampler, it sets in once more than ``window`` tokens have been
    generated, and then counts the last ``window`` of them, never the prompt.

    Attributes:
        factor: logits above zero are divided by it, those below multiplied; 1 for no penalty.
        window: how many tokens count.
    """

    factor: float = 1.1
    window: int = 16

    def apply(self, logits: torch.Tensor, tokens: list[int]) -> torch.Tensor:
        """Penalise.

        Args:
            logits: [vocabulary] float32; left as they are.
            tokens: generated so far.

        Returns:
            Logits [vocabulary] float32 to choose the next token by.
        """
        if self.factor == 1 or len(tokens) <= self.window:
            return logits
        recent = torch.tensor(sorted(set(tokens[-self.window :])), device=logits.device)
        scores = logits[recent]
        scores = torch.where(scores < 0, scores * self.factor, scores / self.factor)
        return logits.scatter(0, recent, scores)


class Alm(TokenFamily):
    """Kimi-Audio: answers speech in text.

    Inputs are ``audio`` ([samples] float32, numpy, mono, 16 kHz, 0.1 to 60 s) and ``prompt`` (text
    that goes before it, may be left out). The prediction is the answer's text. ``preprocess`` may
    declare ``max_new_tokens`` (1024 by default), ``repetition_penalty`` (1.1) and
    ``repetition_window`` (16).

    The prompt has two streams of tokens, one of audio and control, one of text, whose embeddings
    are added; at audio tokens, the adapted Whisper frames are added first, and the sum is scaled.
    Keys are ``layer.<i>.k_cache`` and ``layer.<i>.v_cache``, [heads, N, d], of layers 0 to L (keys
    after rotation), and ``layer.<L>.output``, [N, D]. It needs no context. A mode that holds the
    output alone gives the answer's first token, since later ones need the caches.
    """

    name: ClassVar[str] = "alm"

    def __init__(self, profile: ProfileSpec, parts: KimiParts, half: Half = "whole") -> None:
        """Wrap a loaded model; use `load`.

        Raises:
            DeclarationError: the profile declares tensors that this family doesn't have.
            ModelError: the model has other shapes than the profile declares.
        """
        self.profile = profile
        self.parts = parts
        self.model = parts.trunk
        self.half = half
        declared = profile.preprocess
        self.limit = int(declared.get("max_new_tokens", MAX_NEW_TOKENS))
        self.penalty = Penalty(
            float(declared.get("repetition_penalty", Penalty.factor)),
            int(declared.get("repetition_window", Penalty.window)),
        )
        self.ends = [parts.special["end"]]
        self.names = [tensor.name for tensor in profile.keys]
        whole = half != "front"
        inner, head = (self.model.model, self.model.lm_head) if whole else (self.model, None)
        self.decoder = SplitDecoder(inner, head, self.declared(profile))
        for tensor in profile.keys:
            if tensor.shape != (real := _shape(tensor, self.model.config)):
                raise ModelError(
                    f"{profile.model.id}: {tensor.name} is {list(real)}, "
                    f"declared {list(tensor.shape)}"
                )

    @classmethod
    def declared(cls, profile: ProfileSpec) -> int:
        """The layer after which a profile splits the model.

        Raises:
            DeclarationError: it declares tensors that this family doesn't have.
        """
        names = [tensor.name for tensor in profile.keys]
        if extra := [name for name in names if not name.startswith("layer.")]:
            raise DeclarationError(f"family {cls.name} has no tensor {extra[0]!r}")
        return declared_split(names)

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
        checkpoint = KimiCheckpoint(profile.model)
        split = cls.declared(profile)
        dtype: torch.dtype = getattr(torch, profile.model.dtype)
        partial = len(profile.mode(mode).keys) == 1
        family = cls(profile, checkpoint.load(split, half, dtype, device, partial=partial), half)
        family.parameters_loaded = checkpoint.parameters_loaded
        family.parameters_total = checkpoint.parameters_total
        family.loaded_half(half, mode)
        family.revision = "" if half == "back" else checkpoint.revision(split)
        return family

    @classmethod
    def revision_of(cls, profile: ProfileSpec) -> str:
        """See `Family.revision_of`."""
        return KimiCheckpoint(profile.model).revision(cls.declared(profile))

    @classmethod
    def adapted(cls, profile: ProfileSpec) -> ProfileSpec:
        """Bring the declared shapes to another Kimi-Audio; see `Family.adapted`."""
        config = KimiCheckpoint(profile.model).config
        keys = tuple(
            tensor.model_copy(update={"shape": _shape(tensor, config)}) for tensor in profile.keys
        )
        return profile.model_copy(update={"keys": keys})

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.model.device  # type: ignore[no-any-return]

    def prompt(self, inputs: Mapping[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
        """Build the model's input: optional text, then audio.

        Returns:
            Embeddings [1, N, D], and the ids int64 of the tokens before the audio.

        Raises:
            SampleError: see `checked_audio`; or the prompt is not text.
            ModelError: only the back half was loaded.
        """
        ear, adaptor = self.parts.ear, self.parts.adaptor
        if ear is None or adaptor is None:
            raise ModelError(f"{self.profile.model.id}: only its back half was loaded")
        audio = checked_audio(inputs)
        text = inputs.get("prompt") or ""
        if not isinstance(text, str):
            raise SampleError(f"prompt must be text, not {type(text).__name__}")
        special = self.parts.special
        words = self.parts.tokenizer(text, add_special_tokens=False)["input_ids"] if text else []
        codes, frames = ear.hear(audio)
        blank, begin = special["blank"], [special["media_begin"]]
        after = ["media_end", "to_text", "message_end", "assistant"]
        heard = (codes + self.parts.offset).tolist()
        before = [special["user"], *[blank] * len(words), *begin]
        spoken = [*before, *heard, *(special[role] for role in after)]
        written = [blank, *words, *[blank] * (len(spoken) - 1 - len(words))]
        embed = self.model.get_input_embeddings()
        streams = torch.tensor([spoken, written], device=self.device)
        embeddings = embed(streams[0])
        place = slice(len(before), len(before) + len(heard))
        embeddings[place] = (embeddings[place] + adaptor(frames)) * 2**0.5
        embeddings = embeddings + embed(streams[1])
        return embeddings[None], torch.tensor([special["user"], *words, *begin])

    def answering(self, ids: torch.Tensor) -> torch.Tensor:
        """Embeddings [1, n, D] of tokens [n] of the answer: the audio stream is blank."""
        blank = torch.tensor([self.parts.special["blank"]], device=self.device)
        embed = self.model.get_input_embeddings()
        return (embed(blank) + embed(ids))[None]  # type: ignore[no-any-return]

    def adjusted(self, logits: torch.Tensor, tokens: list[int]) -> torch.Tensor:
        """Apply the penalty on repetition; see `TokenFamily.adjusted`."""
        return self.penalty.apply(logits, tokens)

    def answer(self, tokens: list[int], logits: torch.Tensor) -> Output:
        """See `TokenFamily.answer`."""
        text = self.parts.tokenizer.decode(tokens, skip_special_tokens=True)
        return Output(prediction=text.strip(), logits=logits.cpu())

    @torch.inference_mode()
    def front(self, inputs: Mapping[str, Any]) -> Capture:
        """Run the layers up to the split over a prompt; see `Family.front`.

        The capture's token ids end where the audio begins: equal audio tokens don't make equal
        features, so they must not count as a prefix that samples share.
        """
        self.require_half("front")
        embeddings, ids = self.prompt(inputs)
        with self.decoder.stopping() as captured:
            positions = self._positions(embeddings.shape[1])
            self.decoder.hidden(captured.cache, positions, inputs_embeds=embeddings)
        features = {name: captured.tensor(name).cpu() for name in self.names}
        return Capture(features, {}, ids)

    @torch.inference_mode()
    def plain(self, inputs: Mapping[str, Any], mode: str | None = None) -> Output:
        """Run the library's own forward over the prompt, then token by token.

        Its generation takes a single stream of tokens, so the loop is ours. In a mode that holds
        the split layer's output alone there is one token; see `Family.plain`.
        """
        self.require_half("whole")
        partial = mode is not None and self.is_partial(mode)
        embeddings, _ = self.prompt(inputs)
        result = self.model(inputs_embeds=embeddings, use_cache=True, logits_to_keep=1)
        cache = result.past_key_values

        def run(ids: torch.Tensor, _done: int) -> torch.Tensor:
            new = self.answering(ids)
            return self.model(inputs_embeds=new, past_key_values=cache).logits[0]  # type: ignore[no-any-return]

        resumed = Resumed(result.logits[0, -1], run)
        limit = 1 if partial else self.limit
        return self.answer(*greedy(resumed, limit, self.ends, self.adjusted))

    def _resume(
        self, features: Mapping[str, torch.Tensor], context: Mapping[str, torch.Tensor], mode: str
    ) -> Resumed:
        on, split = self.device, self.decoder.split
        output = features[f"layer.{split}.output"].to(on)
        caches = []
        if not self.is_partial(mode):
            for i in range(split + 1):
                pair = features[f"layer.{i}.k_cache"].to(on), features[f"layer.{i}.v_cache"].to(on)
                if any(tensor.shape[1] != len(output) for tensor in pair):
                    raise SampleError(f"layer.{i}: caches of other than {len(output)} tokens")
                caches.append(pair)
        positions = self._positions(len(output))
        cache, logits = self.decoder.resume(output, caches, positions)
        return self.decoder.resumed(
            cache, logits, positions, lambda ids: {"inputs_embeds": self.answering(ids)}
        )

    def _positions(self, count: int) -> torch.Tensor:
        return torch.arange(count, device=self.device)[None]


def _shape(tensor: TensorSpec, config: Any) -> tuple[int | str, ...]:
    if not tensor.name.endswith("_cache"):
        return ("token", config.hidden_size)
    heads = config.num_attention_heads
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // heads
    return ("token", config.num_key_value_heads, head_dim)
