"""Trains the ``vit_seg`` miniature: a DINOv3 of four blocks and its segmentation head.

Run ``python -m extraction.tiny.vit_seg``. On one machine the same seed gives the same weights.
"""

from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from extraction.sources.digit_scenes import CLASSES, DigitScenes, compose
from extraction.sources.digits import partition
from extraction.tiny.vit_dense import Miniature, run
from lamofcbench.models.heads.segmentation import SegmentationHead
from lamofcbench.models.vit import Vit
from lamofcbench.models.vit_inputs import SlidingCrops
from lamofcbench.scores.miou import areas, mean_iou
from lamofcbench.spec import ProfileSpec

__all__ = ["VitSeg"]

SCENES = 4000
FINE = 4
STEPS = 1800


class VitSeg(Miniature):
    """The class of every pixel of a scene of digits."""

    name = "vit_seg"
    config = "ade20k-vit"
    image_size = (64, 64)
    batch = 32

    def head(self, dim: int, levels: int, prefix: int) -> SegmentationHead:
        """Make the head with random weights."""
        return SegmentationHead(dim, levels, CLASSES, FINE, prefix)

    def data(self, profile: ProfileSpec, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Draw one random crop each of scenes of training digits; targets are [n, 64, 64]."""
        random = np.random.RandomState(seed)
        prepare = SlidingCrops.declared(profile)
        pixels, targets = [], []
        for _ in range(SCENES):
            short = random.randint(48, 81)
            image, mask, _ = compose(random, partition()[0], short, int(short * 1.6))
            crops, context = prepare.prepare(image)
            place = random.randint(len(crops))
            size = [int(n) for n in context["image_size"]]
            labels = F.interpolate(torch.from_numpy(mask)[None, None].float(), size)[0, 0]
            top, left = prepare.offsets((size[0], size[1]))[place]
            pixels.append(crops[place])
            targets.append(labels[top : top + prepare.crop, left : left + prepare.crop] - 1)
        return torch.stack(pixels), torch.stack(targets).long()

    def loss(self, answers: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Cross-entropy of every pixel; the ground, of which there is most, counts least."""
        weights = torch.tensor([0.3] + [1.0] * (CLASSES - 1))
        enlarged = F.interpolate(answers, targets.shape[1:], mode="bilinear")
        return F.cross_entropy(enlarged, targets, weight=weights)

    def evaluate(self, model: Vit, samples: int) -> dict[str, Any]:
        """Score every mode, and an answer of ground everywhere."""
        chosen = DigitScenes(model.profile).select("test", samples)
        masks = [sample.reference["mask"] for sample in chosen]

        def score(mode: str) -> float:
            answers = [model.plain(sample.inputs, mode).prediction for sample in chosen]
            pairs = zip(answers, masks, strict=True)
            return round(mean_iou([areas(a.ravel(), mask, CLASSES) for a, mask in pairs]), 4)

        majority = mean_iou([areas(np.zeros_like(mask), mask, CLASSES) for mask in masks])
        modes = {mode: score(mode) for mode in model.profile.modes}
        return {
            "metric": "miou",
            "samples": samples,
            "score": modes["multi"],
            "modes": modes,
            "majority_baseline": round(majority, 4),
        }


if __name__ == "__main__":
    run(VitSeg(), STEPS)
