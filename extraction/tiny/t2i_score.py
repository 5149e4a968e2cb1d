"""Scores the ``t2i`` miniature on held-out digits, beside what it would score by luck."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from extraction.sources.base import SourceSample
from extraction.sources.digits_t2i import INKS, WORDS, DigitsT2i
from lamofcbench.models import load_family
from lamofcbench.models.control import Edges
from lamofcbench.models.t2i import T2i
from lamofcbench.scores.edge_f1 import edge_f1
from lamofcbench.scores.psnr import psnr
from lamofcbench.spec import load_scenario

__all__ = ["evaluate"]

SHIFT = 3
"""How far along the other sample is whose caption or edges a baseline takes; samples come in rounds
over the digits, so near ones mostly differ."""


def _ink(image: Any) -> str:
    """Name the ink whose hue is nearest to that of an image, uint8 [height, width, 3]."""
    total = np.asarray(image, np.float64).sum((0, 1))
    total /= np.linalg.norm(total) or 1
    inks = {name: np.array(rgb) / np.linalg.norm(rgb) for name, rgb in INKS.items()}
    return max(inks, key=lambda name: float(inks[name] @ total))


def _mean(values: Sequence[float]) -> float:
    return round(float(np.mean(values)), 4)


def _scores(
    pictures: Sequence[torch.Tensor],
    samples: Sequence[SourceSample],
    edges: Edges,
    reader: Callable[[Any], int],
) -> dict[str, float]:
    """Compare pictures with the sources and captions of samples."""
    rows: dict[str, list[float]] = {"psnr": [], "edge_f1": [], "ink": [], "digit": []}
    for picture, sample in zip(pictures, samples, strict=True):
        made, source = picture.numpy(), sample.inputs["image"]
        words = sample.inputs["prompt"].replace(",", "").split()
        rows["psnr"].append(psnr(made, source, 255))
        rows["edge_f1"].append(edge_f1(edges(made), edges(source)))
        rows["ink"].append(float(_ink(made) in words))
        rows["digit"].append(float(WORDS[reader(made.max(2))] in words))
    return {name: _mean(values) for name, values in rows.items()}


def evaluate(model: T2i, count: int) -> dict[str, Any]:
    """Make pictures of the first ``count`` test samples and compare them with their sources.

    Returns:
        Means of PSNR in dB, of edge F1, of the share whose ink the caption names and of the share
        that the ``vit`` miniature reads as the digit that the caption names. Beside the model's
        own stand those of pictures made from another sample's edges, from another's caption, and
        of the sources themselves.
    """
    samples = DigitsT2i(model.profile).select("test", count)
    generation = model.generation
    edges = Edges(generation.size, generation.canny_low, generation.canny_high)
    vit = load_family("vit", load_scenario("in1k-vit").profile("tiny"))

    def reader(grey: Any) -> int:
        # The inks differ in brightness, and the reader has seen white alone.
        stretched = np.rint(grey * (255 / max(int(grey.max()), 1))).astype(np.uint8)
        return int(vit.plain({"image": stretched}).prediction)

    def made(prompts: int, images: int) -> dict[str, float]:
        pictures = []
        for i in range(count):
            prompt = samples[(i + prompts) % count].inputs["prompt"]
            image = samples[(i + images) % count].inputs["image"]
            pictures.append(model.plain({"prompt": prompt, "image": image}).prediction)
        return _scores(pictures, samples, edges, reader)

    sources = [torch.from_numpy(s.inputs["image"]) for s in samples]
    return {
        "samples": count,
        "model": made(0, 0),
        "other_edges": made(0, SHIFT),
        "other_caption": made(SHIFT, 0),
        "sources": {
            k: v for k, v in _scores(sources, samples, edges, reader).items() if k != "psnr"
        },
    }
