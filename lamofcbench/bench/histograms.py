"""Histograms of what a store's keys hold."""

import math
from typing import Any

import numpy as np

from lamofcbench.bench.figures import MINIATURE_NOTE, mark_asinh, new_figure
from lamofcbench.dataset import load_dataset
from lamofcbench.errors import SampleError

__all__ = ["plot_features"]

BINS = 121
COLUMNS = 4
PANEL = (3.1, 2.3)


def _counts(dataset: Any, key: str) -> tuple[Any, Any, float]:
    """Count a key's values over all samples, in two passes so that one sample is held at a time.

    Returns:
        Edges, shares of the values, and the scale below which edges are linear.
    """
    low, high, scale = math.inf, -math.inf, 0.0
    for item in dataset:
        values = item["features"][key].double().numpy().ravel()
        values = values[np.isfinite(values)]
        if not values.size:
            continue
        low, high = min(low, float(values.min())), max(high, float(values.max()))
        scale = scale or float(np.median(np.abs(values)))
    if not low <= high:
        raise SampleError(f"{dataset.config}: {key} has no finite values")
    scale = scale or max(abs(low), abs(high)) or 1.0
    # Even in asinh: a few massive channels would leave all the rest in one bin.
    ends = np.arcsinh(np.array([low, high]) / scale)
    if ends[0] == ends[1]:
        ends = ends + np.array([-0.5, 0.5])
    edges = np.sinh(np.linspace(ends[0], ends[1], BINS)) * scale
    edges[0], edges[-1] = min(edges[0], low), max(edges[-1], high)
    total = np.zeros(BINS - 1)
    for item in dataset:
        total += np.histogram(item["features"][key].double().numpy(), edges)[0]
    return edges, total / total.sum(), scale


def plot_features(
    archive: str, config: str, profile: str | None = None, samples: str | None = None
) -> tuple[Any, str]:
    """Draw a histogram of each key of a config.

    Args:
        archive: as for `load_dataset`.
        config: as for `load_dataset`.
        profile: as for `load_dataset`.
        samples: as for `load_dataset`.

    Returns:
        A matplotlib figure, and the profile that it is of.

    Raises:
        SampleError: there are no samples, or a key has no finite values.
    """
    dataset = load_dataset(archive, config, profile=profile, samples=samples)
    if not len(dataset):
        raise SampleError(f"{config}: no samples: choose some with --samples")
    keys = dataset.keys
    columns = min(COLUMNS, len(keys))
    lines = math.ceil(len(keys) / columns)
    figure = new_figure(max(PANEL[0] * columns, 7.0), PANEL[1] * lines + 0.6)
    panels = figure.subplots(lines, columns, squeeze=False).ravel()
    for panel, key in zip(panels, keys, strict=False):
        only = load_dataset(
            archive, config, profile=dataset.profile, samples=samples, tensors=[key]
        )
        edges, shares, scale = _counts(only, key)
        panel.stairs(shares, edges, fill=True, color="0.35")
        panel.set_xscale("asinh", linear_width=scale)
        panel.set_yscale("log")
        panel.tick_params(labelsize="x-small", which="both")
        mark_asinh(panel.xaxis, edges[0], edges[-1], scale)
        panel.set_title(f"{key} ({dataset.manifest.keys[key].captured_dtype})", fontsize="small")
    for panel in panels[len(keys) :]:
        panel.set_visible(False)
    note = f" - {MINIATURE_NOTE}" if dataset.profile == "tiny" else ""
    figure.suptitle(
        f"{config}, profile {dataset.profile}, {len(dataset)} samples{note}", fontsize="medium"
    )
    figure.supxlabel("value (asinh axis)", fontsize="small")
    figure.supylabel("share of values per bin", fontsize="small")
    return figure, dataset.profile
