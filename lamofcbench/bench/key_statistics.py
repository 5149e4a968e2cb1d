"""What the values of a config's keys are like, beside real models' and a miniature's limits."""

from typing import Any

from lamofcbench.dataset import load_dataset
from lamofcbench.metrics.bands import Bands
from lamofcbench.metrics.statistics import statistics
from lamofcbench.spec import load_scenario

__all__ = ["SAMPLES", "key_statistics"]

SAMPLES = 20
"""Test samples to measure; more hardly move the figures."""


def key_statistics(config: str, archive: str, profile: str | None) -> list[dict[str, Any]]:
    """Measure the keys of a store.

    Args:
        config: its config.
        archive: as for `load_dataset`.
        profile: as for `load_dataset`.

    Returns:
        A row per key: ``key``, ``dtype``, the figures of `Statistics`, and ``band``, ``outside``
        and ``known`` of `Bands`.
    """
    dataset = load_dataset(archive, config, profile=profile, samples=slice(SAMPLES))
    bands = Bands.load(load_scenario(config).family)
    rows = []
    for key in dataset.keys:
        # Key by key, since all keys of all samples may be more than memory holds.
        only = load_dataset(
            archive, config, profile=dataset.profile, samples=slice(SAMPLES), tensors=[key]
        )
        values = [item["features"][key].float().numpy() for item in only]
        found = statistics(values, dataset.axes(key))
        rows.append(
            {
                "key": key,
                "dtype": dataset.manifest.keys[key].captured_dtype,
                **found.as_dict(),
                "band": {name: list(pair) for name, pair in bands.limits(key).items()},
                "outside": bands.outside(key, found),
                "known": [dict(entry) for entry in bands.known(key)],
            }
        )
    return rows
