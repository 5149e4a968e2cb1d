"""Training a learned codec: rate and squared error of scaled planes.

The loss is the reference's, ``lambda * 255^2 * MSE + bits``, both over the elements that a plane
has, padding left out. One thread and one generator: the same request gives the same weights.
"""

import random
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from lamofcbench.codecs.base import Axes, Features
from lamofcbench.codecs.learned.base import MOST_QUANTILE, Learned, Weights
from lamofcbench.codecs.learned.library import library
from lamofcbench.codecs.learned.planes import STEP, Scaling, pad
from lamofcbench.errors import SampleError

__all__ = ["Samples", "train_weights"]

Plane = NDArray[np.float32]
KEPT_BYTES = 1 << 29
"""Of planes that are kept in memory."""
GRID = 16
"""Patches begin at multiples of this, as the latent's positions do."""
QUANTILES_EVERY = 100
PEAK = 255**2
CLIP = 1.0


class Samples(Protocol):
    """Samples to train on, each read when it is asked for."""

    def __len__(self) -> int:
        """Count them."""

    def __getitem__(self, place: int) -> Features:
        """Read one: tensors by key."""


class _Patches:
    """Patches of padded planes, with masks that say what is no padding."""

    def __init__(
        self,
        codec: Learned,
        samples: Samples,
        axes: Axes,
        scalings: Mapping[str, Scaling],
        size: int,
    ) -> None:
        self._codec, self._samples, self._axes, self._scalings = codec, samples, axes, scalings
        self._size = size
        self._kept: dict[tuple[int, str], tuple[Plane, Plane]] = {}
        self._room = KEPT_BYTES

    def _planes(self, sample: int, key: str) -> tuple[Plane, Plane] | None:
        if (sample, key) not in self._kept:
            for name, tensor in self._samples[sample].items():
                if name not in self._scalings or not tensor.numel():
                    continue
                plane = self._codec.plane(self._scalings[name], tensor, self._axes[name])
                pair = pad(plane), pad(np.ones_like(plane))
                self._room -= sum(part.nbytes for part in pair)
                self._kept[sample, name] = pair
            while self._room < 0 and len(self._kept) > len(self._scalings):
                first = next(iter(self._kept))
                self._room += sum(part.nbytes for part in self._kept.pop(first))
        return self._kept.get((sample, key))

    def draw(self, random_: random.Random, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Draw planes and masks [count, 1, size, size]; every key is as likely as another."""
        size = self._size
        both = np.zeros((2, count, 1, size, size), np.float32)
        keys = sorted(self._scalings)
        for place in range(count):
            pair = self._planes(random_.randrange(len(self._samples)), random_.choice(keys))
            if pair is None:
                continue
            height, width = pair[0].shape
            top = random_.randrange(0, max(height - size, 0) + 1, GRID)
            left = random_.randrange(0, max(width - size, 0) + 1, GRID)
            for part, plane in enumerate(pair):
                patch = plane[top : top + size, left : left + size]
                both[part, place, 0, : patch.shape[0], : patch.shape[1]] = patch
        planes, masks = torch.from_numpy(both)
        return planes, masks


def _loss(network: Any, planes: torch.Tensor, masks: torch.Tensor, lmbda: float) -> torch.Tensor:
    out = network(planes)
    elements = masks.sum().clamp_min(1)
    bits = sum(-likelihood.log2().sum() for likelihood in out["likelihoods"].values())
    error = ((out["x_hat"] - planes).square() * masks).sum()
    loss: torch.Tensor = (lmbda * PEAK * error + bits) / elements
    return loss


def _update_quantiles(network: Any) -> None:
    """Find the quantiles of the factorised prior, in place of an optimiser of their own."""
    for module in network.modules():
        if isinstance(module, library().entropy_models.EntropyBottleneck):
            module._update_quantiles()
            # What lies beyond is coded all the same, by the coder's escape.
            module.quantiles.data.clamp_(-MOST_QUANTILE, MOST_QUANTILE)


def train_weights(
    codec: Learned,
    samples: Samples,
    axes: Axes,
    scalings: Mapping[str, Scaling],
    *,
    steps: int,
    lmbda: float,
    seed: int = 0,
    batch: int = 8,
    patch: int = STEP,
    rate: float = 1e-3,
    step: Callable[[float], object] = lambda loss: None,
) -> Weights:
    """Train a codec's network from random weights.

    Args:
        codec: whose.
        samples: tensors by key, of the training split.
        axes: the name of each key's axes.
        scalings: how each key is scaled; keys that have none are not trained on.
        steps: of the optimiser, Adam; its rate falls to zero along half a cosine.
        lmbda: what squared error costs, of values from 0 to 255.
        seed: of weights, patches and noise.
        batch: patches a step.
        patch: their side, a multiple of 64.
        rate: Adam's, at first.
        step: called with each step's loss.

    Returns:
        The weights.

    Raises:
        SampleError: there is nothing to train on, or an argument is out of range.
    """
    if not len(samples) or not scalings:
        raise SampleError("no samples to train on")
    if steps < 1 or batch < 1 or patch < STEP or patch % STEP or not lmbda > 0:
        raise SampleError(
            f"training needs steps and batch above 0, lambda above 0 and a patch that is a "
            f"multiple of {STEP}; given {steps}, {batch}, {lmbda} and {patch}"
        )
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = codec.build()
            network.train()
            patches = _Patches(codec, samples, axes, scalings, patch)
            random_ = random.Random(seed)
            codec.start(network, patches.draw(random_, batch)[0])
            trained = [p for name, p in network.named_parameters() if "quantiles" not in name]
            optimiser = torch.optim.Adam(trained, rate)
            falling = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
            for number in range(steps):
                if number % QUANTILES_EVERY == 0:
                    _update_quantiles(network)
                loss = _loss(network, *patches.draw(random_, batch), lmbda)
                optimiser.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                torch.nn.utils.clip_grad_norm_(trained, CLIP)
                optimiser.step()
                falling.step()
                step(float(loss.detach()))
            _update_quantiles(network)
    finally:
        torch.set_num_threads(threads)
    return {name: tensor.detach() for name, tensor in network.named_parameters()}
