"""Trains the ``vit_dep`` miniature: a DINOv3 of four blocks and its depth head.

Run ``python -m extraction.tiny.vit_dep``. On one machine the same seed gives the same weights.
"""

from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from extraction.sources.digit_rooms import SIZE, DigitRooms, compose
from extraction.sources.digits import partition
from extraction.tiny.vit_dense import Miniature, run
from lamofcbench.models.heads.depth import DepthHead
from lamofcbench.models.vit import Vit
from lamofcbench.models.vit_inputs import FlippedPair
from lamofcbench.scores.depth import DepthErrors, depth_errors, mean_errors
from lamofcbench.spec import ProfileSpec

__all__ = ["VitDep"]

ROOMS = 4000
CHANNELS = 16
FINE = 4
STEPS = 950


class VitDep(Miniature):
    """The depth of every pixel of a room."""

    name = "vit_dep"
    config = "nyuv2-vit"
    image_size = (48, 64)
    batch = 32

    def head(self, dim: int, levels: int, prefix: int) -> DepthHead:
        """Make the head with random weights."""
        return DepthHead(dim, levels, CHANNELS, FINE, prefix)

    def data(self, profile: ProfileSpec, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Draw rooms with training digits; targets are log depth, [n, 60, 80]."""
        random = np.random.RandomState(seed)
        prepare = FlippedPair.declared(profile)
        pixels, targets = [], []
        for _ in range(ROOMS):
            image, depth, _ = compose(random, partition()[0])
            views, _ = prepare.prepare(image)
            view = random.randint(2)
            pixels.append(views[view])
            log_depth = torch.from_numpy(depth).log()
            targets.append(log_depth.flip(1) if view else log_depth)
        return torch.stack(pixels), torch.stack(targets)

    def loss(self, answers: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Mean absolute difference of log depth."""
        enlarged = F.interpolate(answers, targets.shape[1:], mode="bilinear")[:, 0]
        return (enlarged.log() - targets).abs().mean()

    def evaluate(self, model: Vit, samples: int) -> dict[str, Any]:
        """Score every mode, raw and aligned, and an answer of the mean depth everywhere."""
        chosen = DigitRooms(model.profile).select("test", samples)
        truths = [sample.reference["depth"].reshape(SIZE) for sample in chosen]

        def rounded(errors: DepthErrors) -> dict[str, float]:
            return {name: round(value, 4) for name, value in asdict(errors).items()}

        def score(mode: str, aligned: bool) -> dict[str, float]:
            answers = [model.plain(sample.inputs, mode).prediction for sample in chosen]
            pairs = zip(answers, truths, strict=True)
            return rounded(mean_errors(depth_errors(a, t, aligned=aligned) for a, t in pairs))

        mean = np.full(SIZE, np.mean(truths))
        return {
            "metric": "depth",
            "samples": samples,
            "score": score("multi", False)["rmse"],
            "raw": score("multi", False),
            "aligned": score("multi", True),
            "modes": {mode: score(mode, False)["rmse"] for mode in model.profile.modes},
            "mean_depth_baseline": rounded(mean_errors(depth_errors(mean, t) for t in truths)),
        }


if __name__ == "__main__":
    run(VitDep(), STEPS)
