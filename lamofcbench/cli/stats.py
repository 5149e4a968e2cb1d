"""What ``lamofcbench info --stats`` prints."""

from typing import Any

import click

from lamofcbench.cli.output import print_json, print_table

__all__ = ["print_statistics"]

SAMPLES = 20
"""Test samples to measure; more hardly move the figures."""


def _measure(config: str, archive: str, profile: str | None) -> list[dict[str, Any]]:
    from lamofcbench.dataset import load_dataset
    from lamofcbench.metrics.bands import Bands
    from lamofcbench.metrics.statistics import statistics
    from lamofcbench.spec import load_scenario

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


def print_statistics(config: str, archive: str, profile: str | None, *, as_json: bool) -> None:
    """Measure the keys of a store and print the figures.

    Args:
        config: its config.
        archive: as for `load_dataset`.
        profile: as for `load_dataset`.
        as_json: print JSON in place of tables.
    """
    from lamofcbench.metrics.bands import BANDED

    rows = _measure(config, archive, profile)
    if as_json:
        print_json({"config": config, "keys": rows})
        return

    def cell(row: dict[str, Any], name: str) -> str:
        outside = name in row["band"] and not (
            row["band"][name][0] <= row[name] <= row["band"][name][1]
        )
        return f"{row[name]:.3g}{'!' if outside else ''}"

    print_table(
        ["key", "dtype", "range", *(name.replace("_", " ") for name in BANDED)],
        [
            [
                row["key"],
                row["dtype"],
                f"{row['minimum']:.3g} to {row['maximum']:.3g}",
                *(cell(row, name) for name in BANDED),
            ]
            for row in rows
        ],
    )
    click.echo("\nLimits (! above: outside of them), and what real models have")
    for row in rows:
        limits = ", ".join(f"{n} {low:g} to {high:g}" for n, (low, high) in row["band"].items())
        click.echo(f"{row['key']}: {limits or 'none'}")
        for entry in row["known"]:
            known = {name: value for name, value in entry.items() if name != "model"}
            figures = ", ".join(
                f"{name} {value[0]:g} to {value[1]:g}"
                if isinstance(value, list)
                else f"{name} {value:g}"
                for name, value in known.items()
            )
            click.echo(f"  {entry.get('model', 'real model')}: {figures}")
