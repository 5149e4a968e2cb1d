"""What is made of results files: comparison and figures."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from lamofcbench.bench.curves import read_boards
from lamofcbench.bench.figures import MINIATURE_NOTE, figure_path, plot_board
from lamofcbench.bench.histograms import plot_features
from lamofcbench.cli import cli
from lamofcbench.errors import LamofcError
from tests import results, stores

CURVE = [(1.0, 0.1), (2.0, 0.4), (3.0, 0.7), (4.0, 0.9), (5.0, 0.97), (6.0, 0.995)]
DOUBLE = [(2 * rate, value) for rate, value in CURVE]


def run(*arguments: object) -> str:
    done = CliRunner().invoke(cli, [str(one) for one in arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def compared(*arguments: object) -> dict[str, dict[str, Any]]:
    rows = json.loads(run("compare", *arguments, "--json"))["rows"]
    return {row["codec"]: row for row in rows}


def test_a_codec_that_costs_double_has_a_delta_of_100_percent(tmp_path: Path) -> None:
    path = results.write(tmp_path / "r.json", {"mine": DOUBLE, "theirs": CURVE})
    rows = compared(path, "--anchor", "theirs")
    for name in ("bd_fidelity", "bd_mse"):
        assert rows["theirs"][name] == pytest.approx(0, abs=1e-9)
        assert rows["mine"][name] == pytest.approx(100)
    for name, found in rows["theirs"]["targets"].items():
        assert rows["mine"]["targets"][name]["rate"] == pytest.approx(2 * found["rate"])
    at = rows["theirs"]["targets"]["agree_rest"]
    # Four fifths of the way from 5 to 6 in the logarithm.
    assert at["rate"] == pytest.approx(5 * 1.2**0.8)
    assert at["low"] < at["rate"]
    assert set(rows["theirs"]["targets"]) == {"kl_rest", "agree_rest", "score_loss"}


def test_what_cannot_be_said_is_null_with_its_reason(tmp_path: Path) -> None:
    path = results.write(tmp_path / "r.json", {"one": [(9.0, 1.0)], "theirs": CURVE})
    row = compared(path, "--anchor", "theirs")["one"]
    assert row["bd_fidelity"] is None
    assert "0 levels" in row["bd_fidelity_reason"]
    assert row["targets"]["agree_rest"]["rate"] is None
    assert "already reached at 9" in row["targets"]["agree_rest"]["reason"]
    table = run("compare", path, "--anchor", "theirs")
    assert "BD fidelity" in table
    assert "already reached at 9" in table


def test_files_are_put_together_and_told_apart(tmp_path: Path) -> None:
    first = results.write(tmp_path / "a.json", {"mine": DOUBLE})
    second = results.write(tmp_path / "b.json", {"theirs": CURVE})
    third = results.write(tmp_path / "c.json", {"mine": CURVE})
    assert compared(first, second, "--anchor", "theirs")["mine"]["bd_mse"] == pytest.approx(100)
    assert set(compared(first, third)) == {"mine (a)", "mine (c)"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"content_hash": "z"}, "content_hash differs"), ({"samples": 7}, "other samples")],
)
def test_what_was_measured_on_something_else_is_not_compared(
    changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    first = results.write(tmp_path / "a.json", {"mine": CURVE})
    second = results.write(tmp_path / "b.json", {"theirs": CURVE}, **changes)
    with pytest.raises(LamofcError, match=message):
        run("compare", first, second)


def test_mistakes_name_what_is_wrong(tmp_path: Path) -> None:
    path = results.write(tmp_path / "a.json", {"uniform": CURVE})
    with pytest.raises(LamofcError, match="Did you mean 'uniform'"):
        run("compare", path, "--anchor", "unifrom")
    with pytest.raises(LamofcError, match="no rate 'bpp'"):
        run("compare", path, "--rate", "bpp")
    path.with_suffix(".parquet").unlink()
    with pytest.raises(LamofcError, match="no intervals"):
        run("compare", path)
    rows = json.loads(path.read_text())["rows"]
    for bad in ({"bpfp": "4"}, {"bpfp": -1}, {"provenance": None}, {"fidelity": float("nan")}):
        path.write_text(json.dumps({"rows": [rows[0], {**rows[1], **bad}]}))
        with pytest.raises(LamofcError, match="no results file"):
            run("compare", path)
    for text in ("{", "[]", '{"rows": 5}', '{"rows": [5]}', '{"rows": [{"config": 1}]}'):
        path.write_text(text)
        with pytest.raises(LamofcError, match="no results file"):
            run("compare", path)


def test_a_figure_a_mode_readable_in_grey(tmp_path: Path) -> None:
    curves = {"mine": DOUBLE, "theirs": CURVE, "exact": [(9.0, 1.0)]}
    path = results.write(tmp_path / "r.json", curves)
    printed = run("plot", path, "--out", tmp_path / "figures", "--format", "svg")
    figure = tmp_path / "figures" / "arc-llm.tiny.handoff.svg"
    assert printed.split() == [str(figure)]
    assert figure.stat().st_size > 10_000
    board = read_boards([path])[0]
    drawn = plot_board(board)
    panels = drawn.axes
    assert len(panels) == 3
    assert all("bits per feature point" in panel.get_xlabel() for panel in panels)
    assert "agree_rest" in panels[1].get_ylabel()
    assert "exact_match" in panels[2].get_ylabel()
    entries = [text.get_text() for text in drawn.legends[0].get_texts()]
    assert entries == [*curves, "uncoded", "chance", "no features (zeros)"]
    looks = {container.lines[0].get_marker() for container in panels[1].containers}
    assert len(looks) == len(curves)
    assert MINIATURE_NOTE in drawn.get_suptitle()
    assert [float(y) for y in panels[1].containers[0].lines[0].get_ydata()] == [
        v for _, v in DOUBLE
    ]


def test_points_without_an_error_are_drawn_all_the_same(tmp_path: Path) -> None:
    path = results.write(tmp_path / "r.json", {"exact": [(9.0, 1.0)]})
    text = json.loads(path.read_text())
    text["rows"][1] |= {"mse": 0.0, "rel_mse": 0.0}
    path.write_text(json.dumps(text))
    panel = plot_board(read_boards([path])[0]).axes[0]
    assert [text.get_text() for text in panel.texts] == ["no error"]


def test_histograms_of_features(tmp_path: Path) -> None:
    stores.write(tmp_path / "archive", stores.small())
    out = tmp_path / "figures"
    archive = ("--archive", tmp_path / "archive", "--samples", "0:4")
    printed = run("plot", "--features", stores.CONFIG, "--out", out, *archive)
    assert printed.split() == [str(out / f"{stores.CONFIG}.tiny.features.png")]
    figure, profile = plot_features(str(tmp_path / "archive"), stores.CONFIG, samples="0:4")
    assert profile == "tiny"
    titles = [panel.get_title() for panel in figure.axes if panel.get_visible()]
    assert len(titles) == len(stores.SMALL)
    for panel in figure.axes[: len(titles)]:
        assert sum(panel.patches[0].get_data().values) == pytest.approx(1)


def test_no_name_leads_a_figure_out_of_its_folder(tmp_path: Path) -> None:
    path = results.write(tmp_path / "r.json", {"mine": CURVE})
    board = read_boards([path])[0]
    board.config, board.mode = "../../x", "single:0/.."
    assert figure_path(tmp_path, board, "png").parent == tmp_path
