"""Checking results from bitstreams alone."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from lamofcbench.cli import cli
from lamofcbench.errors import LamofcError

CONFIG, MODE = "in1k-vit", "layer.0"
POINTS = {"channel:bits=4": "channel:bits=4", "kmeans:bits=4@own": "kmeans:bits=4"}


def run(*arguments: object, code: int = 0) -> str:
    words = [str(one) for one in arguments]
    done = CliRunner().invoke(cli, words, catch_exceptions=False)
    assert done.exit_code == code, done.output
    return done.output


def encode(real_archive: Path, codec: str, out: Path, *more: object) -> None:
    options = ("--archive", real_archive, "--samples", "0:4", *more)
    run("encode", CONFIG, "--codec", codec, "--out", out, *options)


@pytest.fixture(scope="module")
def measured(real_archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results, and the bitstreams and artefact behind them."""
    folder = tmp_path_factory.mktemp("measured")
    archive = ("--archive", real_archive)
    words = [word for codec in POINTS.values() for word in ("--codec", codec)]
    options = ("--fit", "own", "--samples", "0:4", "--workers", 1, *archive)
    run("bench", CONFIG, *words, *options, "--out", folder / "r.json")
    fitted = folder / "artefacts" / "k.safetensors"
    run("calibrate", CONFIG, "--codec", "kmeans:bits=4", "--out", fitted, *archive)
    for point, codec in POINTS.items():
        more = ("--artefact", fitted) if codec.startswith("kmeans") else ()
        encode(real_archive, codec, folder / "coded" / CONFIG / MODE / point, *more)
    return folder


@pytest.fixture
def copy(measured: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(measured, tmp_path / "copy"))


def check(folder: Path, archive: Path, *more: object, code: int = 0) -> dict[str, Any]:
    places = ("--bitstreams", folder / "coded", "--artefacts", folder / "artefacts")
    words = ("check", folder / "r.json", *places, "--archive", archive, "--json", *more)
    found: dict[str, Any] = json.loads(run(*words, code=code))
    return found


def claim(folder: Path, point: str, **columns: Any) -> None:
    text = json.loads((folder / "r.json").read_text())
    for row in text["rows"]:
        if row["point"] == point:
            row |= columns
    (folder / "r.json").write_text(json.dumps(text))


def test_honest_results_agree(measured: Path, real_archive: Path) -> None:
    report = check(measured, real_archive)
    assert report["ok"]
    assert [row["point"] for row in report["rows"]] == list(POINTS)
    for row in report["rows"]:
        assert not row["differ"]
        assert {"bpfp", "ebpfp", "mse", "agree", "kl", "score", "fidelity_low"} <= set(row["agree"])


@pytest.mark.parametrize("column", ["bpfp", "mse", "kl", "score", "score_high", "artefact_bytes"])
def test_a_column_that_was_touched_up_is_named(column: str, copy: Path, real_archive: Path) -> None:
    point = "kmeans:bits=4@own"
    rows = json.loads((copy / "r.json").read_text())["rows"]
    said = next(row for row in rows if row["point"] == point)[column] + 0.01
    claim(copy, point, **{column: said})
    report = check(copy, real_archive, code=1)
    assert [row["ok"] for row in report["rows"]] == [True, False]
    (one,) = report["rows"][1]["differ"]
    assert (one["column"], one["said"]) == (column, said)


def test_bitstreams_of_another_point_differ(copy: Path, real_archive: Path) -> None:
    folder = copy / "coded" / CONFIG / MODE / "channel:bits=4"
    shutil.rmtree(folder)
    encode(real_archive, "uniform:bits=8", folder)
    report = check(copy, real_archive, "--point", "channel:bits=4", code=1)
    found = {one["column"] for one in report["rows"][0]["differ"]}
    assert {"codec", "bpfp", "mse"} <= found


def test_one_folder_of_one_row(copy: Path, real_archive: Path) -> None:
    folder = copy / "coded" / CONFIG / MODE / "channel:bits=4"
    words = ("check", copy / "r.json", "--bitstreams", folder, "--archive", real_archive)
    assert "agrees" in run(*words, "--point", "channel:bits=4")
    with pytest.raises(LamofcError, match="choose one with --config"):
        run(*words)


def test_damage_is_a_finding_that_names_the_file(copy: Path, real_archive: Path) -> None:
    folder = copy / "coded" / CONFIG / MODE / "channel:bits=4"
    paths = sorted(folder.glob("*.lmfb"))
    for path in paths:
        whole = path.read_bytes()
        half = len(whole) // 2
        path.write_bytes(whole[:half] + bytes([whole[half] ^ 1]) + whole[half + 1 :])
        report = check(copy, real_archive, "--point", "channel:bits=4", code=1)
        assert str(path) in report["rows"][0]["error"]
        path.write_bytes(whole)
    paths[2].unlink()
    report = check(copy, real_archive, "--point", "channel:bits=4", code=1)
    assert "No such file" in report["rows"][0]["error"]


def test_bitstreams_of_other_features_are_a_finding(copy: Path, real_archive: Path) -> None:
    folder = copy / "coded" / CONFIG / MODE / "channel:bits=4"
    encode(real_archive, "channel:bits=4", folder, "--mode", "layer.3")
    report = check(copy, real_archive, "--point", "channel:bits=4", code=1)
    assert "the mode's keys are layer.0" in report["rows"][0]["error"]


def test_mistakes_say_what_to_do(copy: Path, real_archive: Path, tmp_path: Path) -> None:
    words = ("check", copy / "r.json", "--archive", real_archive)
    with pytest.raises(LamofcError, match="with --artefacts"):
        run(*words, "--bitstreams", copy / "coded")
    with pytest.raises(LamofcError, match="<config>/<mode>/<point>"):
        run(*words, "--bitstreams", tmp_path)
    with pytest.raises(LamofcError, match="no rows of mode"):
        run(*words, "--bitstreams", copy / "coded", "--mode", "layer.3")
    rows = json.loads((copy / "r.json").read_text())["rows"]
    honest = next(row for row in rows if row["point"] == "channel:bits=4")["provenance"]
    claim(copy, "channel:bits=4", provenance={**honest, "bootstrap_resamples": 1 << 60})
    with pytest.raises(LamofcError, match="at most 100000"):
        run(*words, "--bitstreams", copy / "coded", "--point", "channel:bits=4")
    said = {"content_hash": "0" * 64, "bootstrap_seed": 0, "bootstrap_resamples": 10}
    claim(copy, "channel:bits=4", provenance=said)
    with pytest.raises(LamofcError, match="content_hash differs"):
        run(*words, "--bitstreams", copy / "coded", "--point", "channel:bits=4")
