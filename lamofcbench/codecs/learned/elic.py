"""ELIC of one channel: channel groups of uneven size, each with space-channel context.

He et al., "ELIC: Efficient Learned Image Compression with Unevenly Grouped Space-Channel Contextual
Adaptive Coding", CVPR 2022. Groups of 16, 16, 32, 64 and 192 of 320 channels are coded one after
another; each is predicted from the hyperprior, from the groups before it, and, for one half of its
checkerboard, from the other half. Names of weights are those of CompressAI's layout of ELIC.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import nn

from lamofcbench.codecs.learned.base import Learned
from lamofcbench.codecs.learned.library import library
from lamofcbench.codecs.learned.planes import STEP

__all__ = ["Elic"]

GROUPS = (16, 16, 32, 64)
"""Of 320 channels; the last group has the rest. Smaller latents have the same shares."""
WIDTHS = (224, 128)
"""Of the layers that predict a group from those before it, for 320 channels."""
FULL = 320
LATENT = 16
"""A latent position stands for so many rows and columns."""


class Elic(Learned):
    """``n`` 192 and ``m`` 320 by default; see `Learned`."""

    name = "elic"
    sizes = (192, 320)
    least = (2, 5)
    strings = 2 * (len(GROUPS) + 1) + 1

    @property
    def groups(self) -> list[int]:
        """Channels of each group."""
        groups = [max(1, share * self.m // FULL) for share in GROUPS]
        return [*groups, self.m - sum(groups)]

    def build(self) -> Any:
        """See `Learned.build`."""
        models = library().models
        network = models.base.SimpleVAECompressionModel()
        network.g_a = _analysis(self.n, self.m)
        network.g_s = _synthesis(self.n, self.m)
        codecs, entropy = library().latent_codecs, library().entropy_models
        conv, deconv = models.utils.conv, models.utils.deconv
        n = self.n
        network.latent_codec = codecs.HyperpriorLatentCodec(
            latent_codec={
                "y": self._groups_codec(),
                "hyper": codecs.HyperLatentCodec(
                    entropy_bottleneck=entropy.EntropyBottleneck(n),
                    h_a=_chain([conv(self.m, n, kernel_size=3, stride=1), conv(n, n), conv(n, n)]),
                    h_s=_chain(
                        [
                            deconv(n, n),
                            deconv(n, n * 3 // 2),
                            deconv(n * 3 // 2, n * 2, kernel_size=3, stride=1),
                        ]
                    ),
                    quantizer="ste",
                ),
            }
        )
        return network

    def _groups_codec(self) -> Any:
        """Codes the latent, group after group."""
        codecs, layers = library().latent_codecs, library().layers
        conv = library().models.utils.conv
        groups = self.groups
        first, second = (max(1, width * self.m // FULL) for width in WIDTHS)
        context, coders = {}, {}
        for place, size in enumerate(groups):
            before = sum(groups[:place])
            if place:
                widths = (before, first, second, 2 * size)
                context[f"y{place}"] = _chain([conv(*two, stride=1) for two in pairwise(widths)])
            known = 2 * self.n + 2 * size * (2 if place else 1)
            coders[f"y{place}"] = codecs.CheckerboardLatentCodec(
                latent_codec={"y": codecs.GaussianConditionalLatentCodec(quantizer="ste")},
                context_prediction=layers.CheckerboardMaskedConv2d(
                    size, 2 * size, kernel_size=5, padding=2
                ),
                entropy_parameters=_chain(
                    [nn.Conv2d(*two, 1) for two in pairwise(_ramp(known, 2 * size, 2 * self.n))]
                ),
            )
        return codecs.ChannelGroupsLatentCodec(
            groups=groups, channel_context=context, latent_codec=coders
        )

    def _compress(self, network: Any, plane: torch.Tensor) -> list[bytes]:
        return [string[0] for string in network.compress(plane)["strings"]]

    def _decompress(
        self, network: Any, strings: list[bytes], size: tuple[int, int]
    ) -> torch.Tensor:
        height, width = size[0] // LATENT, size[1] // LATENT
        shape = {
            "y": [(channels, height, width) for channels in self.groups],
            "hyper": (size[0] // STEP, size[1] // STEP),
        }
        decoded: torch.Tensor = network.decompress([[s] for s in strings], shape)["x_hat"]
        return decoded


def _chain(layers: Sequence[nn.Module]) -> nn.Sequential:
    """Layers with rectifiers between them."""
    chained = [part for layer in layers for part in (layer, nn.ReLU(inplace=True))]
    return nn.Sequential(*chained[:-1])


def _ramp(first: int, last: int, least: int) -> list[int]:
    """Channels of three layers that go from ``first`` to ``last`` in even steps."""
    inner = [first + (last - first) * place // 3 for place in (1, 2)]
    return [first, *(max(least, width) for width in inner), last]


def _blocks(n: int) -> list[nn.Module]:
    block = library().models.sensetime.ResidualBottleneckBlock
    return [block(n, n) for _ in range(3)]


def _analysis(n: int, m: int) -> nn.Sequential:
    """From a plane to its latent, a sixteenth as high and wide."""
    conv, attention = library().models.utils.conv, library().layers.AttentionBlock
    return nn.Sequential(
        *(conv(1, n), *_blocks(n)),
        *(conv(n, n), *_blocks(n), attention(n)),
        *(conv(n, n), *_blocks(n)),
        *(conv(n, m), attention(m)),
    )


def _synthesis(n: int, m: int) -> nn.Sequential:
    """Back from the latent."""
    deconv, attention = library().models.utils.deconv, library().layers.AttentionBlock
    return nn.Sequential(
        *(attention(m), deconv(m, n), *_blocks(n)),
        *(deconv(n, n), attention(n), *_blocks(n)),
        *(deconv(n, n), *_blocks(n)),
        deconv(n, 1),
    )
