"""Choosing a codec's setting for a target: a rate, or a divergence from the uncoded model.

Settings are chosen on calibration samples alone, so what the test samples then show was not fitted
to them; it lies near the target, not at it.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

from lamofcbench.bench.points import Point, Uncoded
from lamofcbench.bench.rates import Held
from lamofcbench.bench.scoring import Runner, measured
from lamofcbench.codecs import codecs
from lamofcbench.errors import SampleError, UnknownNameError

__all__ = ["Target", "Unreached", "divergence", "mean_rate", "parse_target", "reach"]

FIGURES = ("bpfp", "kl")
DIVERGENCES = ("kl_rest", "kl_first", "kl")
"""Figures of a fidelity that a target of ``kl`` may mean, the first that a mode has."""


class Unreached(SampleError):
    """No setting of a codec reaches a target."""


@dataclass(frozen=True)
class Target:
    """A figure and its bound: at most so many bits a feature point, at most so many nats.

    Attributes:
        figure: ``bpfp`` or ``kl``.
        bound: above 0.
    """

    figure: str
    bound: float

    def __str__(self) -> str:
        return f"{self.figure}={self.bound:g}"


def parse_target(text: str) -> Target:
    """Make a target of ``bpfp=4`` or ``kl=0.01``.

    Raises:
        UnknownNameError: no such figure.
        SampleError: the bound is no number above 0.
    """
    figure, _, bound = text.partition("=")
    if figure not in FIGURES:
        raise UnknownNameError("target", figure, FIGURES)
    if not re.fullmatch(r"\d*\.?\d+(e-?\d+)?", bound) or not float(bound) > 0:
        raise SampleError(f"--target {text}: needs a number above 0, as in {figure}=0.5")
    return Target(figure, float(bound))


def reach(
    target: Target, name: str, parameters: Mapping[str, str], price: Callable[[str], float]
) -> str:
    """Choose a codec's setting.

    Rates rise and divergences fall along a codec's ladder of settings, so a few tries do: halving
    finds the finest that is cheap enough, or the coarsest that is like enough.

    Args:
        target: what to reach.
        name: of the codec.
        parameters: those that are given; the one that sets the rate must not be.
        price: takes a codec with parameters, as for `parse_codec`; gives the target's figure.

    Returns:
        The codec with all parameters, as for `parse_codec`.

    Raises:
        SampleError: the codec has no parameter that sets its rate, or it is given.
        Unreached: no setting does.
    """
    ladder = codecs().load(name).ladder
    if ladder is None:
        raise SampleError(f"{name}: has no parameter that sets its rate: leave out --target")
    chosen, steps = ladder
    if chosen in parameters:
        raise SampleError(f"{name}: {chosen} is what --target chooses: leave it out")

    def text(step: str) -> str:
        return f"{name}:" + ",".join(f"{k}={v}" for k, v in {**parameters, chosen: step}.items())

    found: str | None = None
    low, high = 0, len(steps)
    least = float("inf")
    while low < high:
        middle = (low + high) // 2
        value = price(text(steps[middle]))
        least = min(least, value)
        good = value <= target.bound
        found = text(steps[middle]) if good else found
        # A rate's bound is met from the coarse end, a divergence's from the fine one.
        if good == (target.figure == "bpfp"):
            low = middle + 1
        else:
            high = middle
    if found is None:
        raise Unreached(f"{name}: no {chosen} reaches {target}; the nearest gives {least:.3g}")
    return found


def mean_rate(
    encode: Callable[[Mapping[str, torch.Tensor]], bytes],
    samples: Sequence[Mapping[str, torch.Tensor]],
    common: Held,
) -> float:
    """Mean bits a feature point of some samples.

    Args:
        encode: to a bitstream.
        samples: a mode's keys each.
        common: what is not coded.
    """
    rates = []
    for features in samples:
        part = common.without(features)
        elements = sum(tensor.numel() for tensor in part.values())
        rates.append(8 * len(encode(part)) / elements)
    return sum(rates) / len(rates)


def divergence(runner: Runner, point: Point) -> float:
    """Mean divergence from the uncoded model, in nats.

    Raises:
        SampleError: this config's answers have none.
    """
    results = [runner.run(Uncoded()), runner.run(point)]
    measured(results, runner.score, runner.fidelity, resamples=1)
    for name in DIVERGENCES:
        if name in results[1].figures:
            return results[1].figures[name].value
    raise SampleError(f"{runner.dataset.config}: its answers have no divergence: use --target bpfp")
