"""A figure of each key's channels: what range each has, and which are massive."""

import math
from typing import Any

import numpy as np

from lamofcbench.bench.figures import MINIATURE_NOTE, mark_asinh, new_figure
from lamofcbench.dataset import load_dataset
from lamofcbench.errors import SampleError
from lamofcbench.metrics.statistics import as_rows

__all__ = ["plot_channels"]

COLUMNS = 4
PANEL = (3.1, 2.1)
MASSIVE = 10.0
"""A channel is massive from so many times the median channel's deviation on."""


def _panel(panel: Any, rows: Any, title: str) -> None:
    """Draw one key: range and deviation of its channels."""
    channels = np.arange(rows.shape[1])
    mean, deviation = rows.mean(0), rows.std(0)
    scale = float(np.median(np.abs(rows))) or float(np.abs(rows).max()) or 1.0
    step = {"step": "mid", "linewidth": 0}
    panel.fill_between(channels, rows.min(0), rows.max(0), color="0.8", **step)
    panel.fill_between(channels, mean - deviation, mean + deviation, color="0.4", **step)
    massive = channels[deviation > MASSIVE * np.median(deviation)]
    panel.plot(massive, rows.max(0)[massive], "v", color="#D55E00", markersize=4)
    panel.set_yscale("asinh", linear_width=scale)
    mark_asinh(panel.yaxis, float(rows.min()), float(rows.max()), scale)
    panel.set_title(title, fontsize="small")
    panel.tick_params(labelsize="x-small", which="both")


def plot_channels(
    archive: str, config: str, profile: str | None = None, samples: str | None = None
) -> Any:
    """Draw range and deviation of every channel of every key of a config.

    Args:
        archive: as for `load_dataset`.
        config: as for `load_dataset`.
        profile: as for `load_dataset`.
        samples: as for `load_dataset`.

    Returns:
        A matplotlib figure.

    Raises:
        SampleError: there are no samples.
    """
    dataset = load_dataset(archive, config, profile=profile, samples=samples)
    if not len(dataset):
        raise SampleError(f"{config}: no samples: choose some with --samples")
    columns = min(COLUMNS, len(dataset.keys))
    lines = math.ceil(len(dataset.keys) / columns)
    figure = new_figure(max(PANEL[0] * columns, 7.0), PANEL[1] * lines + 0.7)
    panels = figure.subplots(lines, columns, squeeze=False).ravel()
    for panel, key in zip(panels, dataset.keys, strict=False):
        only = load_dataset(
            archive, config, profile=dataset.profile, samples=samples, tensors=[key]
        )
        parts = [as_rows(item["features"][key].double().numpy(), only.axes(key)) for item in only]
        _panel(panel, np.concatenate(parts), key)
    for panel in panels[len(dataset.keys) :]:
        panel.set_visible(False)
    note = f" - {MINIATURE_NOTE}" if dataset.profile == "tiny" else ""
    figure.suptitle(
        f"{config}, profile {dataset.profile}, {len(dataset)} samples{note}", fontsize="medium"
    )
    figure.supxlabel(
        f"channel (light: range, dark: mean and deviation, triangle: over {MASSIVE:g} times the "
        "median deviation)",
        fontsize="small",
    )
    figure.supylabel("value (asinh axis)", fontsize="small")
    return figure
