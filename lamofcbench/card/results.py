"""What a card says of scores, codecs and knock-outs: read from results, never typed."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lamofcbench.bench.compare import compare_board, targets
from lamofcbench.bench.curves import RATE, Board, Curve, read_boards
from lamofcbench.bench.figures import figure_path, pages
from lamofcbench.card.markdown import figure, interval, number, table
from lamofcbench.manifest import Manifest

__all__ = ["KNOCKOUT", "RESULTS", "codec_section", "knockout_section", "score_section"]

RESULTS, KNOCKOUT = "results.json", "knockout.json"
"""Files beside a card, of `lamofcbench bench` and `lamofcbench score --knockout`."""
UNITS = {"rmse": "m", "wer": "errors per word"}


def _boards(folder: Path, name: str, manifest: Manifest) -> list[Board]:
    """Boards of a results file that were measured on this store."""
    if not (folder / name).is_file():
        return []
    return [
        board
        for board in read_boards([folder / name])
        if (board.config, board.profile) == (manifest.config, manifest.profile)
        and board.uncoded.row["provenance"].get("content_hash") == manifest.content_hash
    ]


def score_section(folder: Path, manifest: Manifest) -> str:
    """The uncoded score of each mode that was measured."""
    boards = _boards(folder, RESULTS, manifest) or _boards(folder, KNOCKOUT, manifest)
    if not boards:
        return "Not measured yet: `lamofcbench score` does it."
    rows = []
    for board in boards:
        row = board.uncoded.row
        metric = row["metric"] or f"none: {row['no_score']}"
        unit = f" ({UNITS[metric]})" if metric in UNITS else ""
        rows.append(
            [
                f"`{board.mode}`",
                f"{metric}{unit}",
                interval(row.get("score"), row.get("score_low"), row.get("score_high")),
                number(row.get("chance")),
                row["headline"],
                row["samples"],
            ]
        )
    titles = ["mode", "metric", "uncoded score", "chance", "headline fidelity", "samples"]
    return table(titles, rows)


def _best_first(rows: Sequence[dict[str, Any]], target: str) -> list[dict[str, Any]]:
    return sorted(rows, key=lambda row: row["targets"][target]["rate"] or float("inf"))


def _rates(curve: Curve) -> str:
    """The lowest and the highest rate of a codec's points."""
    found = [float(rate) for rate in curve.column(RATE) if rate is not None]
    ends = [number(min(found)), number(max(found))]
    return ends[0] if len(found) == 1 else f"{' to '.join(ends)} ({len(found)})"


def codec_section(folder: Path, manifest: Manifest, anchor: str = "uniform") -> str:
    """Rates at fixed targets, delta rates and figures, mode by mode."""
    boards = [board for board in _boards(folder, RESULTS, manifest) if board.curves]
    if not boards:
        return "Not measured yet: `make bench` does it."
    parts = []
    for board in boards:
        titles = [target.title for target in targets(board)]
        rows = compare_board(board, anchor if board.curve(anchor) else None)
        lines = [
            [
                f"`{row['codec']}`",
                _rates(board.curves[row["codec"]]),
                *(
                    interval(found["rate"], found["low"], found["high"])
                    for found in row["targets"].values()
                ),
                number(row.get("bd_fidelity")),
            ]
            for row in _best_first(rows, next(iter(rows[0]["targets"])))
        ]
        parts += [
            f"Mode `{board.mode}`, {board.uncoded.row['samples']} test samples. Rates are in bits "
            "per feature point (BPFP): the lowest and the highest of a codec's points (how many), "
            "then those at which a codec reaches a target, with 95 % "
            f"intervals over samples; BD fidelity is in percent, to `{anchor}`. A dash: no points "
            "of the codec bracket the target.",
            table(["codec", "rates", *titles, "BD fidelity"], lines),
        ]
        names = [figure_path(folder, board, "png", page) for page in range(len(pages(board)))]
        parts += [
            figure(f"Rate curves of {board.title}", path.name) for path in names if path.is_file()
        ]
    return "\n\n".join(parts)


def knockout_section(folder: Path, manifest: Manifest) -> str:
    """Which keys matter: the headline fidelity with each zeroed in turn."""
    parts = []
    for board in _boards(folder, KNOCKOUT, manifest):
        rows = [result.row for result in board.others if "inert" in result.row]
        if not rows:
            continue
        lines = [
            [
                f"`{row['point'].partition(':')[2]}`",
                interval(row["fidelity"], row["fidelity_low"], row["fidelity_high"]),
                "**inert**" if row["inert"] else "",
            ]
            for row in rows
        ]
        headline, count = rows[0]["headline"], rows[0]["samples"]
        parts += [
            f"Mode `{board.mode}`, {count} test samples: `{headline}` with each key zeroed in "
            "turn. A key is inert if the interval of the change holds 0.",
            table(["zeroed key", headline, ""], lines),
        ]
    return "\n\n".join(parts) or "Not measured yet: `lamofcbench score --knockout` does it."
