"""Likeness of an image to the one that the uncoded model makes with the same noise."""

import numpy as np
import torch

from lamofcbench.optional import require
from lamofcbench.scores.base import Answer, Fidelity, Figure, Numbers, mean
from lamofcbench.scores.edge_f1 import edge_f1
from lamofcbench.scores.psnr import psnr

__all__ = ["ImageFidelity"]

CANNY = (50, 150)
CEILING = 100.0
"""Decibels at which two equal images are entered, for their ratio is infinite."""


class ImageFidelity(Fidelity):
    """``ssim`` (Wang et al., 2004), ``psnr`` in dB, ``edge_f1`` of Canny edges."""

    figures = (Figure("ssim", mean), Figure("psnr", mean), Figure("edge_f1", mean))

    def compare(self, uncoded: Answer, coded: Answer) -> Numbers:
        """See `Fidelity.compare`."""
        cv2 = require("cv2", "models")
        metrics = require("torchmetrics.functional.image", "models")
        first, second = np.asarray(uncoded.prediction), np.asarray(coded.prediction)
        edges = [
            cv2.Canny(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), *CANNY) > 0
            for image in (first, second)
        ]
        batch = [torch.from_numpy(i).permute(2, 0, 1)[None].double() for i in (second, first)]
        alike = metrics.structural_similarity_index_measure(*batch, data_range=255.0)
        return {
            "ssim": [float(alike)],
            "psnr": [min(psnr(first, second, 255), CEILING)],
            "edge_f1": [edge_f1(edges[1], edges[0])],
        }
