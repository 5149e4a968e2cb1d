"""``lamofcbench push``."""

from pathlib import Path
from typing import Any

import click

from lamofcbench.archive import find_store, list_stores, resolve_archive
from lamofcbench.cli.output import archive_option, bytes_text, json_option, print_json
from lamofcbench.errors import ArchiveNotFoundError, IntegrityError

__all__ = ["push"]


def _stores(archive: Path, configs: tuple[str, ...], profile: str | None) -> list[Path]:
    held = list_stores(archive)
    if configs == ("all",):
        configs = tuple(sorted(name for name in held if profile is None or profile in held[name]))
        if not configs:
            raise ArchiveNotFoundError(
                f"{archive}: nothing to publish. To make an archive: make extract SCENARIO=vqa-mllm"
            )
    found = []
    for config in dict.fromkeys(configs):
        store = find_store(archive, config, profile)
        names = [store.name] if profile is not None else held[config]
        found += [archive / config / name for name in names]
    return found


@click.command(
    epilog="Examples: `lamofcbench push arc-llm --repo org/name --dry-run`, "
    "`lamofcbench push all --repo org/name --lock manifests`"
)
@click.argument("configs", nargs=-1, required=True)
@click.option("--repo", required=True, help="The Hub repository, org/name; made if need be.")
@click.option("--profile", help="Only this profile; by default every one in the archive.")
@archive_option
@click.option("--private", is_flag=True, help="Make a new repository private.")
@click.option("--tag", help="Name of the revision; by default derived from the contents.")
@click.option(
    "--lock",
    type=click.Path(path_type=Path),
    help="Folder to keep lock files in, CONFIG/PROFILE.json: what was published.",
)
@click.option("--dry-run", is_flag=True, help="Only say what would be sent.")
@json_option
def push(
    configs: tuple[str, ...],
    repo: str,
    profile: str | None,
    archive: str,
    private: bool,
    tag: str | None,
    lock: Path | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Publish CONFIGS (or ``all``) to the Hugging Face Hub.

    Verifies the stores, says how much there is to send, sends what the repository lacks, manifests
    last, and names the revision by a tag that never moves. Goes on where an interrupted push ended.
    The token is that of `hf auth login` or $HF_TOKEN.
    """
    from tqdm import tqdm

    from lamofcbench.hub.client import utilities
    from lamofcbench.hub.locks import Lock, write_lock
    from lamofcbench.hub.plan import ADVISED_BYTES, largest_folder, open_local, plan_push
    from lamofcbench.hub.push import compare
    from lamofcbench.hub.push import push as publish
    from lamofcbench.store.verify import verify_store

    folder = resolve_archive(archive)
    stores = [open_local(path) for path in _stores(folder, configs, profile)]
    plan = plan_push(folder, stores, tag)
    missing = compare(plan, repo)
    place, entries = largest_folder(plan.files)
    sizes = plan.files
    report: dict[str, Any] = {
        "repo": repo,
        "tag": plan.tag,
        "configs": [store.name for store in stores],
        "files": len(sizes),
        "bytes": plan.bytes,
        "largest_file": max(entry.bytes for entry in sizes.values()),
        "largest_folder": place,
        "largest_folder_entries": entries,
        "missing_files": len(missing),
        "missing_bytes": sum(sizes[path].bytes for path in missing),
        "commit": None,
    }
    if not as_json:
        click.echo(f"{repo}: {', '.join(report['configs'])}")
        click.echo(f"  files    {report['files']}, {bytes_text(plan.bytes)}")
        click.echo(f"  largest  {bytes_text(report['largest_file'])}; {place}: {entries} entries")
        if report["largest_file"] > ADVISED_BYTES:
            click.echo(f"  note     the Hub advises files below {bytes_text(ADVISED_BYTES)}")
        click.echo(f"  send     {len(missing)} files, {bytes_text(report['missing_bytes'])}")
        click.echo(f"  tag      {plan.tag}")
    if not dry_run:
        with tqdm(desc="verify", unit="B", unit_scale=True, disable=None, leave=False) as bar:
            for store in stores:
                if findings := verify_store(store.folder, bar.update).findings:
                    raise IntegrityError(
                        f"{store.folder / findings[0].path}: {findings[0].what}. Nothing was sent"
                    )
        utilities().disable_progress_bars()
        with tqdm(
            total=report["missing_bytes"],
            desc="push",
            unit="B",
            unit_scale=True,
            disable=None,
            leave=False,
        ) as bar:
            report["commit"] = publish(plan, repo, private=private, progress=bar.update)
        if lock is not None:
            for store in stores:
                config, name = store.manifest.config, store.manifest.profile
                content = store.manifest.content_hash
                write_lock(
                    lock,
                    config,
                    name,
                    Lock(
                        repo=repo,
                        revision=plan.tag,
                        manifest_sha256=store.sha256,
                        content_hash=content,
                    ),
                )
    if as_json:
        print_json(report)
    elif not dry_run:
        click.echo(f'  load     load_dataset("{repo}", "{stores[0].manifest.config}")')
