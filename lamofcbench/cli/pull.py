"""``lamofcbench pull``."""

from pathlib import Path
from typing import Any

import click

from lamofcbench.archive import DEFAULT_ARCHIVE, Place, default_repo, find_archive, repo_folder
from lamofcbench.cli.output import bytes_text, json_option, print_json
from lamofcbench.errors import ArchiveNotFoundError, HubError, SelectionError

__all__ = ["pull"]


def _numbers(text: str | None) -> list[int] | None:
    if text is None:
        return None
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise SelectionError(f"shards {text!r}: expected numbers, as in 3,4") from None


def _repo(repo: str | None, archive: str | None) -> str:
    """Where to pull from: as told, as configured, or where the archive came from."""
    if found := repo or default_repo():
        return found
    if archive is not None and not Path(archive).is_dir():
        place = find_archive(archive)
        if place.repo is not None:
            return place.repo
    raise HubError("no repository is named: pass --repo org/name, or set LAMOFCBENCH_REPO")


def _target(repo: str, archive: str | None) -> Path:
    if archive is None:
        return repo_folder(repo)
    if archive == DEFAULT_ARCHIVE:
        try:
            place = find_archive(archive)
        except ArchiveNotFoundError:
            place = Place(repo_folder(repo), repo)
        return place.folder
    return Path(archive)


@click.command(
    epilog="Examples: `lamofcbench pull arc-llm --repo org/name --samples 0:10 --dry-run`, "
    "`lamofcbench pull arc-llm --repo org/name --tensors layer.4.k_cache,layer.4.v_cache`, "
    "`lamofcbench pull vqa-mllm --repo org/name --shards 3,4 --archive DIR`"
)
@click.argument("config")
@click.option("--repo", help="The Hub repository, org/name; by default $LAMOFCBENCH_REPO.")
@click.option("--revision", help="Tag, branch or commit; by default the published one, or main.")
@click.option("--profile", help="tiny, full or x-<slug>; by default full, else tiny.")
@click.option("--split", help="test, calibration or train: what --samples counts in.")
@click.option("--samples", help="Positions within the split, as in 0:10; test by default.")
@click.option("--tensors", help="Keys, separated by commas, exact or with *; all by default.")
@click.option("--shards", help="Shards, separated by commas, in place of samples.")
@click.option("--archive", help="The folder to pull into; by default one of the user cache.")
@click.option(
    "--lock",
    type=click.Path(path_type=Path),
    help="Folder of lock files to check against; by default ./manifests or what is installed.",
)
@click.option("--dry-run", is_flag=True, help="Only say what would be fetched.")
@json_option
def pull(
    config: str,
    repo: str | None,
    revision: str | None,
    profile: str | None,
    split: str | None,
    samples: str | None,
    tensors: str | None,
    shards: str | None,
    archive: str | None,
    lock: Path | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Fetch CONFIG, or a part of it, from the Hub.

    Says how many bytes first; goes on where an interrupted pull ended; checks every file by its
    sha256. What is there already is kept and extended.
    """
    from tqdm import tqdm

    from lamofcbench.fetch import plan_fetch
    from lamofcbench.hub.pull import pull as fetch
    from lamofcbench.hub.remote import open_remote

    chosen = _numbers(shards)
    source = _repo(repo, archive)
    target = _target(source, archive)
    remote = open_remote(source, config, profile, revision, target, lock)
    plan = plan_fetch(
        remote,
        target,
        split=split,
        samples=samples,
        tensors=tensors.split(",") if tensors is not None else None,
        shards=chosen,
    )
    report: dict[str, Any] = {
        "repo": source,
        "revision": remote.revision,
        "commit": remote.commit,
        "config": config,
        "profile": remote.manifest.profile,
        "store": str(plan.store),
        "files": len(plan.files),
        "bytes": plan.bytes,
        "present": plan.present,
        "shards": list(plan.part.shards) if plan.part else None,
        "tensors": list(plan.part.keys) if plan.part else None,
        "absent": plan.part.absent(remote.manifest) if plan.part else None,
        "fetched": not dry_run,
    }
    if not as_json:
        click.echo(f"{source} at {remote.commit[:12]}: {remote.folder}")
        click.echo(f"  fetch    {len(plan.files)} files, {bytes_text(plan.bytes)}")
        click.echo(f"  present  {plan.present} files")
        if report["absent"]:
            click.echo(f"  without  {report['absent']}")
        click.echo(f"  into     {plan.store}")
    if not dry_run:
        with tqdm(
            total=plan.bytes, desc="pull", unit="B", unit_scale=True, disable=None, leave=False
        ) as bar:
            fetch(plan, bar.update)
    if as_json:
        print_json(report)
    elif not dry_run:
        where = source if archive is None else archive
        click.echo(f'  load     load_dataset("{where}", "{config}")')
