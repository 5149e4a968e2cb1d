"""What ``lamofcbench info --stats`` prints."""

from typing import Any

import click

from lamofcbench.cli.output import print_json, print_table

__all__ = ["print_statistics"]


def print_statistics(config: str, archive: str, profile: str | None, *, as_json: bool) -> None:
    """Measure the keys of a store and print the figures.

    Args:
        config: its config.
        archive: as for `load_dataset`.
        profile: as for `load_dataset`.
        as_json: print JSON in place of tables.
    """
    from lamofcbench.bench.key_statistics import key_statistics
    from lamofcbench.metrics.bands import BANDED

    rows = key_statistics(config, archive, profile)
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
