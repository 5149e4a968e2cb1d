"""``python -m extraction SCENARIO``: the program behind ``make extract``."""

import errno
import sys
from pathlib import Path

import click

from extraction.driver import Outcome, Request, extract
from lamofcbench.errors import LamofcError
from lamofcbench.spec import list_configs

FULL_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def _megabytes(count: int) -> str:
    return f"{count / 1e6:,.1f} MB"


def summary(outcome: Outcome, archive: Path) -> str:
    """What to tell the user at the end."""
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
    return "\n".join(
        [
            f"{draft.config} ({draft.profile}): {done}",
            f"  samples  {totals.samples} ({', '.join(f'{n} {s}' for s, n in draft.splits.items())}"
            f"; {totals.skipped} skipped)",
            f"  tensors  {len(draft.keys)} a sample, {totals.elements:,} values",
            f"  bytes    {_megabytes(totals.bytes)} stored, {_megabytes(totals.raw_bytes)} raw, "
            f"ratio {totals.raw_bytes / totals.bytes:.2f}",
            f"  path     {outcome.store}",
            f"  load     from lamofcbench import load_dataset; "
            f'ds = load_dataset({name}, "{draft.config}")',
        ]
    )


@click.command()
@click.argument("scenario")
@click.option("--profile", default="tiny", show_default=True, help="Which weights: tiny or full.")
@click.option("--archive", type=click.Path(path_type=Path), default=Path("archive"))
@click.option("--samples", type=int, help="Test samples in place of the declared number.")
@click.option("--shards", help="Write only these shards, first:last.")
@click.option("--source", type=click.Path(path_type=Path), help="A local copy of the data set.")
@click.option("--device", default="cpu", show_default=True)
@click.option("--strict", is_flag=True, help="Stop at a bad sample rather than skip it.")
@click.option("--uncompressed", is_flag=True, help="Store chunks as they are: larger, faster.")
def main(
    scenario: str,
    profile: str,
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
    for config in configs:
        request = Request(
            config, profile, archive, samples, shards, source, device, strict, not uncompressed
        )
        try:
            print(summary(extract(request), archive))
        except LamofcError as error:
            print(f"error: {error}", file=sys.stderr)
            sys.exit(2)
        except OSError as error:
            if error.errno not in FULL_DISK:
                raise
            print(
                f"error: {archive}: {error.strerror.lower()}; finished shards are kept. "
                "Free some space and run the same command to go on",
                file=sys.stderr,
            )
            sys.exit(1)
        except KeyboardInterrupt:
            print(
                "interrupted; finished shards are kept. Run the same command to go on",
                file=sys.stderr,
            )
            sys.exit(130)


if __name__ == "__main__":
    main()
