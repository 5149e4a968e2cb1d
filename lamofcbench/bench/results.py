"""Results: a row per config, mode and point as JSON, and a row per sample beside it as Parquet."""

import functools
import json
import math
import platform
import subprocess
from collections.abc import Mapping, Sequence
from importlib import metadata, resources
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

import lamofcbench
from lamofcbench.atomic import sha256_bytes, write_bytes
from lamofcbench.bench.scoring import Measured, headline
from lamofcbench.manifest import Draft, Manifest
from lamofcbench.metrics.bootstrap import Interval
from lamofcbench.scores.base import Fidelity, Score
from lamofcbench.store.tables import read_parquet

__all__ = [
    "git_commit",
    "merge_results",
    "provenance",
    "result_rows",
    "samples_path",
    "write_results",
]

SAME = ("config", "profile", "mode", "point")
"""Columns of a result row that its per-sample rows repeat."""
LIBRARIES = ("torch", "transformers", "diffusers", "numpy")


def provenance(manifest: Draft, seed: int, resamples: int) -> dict[str, Any]:
    """What a result depends on besides its point.

    Args:
        manifest: of the store that was scored.
        seed: of the bootstrap.
        resamples: of the bootstrap.
    """
    installed = {d.name: d.version for d in metadata.distributions()}
    conditions = resources.files("lamofcbench") / "CONDITIONS.md"
    return {
        "content_hash": manifest.content_hash if isinstance(manifest, Manifest) else None,
        "conditions_sha256": sha256_bytes(conditions.read_bytes()),
        "model_revision": manifest.model.revision,
        "bootstrap_seed": seed,
        "bootstrap_resamples": resamples,
        "versions": {
            "lamofcbench": lamofcbench.__version__,
            "python": platform.python_version(),
            **{name: installed[name] for name in LIBRARIES if name in installed},
        },
    }


@functools.cache
def git_commit() -> str | None:
    """The commit of this code, ``-dirty`` behind it if files differ; None outside a checkout."""
    folder = Path(lamofcbench.__file__).parent

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", folder, *arguments], capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        # An installed copy may lie within somebody else's repository.
        git("ls-files", "--error-unmatch", "__init__.py")
        return git("describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")
    except (OSError, subprocess.CalledProcessError):
        return None


def _columns(name: str, found: Interval | None) -> dict[str, float | None]:
    if found is None:
        return {}
    ends = {name: found.value, f"{name}_low": found.low, f"{name}_high": found.high}
    return {column: _number(value) for column, value in ends.items()}


def _first(score: Score | str, result: Measured) -> Interval | None:
    return None if isinstance(score, str) else result.figures[score.figures[0].name]


def _number(value: float) -> float | None:
    """A number as JSON can hold it."""
    return value if math.isfinite(value) else None


def result_rows(
    manifest: Draft,
    mode: str,
    keys: Sequence[str],
    results: Sequence[Measured],
    score: Score | str,
    fidelity: Fidelity,
    chance: float,
    **more: Any,
) -> list[dict[str, Any]]:
    """Make a row per point.

    Args:
        manifest: of the store that was scored.
        mode: whose keys were injected.
        keys: those.
        results: with their totals.
        score: against references, or why there is none.
        fidelity: against the uncoded answers.
        chance: the score of an answer that never looks.
        **more: further columns, the same in all rows.

    Returns:
        Rows; ``<figure>``, ``<figure>_low`` and ``<figure>_high`` for each figure, ``score`` and
        ``fidelity`` repeating the first of each kind.
    """
    rows = []
    for result in results:
        top = headline(fidelity, result)
        row: dict[str, Any] = {
            "config": manifest.config,
            "profile": manifest.profile,
            "mode": mode,
            "keys": list(keys),
            "point": result.point,
            "samples": len(result.samples),
            "metric": None if isinstance(score, str) else score.figures[0].name,
            "no_score": score if isinstance(score, str) else None,
            "chance": _number(chance),
            "headline": top.name,
            **_columns("score", _first(score, result)),
            **_columns("score_loss", result.loss),
            **_columns("fidelity", result.figures[top.name]),
        }
        for name, found in result.figures.items():
            row |= _columns(name, found)
        rows.append({**row, **more})
    return rows


def samples_path(path: Path) -> Path:
    """Where the per-sample rows of a results file lie."""
    return path.with_suffix(".parquet")


def write_results(
    path: Path, rows: Sequence[Mapping[str, Any]], results: Sequence[Measured]
) -> None:
    """Write results as JSON, and every sample's numbers beside it as Parquet.

    Args:
        path: of the JSON file; its folder is made.
        rows: of `result_rows`, of any number of configs and modes.
        results: what each row was made of, in the same order.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [
        {
            **{name: row[name] for name in SAME},
            "sample": sample,
            "figure": name,
            "numbers": numbers.tolist(),
        }
        for row, result in zip(rows, results, strict=True)
        for name, stack in result.rows.items()
        for sample, numbers in zip(result.samples, stack, strict=True)
    ]
    schema = pa.schema(
        [
            *((name, pa.string()) for name in (*SAME, "sample", "figure")),
            ("numbers", pa.list_(pa.float64())),
        ]
    )
    pq.write_table(pa.Table.from_pylist(lines, schema), samples_path(path))
    _write_rows(path, rows)


def _write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    text = json.dumps({"rows": list(rows)}, indent=1, ensure_ascii=False, allow_nan=False)
    write_bytes(path, f"{text}\n".encode())


def merge_results(path: Path, parts: Sequence[Path]) -> list[dict[str, Any]]:
    """Write the rows of several results files into one, and their samples' numbers beside it.

    Rows that are there already stay, but for those of a config, profile and mode of the parts.

    Returns:
        The rows.
    """
    rows = [row for part in parts for row in json.loads(part.read_text("utf-8"))["rows"]]
    tables = [read_parquet(samples_path(part)) for part in parts]
    made = {tuple(row[name] for name in SAME[:3]) for row in rows}
    if path.is_file() and samples_path(path).is_file():
        old = json.loads(path.read_text("utf-8"))["rows"]
        rows = [row for row in old if tuple(row[name] for name in SAME[:3]) not in made] + rows
        table = read_parquet(samples_path(path))
        keys = zip(*(table[name].to_pylist() for name in SAME[:3]), strict=True)
        tables.insert(0, table.filter(pa.array([key not in made for key in keys], pa.bool_())))
    pq.write_table(pa.concat_tables(tables), samples_path(path))
    _write_rows(path, rows)
    return rows
