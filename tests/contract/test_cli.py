"""The console script as a user meets it, in its own process."""

import json
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest

from tests import stores

PACKAGE = Path(__file__).parents[2] / "lamofcbench"


def cli(*arguments: object, cwd: Path | None = None) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "lamofcbench", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
    )


def test_list_shows_what_is_declared_and_present(pristine: Path) -> None:
    done = cli("list", "--archive", pristine, "--json")
    assert done.returncode == 0
    configs = {entry["config"]: entry for entry in json.loads(done.stdout)["configs"]}
    assert {"in1k-vit", "vqa-mllm", "toy-llm"} <= configs.keys()
    assert configs["vqa-mllm"]["profiles"] == ["tiny", "full"]
    assert configs["vqa-mllm"]["present"] == {}
    present = configs["toy-llm"]["present"]["tiny"]
    assert (present["state"], present["samples"], present["skipped"]) == ("complete", 36, 1)
    assert "toy-llm" in cli("list", "--archive", pristine).stdout


def test_list_without_an_archive_shows_the_miniature_and_says_how_to_make_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LAMOFCBENCH_ARCHIVE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(PACKAGE.parent))
    done = cli("list", cwd=tmp_path)
    assert done.returncode == 0
    assert done.stdout.count("tiny (3 samples") == 22
    assert done.stderr.startswith("warning: ")
    assert "make extract SCENARIO=" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_info_shows_samples_tensors_and_bytes(pristine: Path) -> None:
    done = cli("info", stores.CONFIG, "--archive", pristine, "--json")
    store = json.loads(done.stdout)["present"]["tiny"]
    assert store["splits"] == {"calibration": 4, "test": 20, "train": 12}
    tensor = store["tensors"]["layer.1.output"]
    assert tensor["shape"] == [36, 40, 20000]
    assert tensor["dtype"] == "bfloat16"
    files = (pristine / stores.CONFIG / "tiny" / "features.zarr/layer.1.output/c").rglob("*")
    assert tensor["bytes"] == sum(f.stat().st_size for f in files if f.is_file())
    text = cli("info", stores.CONFIG, "--archive", pristine).stdout
    assert "layer.1.output" in text


def test_info_shows_declarations_and_their_gaps(pristine: Path) -> None:
    done = cli("info", "vqa-mllm", "--archive", pristine, "--json")
    report = json.loads(done.stdout)
    assert report["present"] == {}
    full = report["declared"]["full"]
    assert full["tensors"]["layer.4.output"]["shape"] == ["<= 1280", 4096]
    assert full["model"]["id"] == "Qwen/Qwen3-VL-8B-Instruct"


def test_verify_reports_as_json(pristine: Path) -> None:
    done = cli("verify", pristine, "--json")
    assert done.returncode == 0
    report = json.loads(done.stdout)
    assert report["ok"] is True
    assert report["stores"][0]["files"] > 40


@pytest.mark.parametrize(
    "arguments",
    [
        ("info", "toy-lm"),
        ("info", "toy-llm", "--archive", "nowhere"),
        ("list", "--archive", "nowhere"),
        ("verify", "nowhere"),
        ("infos",),
        ("list", "--nothing"),
    ],
)
def test_a_mistake_is_one_line_and_exit_2(pristine: Path, arguments: tuple[str, ...]) -> None:
    extra = [] if "--archive" in arguments or arguments[0] != "info" else ["--archive", pristine]
    done = cli(*arguments, *extra)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert done.stderr.strip()


def test_every_verb_has_help_with_an_example() -> None:
    from lamofcbench.cli import VERBS

    for verb in VERBS:
        done = cli(verb, "--help")
        assert done.returncode == 0
        assert f"lamofcbench {verb}" in done.stdout.split("Example")[1]


def test_manifests_fit_the_published_schema(pristine: Path) -> None:
    schema = json.loads((PACKAGE / "manifest.schema.json").read_text("utf-8"))
    manifest = json.loads((pristine / stores.CONFIG / "tiny" / "manifest.json").read_bytes())
    jsonschema.validate(manifest, schema, cls=jsonschema.Draft202012Validator)
    del manifest["content_hash"]
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(manifest, schema, cls=jsonschema.Draft202012Validator)


def test_the_published_schema_is_current() -> None:
    from extraction.schema import render

    assert (PACKAGE / "manifest.schema.json").read_text("utf-8") == render()
