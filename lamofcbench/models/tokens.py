"""Families that answer token by token: greedy answers, continuations, teacher forcing."""

from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import torch

from lamofcbench.models.base import Family, Output

__all__ = ["CONTINUATION", "Resumed", "TokenFamily", "greedy"]

CONTINUATION = 64
"""Tokens of a continuation on which fidelity is measured."""


@dataclass(frozen=True)
class Resumed:
    """A model that has a prompt behind it and can go on, once: running it changes its caches.

    Attributes:
        logits: [vocabulary], of the prompt's last position.
        run: takes new tokens int64 [n] and how many came before them since the prompt; returns
            the logits [n, vocabulary] of their positions.
    """

    logits: torch.Tensor
    run: Callable[[torch.Tensor, int], torch.Tensor]


def _as_they_are(logits: torch.Tensor, _tokens: list[int]) -> torch.Tensor:
    return logits


def greedy(
    resumed: Resumed,
    limit: int,
    stops: Iterable[int] = (),
    adjusted: Callable[[torch.Tensor, list[int]], torch.Tensor] = _as_they_are,
) -> tuple[list[int], torch.Tensor]:
    """Decode token by token, always taking the likeliest.

    Args:
        resumed: the model after its prompt.
        limit: most tokens to decode.
        stops: tokens that end the text; the one that did is the last returned.
        adjusted: changes logits float32 [vocabulary] in view of the tokens so far, before the
            choice.

    Returns:
        The tokens, and the logits [steps, vocabulary] float32, unadjusted, behind each.
    """
    ends = set(stops)
    tokens: list[int] = []
    steps: list[torch.Tensor] = []
    logits = resumed.logits
    while True:
        steps.append(logits.float())
        tokens.append(int(adjusted(steps[-1], tokens).argmax()))
        if tokens[-1] in ends or len(tokens) == limit:
            return tokens, torch.stack(steps)
        logits = resumed.run(torch.tensor(tokens[-1:], device=logits.device), len(tokens) - 1)[-1]


class TokenFamily(Family):
    """A family whose answer is text, decoded greedily.

    A mode that holds the states of the front half's layers answers in full; one that holds the
    split layer's output alone answers with the first token, since later ones need those states.

    Attributes:
        limit: most tokens of an answer.
        ends: tokens that end an answer.
    """

    limit: int
    ends: list[int]

    @property
    @abstractmethod
    def device(self) -> torch.device:
        """Where the model is."""

    @abstractmethod
    def answer(self, tokens: list[int], logits: torch.Tensor) -> Output:
        """Make an output of decoded tokens and the logits [steps, vocabulary] behind them."""

    @abstractmethod
    def _resume(
        self, features: Mapping[str, torch.Tensor], context: Mapping[str, torch.Tensor], mode: str
    ) -> Resumed:
        """Put the model behind its prompt; the mappings hold no more than the mode declares."""

    def adjusted(self, logits: torch.Tensor, tokens: list[int]) -> torch.Tensor:
        """Change logits float32 [vocabulary] before an answer's next token is chosen."""
        return logits

    def is_partial(self, mode: str | None) -> bool:
        """Whether a mode holds the split layer's output alone, and so gives one token."""
        return len(self.profile.mode(mode).keys) == 1

    @torch.inference_mode()
    def _back(
        self, features: Mapping[str, torch.Tensor], context: Mapping[str, torch.Tensor], mode: str
    ) -> Output:
        limit = 1 if self.is_partial(mode) else self.limit
        resumed = self._resume(features, context, mode)
        return self.answer(*greedy(resumed, limit, self.ends, self.adjusted))

    @torch.inference_mode()
    def continuation(
        self,
        features: Mapping[str, torch.Tensor],
        context: Mapping[str, torch.Tensor],
        mode: str | None = None,
        count: int = CONTINUATION,
    ) -> torch.Tensor:
        """Decode greedily whatever comes, past the end of the answer.

        Args:
            features: as for `back`.
            context: as for `back`.
            mode: as for `back`.
            count: how many tokens.

        Returns:
            int64 [count]; [1] in a mode that gives one token.
        """
        resumed = self._resume(*self.views(features, context, mode))
        tokens, _ = greedy(resumed, 1 if self.is_partial(mode) else count)
        return torch.tensor(tokens)

    @torch.inference_mode()
    def forced(
        self,
        features: Mapping[str, torch.Tensor],
        context: Mapping[str, torch.Tensor],
        tokens: torch.Tensor,
        mode: str | None = None,
    ) -> torch.Tensor:
        """Say what the model would have chosen at each step of a given text.

        Args:
            features: as for `back`.
            context: as for `back`.
            tokens: int64 [n], of a continuation.
            mode: as for `back`.

        Returns:
            float32 [n, vocabulary]: logits from which the first token, the second ... is chosen,
            if those before it are as given.
        """
        resumed = self._resume(*self.views(features, context, mode))
        steps = resumed.logits[None].float()
        if len(tokens) > 1:
            following = resumed.run(tokens[:-1].to(self.device), 0)
            steps = torch.cat([steps, following.float()])
        return steps.cpu()
