"""The scale hyperprior of one channel, as CompressAI lays it out.

Ballé et al., "Variational image compression with a scale hyperprior", ICLR 2018.
"""

from typing import Any

import torch

from lamofcbench.codecs.learned.base import Learned
from lamofcbench.codecs.learned.library import library
from lamofcbench.codecs.learned.planes import STEP

__all__ = ["Hyperprior"]

SPREAD = 3.0
"""Of the latent, in steps of its rounding, where training starts."""


class Hyperprior(Learned):
    """``n`` 128 and ``m`` 192 by default; see `Learned`."""

    name = "hyperprior"
    sizes = (128, 192)
    least = (1, 1)
    strings = 2

    def build(self) -> Any:
        """See `Learned.build`: CompressAI's network with its first and last layer changed."""
        models = library().models
        network = models.ScaleHyperprior(self.n, self.m)
        network.g_a[0] = models.utils.conv(1, self.n)
        network.g_s[-1] = models.utils.deconv(self.n, 1)
        return network

    def start(self, network: Any, planes: torch.Tensor) -> None:
        """See `Learned.start`: a latent of random weights is far smaller than what rounds it.

        Its noise would drown it, and the synthesis learn to make nothing of it.
        """
        with torch.no_grad():
            latent = network.g_a(planes)
            spread = (latent - latent.mean((0, 2, 3), keepdim=True)).std()
            factor = SPREAD / spread.clamp_min(1e-6)
            network.g_a[-1].weight *= factor
            network.g_a[-1].bias *= factor
            network.g_s[0].weight /= factor

    def _compress(self, network: Any, plane: torch.Tensor) -> list[bytes]:
        latent, hyper = network.compress(plane)["strings"]
        return [latent[0], hyper[0]]

    def _decompress(
        self, network: Any, strings: list[bytes], size: tuple[int, int]
    ) -> torch.Tensor:
        shape = (size[0] // STEP, size[1] // STEP)
        decoded: torch.Tensor = network.decompress([[s] for s in strings], shape)["x_hat"]
        return decoded
