"""``lamofcbench list``."""

from pathlib import Path

import click

from lamofcbench.archive import list_stores, peek, resolve_archive
from lamofcbench.cli.output import archive_option, bytes_text, json_option, print_json, print_table
from lamofcbench.errors import ArchiveNotFoundError
from lamofcbench.spec import list_configs, load_scenario

__all__ = ["list_"]


@click.command(
    "list",
    epilog="Examples: `lamofcbench list`, `lamofcbench list --archive DIR --json`",
)
@archive_option
@json_option
def list_(archive: str, as_json: bool) -> None:
    """List the configs, and what an archive holds of them."""
    folder: Path | None = None
    try:
        folder = resolve_archive(archive)
    except ArchiveNotFoundError:
        if archive != "lamofcbench":
            raise
    stores = list_stores(folder) if folder is not None else {}
    entries = []
    for config in sorted({*list_configs(), *stores}):
        declared = config in list_configs()
        scenario = load_scenario(config) if declared else None
        entries.append(
            {
                "config": config,
                "category": scenario.category if scenario else None,
                "family": scenario.family if scenario else None,
                "title": scenario.title if scenario else None,
                "profiles": list(scenario.profiles) if scenario else [],
                "present": {
                    profile: peek(folder / config / profile)
                    for profile in stores.get(config, [])
                    if folder is not None
                },
            }
        )
    if as_json:
        print_json({"archive": str(folder) if folder else None, "configs": entries})
        return
    rows = []
    for entry in entries:
        present = entry["present"]
        held = [
            f"{profile} ({look['samples']} samples, {bytes_text(look['bytes'])})"
            if look["state"] == "complete"
            else f"{profile} ({look['state']})"
            for profile, look in (present.items() if isinstance(present, dict) else ())
        ]
        named = (entry[column] for column in ("config", "category", "family", "title"))
        rows.append([*named, ", ".join(held) or "-"])
    print_table(["config", "category", "family", "title", "in the archive"], rows)
    if folder is not None:
        click.echo(f"archive: {folder}")
    else:
        click.echo("There is no archive yet. To make one: make extract SCENARIO=vqa-mllm")
