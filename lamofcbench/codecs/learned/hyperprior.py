"""The scale hyperprior of one channel, as CompressAI lays it out.

Ballé et al., "Variational image compression with a scale hyperprior", ICLR 2018.
"""

from typing import Any

import torch

from lamofcbench.codecs.learned.base import Learned
from lamofcbench.codecs.learned.library import library
from lamofcbench.codecs.learned.planes import STEP

__all__ = ["Hyperprior"]


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

    def _compress(self, network: Any, plane: torch.Tensor) -> list[bytes]:
        latent, hyper = network.compress(plane)["strings"]
        return [latent[0], hyper[0]]

    def _decompress(
        self, network: Any, strings: list[bytes], size: tuple[int, int]
    ) -> torch.Tensor:
        shape = (size[0] // STEP, size[1] // STEP)
        decoded: torch.Tensor = network.decompress([[s] for s in strings], shape)["x_hat"]
        return decoded
