"""``lamofcbench info``."""

from pathlib import Path
from typing import Any

import click

from lamofcbench.archive import find_store, list_stores, peek, resolve_archive
from lamofcbench.cli.output import archive_option, bytes_text, json_option, print_json, print_table
from lamofcbench.errors import ArchiveNotFoundError, LamofcError
from lamofcbench.interop.imported import IMPORTED, MISSING
from lamofcbench.spec import ProfileSpec, list_configs, load_scenario

__all__ = ["info"]


def _gaps(profile: ProfileSpec) -> list[str]:
    """What a declaration leaves open, so that nobody takes it for pinned."""
    named = (("model", profile.model), ("data set", profile.source))
    # What a package ships, or this one generates, is pinned by its version.
    return [
        f"revision of {what} {entry.id} is not pinned"
        for what, entry in named
        if entry.revision is None and ":" not in entry.id
    ]


def _declared(profile: ProfileSpec) -> dict[str, Any]:
    return {
        "model": profile.model.model_dump(mode="json"),
        "source": profile.source.model_dump(mode="json"),
        "split_point": profile.split_point,
        "samples": profile.samples.model_dump(mode="json"),
        "tensors": {
            tensor.name: {
                "axes": ["sample", *tensor.axes],
                "shape": [
                    f"<= {profile.ragged[size].max}" if isinstance(size, str) else size
                    for size in tensor.shape
                ],
                "dtype": tensor.captured,
                "stored_dtype": tensor.logical,
            }
            for tensor in profile.keys
        },
        "modes": {name: list(mode.keys) for name, mode in profile.modes.items()},
        "gaps": _gaps(profile),
    }


def _present(store: Path) -> dict[str, Any]:
    """What is in the archive; reads the manifest, not the features."""
    from lamofcbench.manifest import Manifest
    from lamofcbench.store.state import load_state

    look = {"store": str(store), **peek(store)}
    try:
        state = load_state(store)
    except LamofcError as error:
        return {**look, "state": "damaged", "error": str(error)}
    draft = state.draft
    sizes: dict[str, int] = {}
    for path, layout in draft.layouts.items():
        shards = (state.files.get(layout.shard_path(shard)) for shard in state.shards)
        sizes[path] = sum(entry.bytes for entry in shards if entry is not None)
    return {
        **look,
        "splits": draft.splits,
        "shards": len(state.shards),
        "shards_of": draft.shard_count,
        "absent": state.part.absent(draft) if state.part is not None else None,
        "samples_per_shard": draft.samples_per_shard,
        "model": draft.model.model_dump(mode="json"),
        "capture": draft.capture.model_dump(mode="json"),
        "imported": draft.declaration.preprocess.get(IMPORTED),
        "missing": draft.declaration.preprocess.get(MISSING),
        "content_hash": draft.content_hash if isinstance(draft, Manifest) else None,
        "tensors": {
            name: {
                "axes": entry.axes,
                "shape": entry.shape,
                "dtype": entry.captured_dtype,
                "stored_dtype": entry.stored_dtype,
                "ragged_axis": entry.ragged_axis,
                "bytes": sizes[name],
            }
            for name, entry in draft.keys.items()
        },
    }


def _report(config: str, archive: str) -> dict[str, Any]:
    folder = None
    try:
        folder = resolve_archive(archive)
    except ArchiveNotFoundError:
        if archive != "lamofcbench":
            raise
    stores = list_stores(folder) if folder is not None else {}
    if config not in list_configs() and folder is not None:
        find_store(folder, config)
    scenario = load_scenario(config) if config in list_configs() or config not in stores else None
    return {
        "config": config,
        **(scenario.model_dump(mode="json", exclude={"config", "profiles"}) if scenario else {}),
        "archive": str(folder) if folder else None,
        "declared": {
            name: _declared(profile)
            for name, profile in (scenario.profiles if scenario else {}).items()
        },
        "present": {
            name: _present(folder / config / name)
            for name in stores.get(config, [])
            if folder is not None
        },
    }


@click.command(
    epilog="Examples: `lamofcbench info vqa-mllm`, `lamofcbench info in1k-vit --json`, "
    "`lamofcbench info arc-llm --stats`"
)
@click.argument("config")
@click.option("--stats", is_flag=True, help="Measure the values of each key instead.")
@click.option(
    "--profile",
    "weights",
    help="Which weights' features to measure; by default full before x before tiny.",
)
@archive_option
@json_option
def info(config: str, stats: bool, weights: str | None, archive: str, as_json: bool) -> None:
    """Show what CONFIG captures, and what an archive holds of it.

    With --stats, show what the values of each key are like, beside real models' and the limits that
    miniatures are held to.
    """
    if stats:
        from lamofcbench.cli.stats import print_statistics

        print_statistics(config, archive, weights, as_json=as_json)
        return
    report = _report(config, archive)
    if as_json:
        print_json(report)
        return
    click.echo(f"{config}: {report.get('title', 'not declared in this version')}")
    for name in ("category", "family", "task", "metric"):
        if name in report:
            click.echo(f"  {name:10}{report[name]}")
    for name, profile in report["declared"].items():
        click.echo(f"\nprofile {name}, declared")
        click.echo(f"  model     {profile['model']['id']} ({profile['model']['licence']})")
        click.echo(f"  data      {profile['source']['id']}, {profile['source']['split']}")
        click.echo(f"  split     {profile['split_point']}")
        for gap in profile["gaps"]:
            click.echo(f"  gap       {gap}")
        if name not in report["present"]:
            click.echo("  not in the archive; tensors:")
            _print_tensors(profile["tensors"])
    for name, store in report["present"].items():
        click.echo(f"\nprofile {name}, in {store['store']}: {store['state']}")
        if "error" in store:
            click.echo(f"  {store['error']}")
            continue
        splits = ", ".join(f"{count} {split}" for split, count in store["splits"].items())
        click.echo(f"  samples   {splits}")
        if store["imported"]:
            click.echo(f"  imported  {store['imported']}, which lack {store['missing']}")
        click.echo(
            f"  shards    {store['shards']} of {store['shards_of']}, "
            f"{store['samples_per_shard']} samples each"
        )
        if store["absent"]:
            click.echo(f"  not here  {store['absent']}")
        if store["bytes"] is not None:
            ratio = store["raw_bytes"] / store["bytes"]
            click.echo(f"  bytes     {bytes_text(store['bytes'])}, ratio {ratio:.2f} to raw")
        _print_tensors(store["tensors"])


def _print_tensors(tensors: dict[str, Any]) -> None:
    click.echo()
    print_table(
        ["tensor", "axes", "shape", "dtype", "stored"],
        [
            [
                name,
                " ".join(entry["axes"]),
                "x".join(str(size) for size in entry["shape"]),
                entry["dtype"],
                bytes_text(entry.get("bytes")),
            ]
            for name, entry in tensors.items()
        ],
    )
