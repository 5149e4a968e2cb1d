"""``python -m extraction SCENARIO``: the program behind ``make extract``."""

import errno
import sys
from pathlib import Path

import click

from extraction.driver import Outcome, Request, extract
from lamofcbench.cli import FINDING, MISTAKE
from lamofcbench.cli.output import bytes_text, print_table
from lamofcbench.errors import IntegrityError, LamofcError
from lamofcbench.spec import list_configs

FULL_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
INTERRUPTED = 130


def summary(outcome: Outcome, archive: Path) -> str:
    """What to tell the user at the end of one extraction."""
    draft, manifest = outcome.draft, outcome.manifest
    if manifest is None:
        return (
            f"{draft.config} ({draft.profile}): {outcome.shards_written} shards written to "
            f"{outcome.store}; others of its {draft.shard_count} shards are still missing.\n"
            "It becomes a finished store with the last of them."
        )
    totals = manifest.totals
    name = '"lamofcbench"' if archive == Path("archive") else f'"{archive}"'
    done = "extracted" if outcome.shards_written else "already complete, nothing to do"
    splits = ", ".join(f"{count} {split}" for split, count in draft.splits.items())
    return "\n".join(
        [
            f"{draft.config} ({draft.profile}): {done}",
            f"  samples  {totals.samples} ({splits}; {totals.skipped} skipped)",
            f"  tensors  {len(draft.keys)} a sample, {totals.elements:,} values",
            f"  bytes    {bytes_text(totals.bytes)} stored, {bytes_text(totals.raw_bytes)} raw, "
            f"ratio {totals.raw_bytes / totals.bytes:.2f}",
            f"  path     {outcome.store}",
            f"  load     from lamofcbench import load_dataset; "
            f'ds = load_dataset({name}, "{draft.config}")',
        ]
    )


def table_row(outcome: Outcome) -> list[object]:
    """One line of the closing table over all configs."""
    draft, manifest = outcome.draft, outcome.manifest
    if manifest is None:
        return [draft.config, draft.profile, "unfinished", "", "", "", "", ""]
    totals = manifest.totals
    return [
        draft.config,
        draft.profile,
        "extracted" if outcome.shards_written else "was there",
        totals.samples,
        totals.skipped,
        len(draft.keys),
        bytes_text(totals.bytes),
        f"{totals.raw_bytes / totals.bytes:.2f}",
    ]


def attempt(request: Request) -> Outcome | int:
    """Extract one config; on a known error, one line on stderr and the exit status."""
    try:
        return extract(request)
    except LamofcError as error:
        print(f"error: {error}", file=sys.stderr)
        return FINDING if isinstance(error, IntegrityError) else MISTAKE
    except OSError as error:
        if error.errno not in FULL_DISK or error.strerror is None:
            raise
        reason = error.strerror.lower()
        print(
            f"error: {request.archive}: {reason}; finished shards are kept. "
            "Free some space and run the same command to go on",
            file=sys.stderr,
        )
        return FINDING
    except KeyboardInterrupt:
        print(
            "interrupted; finished shards are kept. Run the same command to go on",
            file=sys.stderr,
        )
        return INTERRUPTED


@click.command()
@click.argument("scenario")
@click.option("--profile", help="Which weights: tiny (the default) or full.")
@click.option("--model", help="A folder or Hub id of the same family, in place of the declared.")
@click.option("--archive", type=click.Path(path_type=Path), default=Path("archive"))
@click.option("--samples", type=int, help="Test samples in place of the declared number.")
@click.option("--shards", help="Write only these shards, first:last.")
@click.option("--source", type=click.Path(path_type=Path), help="A local copy of the data set.")
@click.option("--device", default="cpu", show_default=True)
@click.option("--strict", is_flag=True, help="Stop at a bad sample rather than skip it.")
@click.option("--uncompressed", is_flag=True, help="Store chunks as they are: larger, faster.")
def main(
    scenario: str,
    profile: str | None,
    model: str | None,
    archive: Path,
    samples: int | None,
    shards: str | None,
    source: Path | None,
    device: str,
    strict: bool,
    uncompressed: bool,
) -> None:
    """Capture the features of SCENARIO (a config, or all) into an archive."""
    configs = list_configs() if scenario == "all" else [scenario]
    rows, worst = [], 0
    for config in configs:
        outcome = attempt(
            Request(
                config=config,
                profile=profile,
                model=model,
                archive=archive,
                samples=samples,
                shards=shards,
                source=source,
                device=device,
                strict=strict,
                compressed=not uncompressed,
            )
        )
        if isinstance(outcome, Outcome):
            rows.append(table_row(outcome))
            if len(configs) == 1:
                print(summary(outcome, archive))
            continue
        worst = max(worst, outcome)
        rows.append([config, profile or "tiny", "failed", "", "", "", "", ""])
        if outcome == INTERRUPTED:
            break
    if len(configs) > 1:
        print_table(
            ["config", "profile", "", "samples", "skipped", "tensors", "stored", "ratio"], rows
        )
        print(f"archive: {archive}")
    sys.exit(worst)


if __name__ == "__main__":
    main()
