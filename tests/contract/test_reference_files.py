"""The reference's files become stores, and stores become such files, with nothing changed."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from lamofcbench.bench.board import run_board
from lamofcbench.bench.plan import BenchRequest
from lamofcbench.bench.score_run import ScoreRequest, score_config
from lamofcbench.dataset import load_dataset
from lamofcbench.errors import RequestMismatchError, SampleError, SourceError
from lamofcbench.interop.export_reference import export_reference
from lamofcbench.interop.import_reference import import_reference
from lamofcbench.interop.output import EXPORT
from lamofcbench.interop.zst import read_zst, write_zst
from lamofcbench.store.verify import verify_store
from tests.releases import RELEASES, write_release
from tests.verbs import invoke

JUDGE = Path(__file__).parents[2].parent / "shared" / "tools" / "check_store.py"


def same(one: Any, other: Any) -> bool:
    """Whether two nests have the same containers, names, dtypes and bits."""
    if isinstance(one, torch.Tensor):
        bits = {2: torch.int16, 4: torch.int32}[one.itemsize]
        views = [tensor.contiguous().view(bits) for tensor in (one, other)]
        return one.dtype == other.dtype and torch.equal(*views)
    if type(one) is not type(other) or len(one) != len(other):
        return False
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[name], other[name]) for name in one)
    return all(same(*pair) for pair in zip(one, other, strict=True))


def test_the_comparison_sees_differences() -> None:
    tensor = torch.zeros(2, 2)
    assert same({"a": [tensor]}, {"a": [tensor.t()]})
    for other in ([-tensor], (tensor,), [tensor, tensor], [tensor.double()]):
        assert not same({"a": [tensor]}, {"a": other})


@pytest.mark.parametrize("config", RELEASES)
def test_import_and_export_undo_one_another(config: str, tmp_path: Path) -> None:
    made = write_release(tmp_path / "release", config)
    manifest = import_reference(tmp_path / "release", config, tmp_path / "archive")
    store = tmp_path / "archive" / config / "full"
    assert verify_store(store).findings == []
    if JUDGE.is_file():
        done = subprocess.run([sys.executable, JUDGE, store], capture_output=True, check=False)
        assert done.returncode == 0, done.stdout
    assert manifest.splits == {"test": 3}
    dataset = load_dataset(tmp_path / "archive", config)
    assert export_reference(dataset, tmp_path / "again") == 3
    files = {p.relative_to(tmp_path / "again").as_posix() for p in tmp_path.glob("again/**/*.zst")}
    assert files == made.keys()
    for name, nest in made.items():
        unwrapped = nest.get("features", nest)
        assert same(read_zst(tmp_path / "again" / name), unwrapped)
    # And the other way round: a store of the exported files is the same store.
    again = import_reference(tmp_path / "again", config, tmp_path / "archive2")
    assert again.keys == manifest.keys
    for one, other in zip(dataset, load_dataset(tmp_path / "archive2", config), strict=True):
        assert one["id"] == other["id"]
        assert same(one["features"], other["features"])


def test_samples_are_ordered_and_named_by_their_files(tmp_path: Path) -> None:
    write_release(tmp_path, "truthfulqa-llm")
    import_reference(tmp_path, "truthfulqa-llm", tmp_path / "archive", calibration=1)
    parts = [
        load_dataset(tmp_path / "archive", "truthfulqa-llm", split=split).ids()
        for split in ("calibration", "test")
    ]
    assert parts == [["9"], ["10", "11"]]


def test_four_crops_stay_four(tmp_path: Path) -> None:
    write_release(tmp_path, "ade20k-vit")
    import_reference(tmp_path, "ade20k-vit", tmp_path / "archive")
    dataset = load_dataset(tmp_path / "archive", "ade20k-vit")
    assert [item["lengths"]["crop"] for item in dataset] == [4, 1, 2]
    assert dataset[0]["features"]["layer.39"].shape == (4, 6, 8)


def test_the_manifest_says_what_is_missing(tmp_path: Path) -> None:
    write_release(tmp_path, "nyuv2-vit")
    manifest = import_reference(tmp_path, "nyuv2-vit", tmp_path / "archive")
    said = manifest.declaration.preprocess["missing"]
    for name in ("context/image_size", "context/map_size", "reference/depth", "revision"):
        assert name in str(said)
    assert (manifest.context, manifest.reference, manifest.model.revision) == ({}, {}, None)
    assert all(mode.context == () for mode in manifest.declaration.modes.values())


def test_imported_features_are_measured_and_not_scored(tmp_path: Path) -> None:
    write_release(tmp_path, "gsm8k-ssm")
    archive = str(tmp_path / "archive")
    import_reference(tmp_path, "gsm8k-ssm", tmp_path / "archive")
    with pytest.raises(SampleError, match=r"lack reference/answer, .* scoring and timing need"):
        score_config(ScoreRequest("gsm8k-ssm", archive=archive))
    codecs = ("raw", "zstd", "channel:bits=4")
    request = BenchRequest("gsm8k-ssm", codecs, ("own",), None, archive, None, None, 0, "cpu")
    rows, left_out = run_board([(request, tmp_path / "r.json")], 1)
    assert left_out == []
    by_codec = {row["codec"]: row for row in rows}
    assert by_codec["raw"]["bpfp"] > by_codec["channel"]["bpfp"] > 4
    assert by_codec["zstd"]["mse"] == 0 < by_codec["channel"]["mse"]
    assert 0 < by_codec["channel"]["fidelity"] < by_codec["zstd"]["fidelity"] == 1
    assert {row["metric"] for row in rows} == {None}
    assert all("lack reference/answer" in row["no_score"] for row in rows)
    timed = [(dataclasses.replace(request, timed=True), tmp_path / "t.json")]
    with pytest.raises(SampleError, match="timing"):
        run_board(timed, 1)


def test_an_import_goes_on_and_another_release_is_refused(tmp_path: Path) -> None:
    write_release(tmp_path / "one", "sdqa-alm")
    first = import_reference(tmp_path / "one", "sdqa-alm", tmp_path / "archive")
    again = import_reference(tmp_path / "one", "sdqa-alm", tmp_path / "archive")
    assert again.content_hash == first.content_hash
    other = tmp_path / "two" / "sd-qa"
    for path in sorted((tmp_path / "one" / "sd-qa").iterdir()):
        nest = read_zst(path)
        write_zst(other / path.name, {"features": nest.get("features", nest)})
    with pytest.raises(RequestMismatchError, match="files_sha256"):
        import_reference(other, "sdqa-alm", tmp_path / "archive")


def wrong_width(nest: Any) -> Any:
    return {**nest, "output": nest["output"][..., :5]}


def wrong_dtype(nest: Any) -> Any:
    return {**nest, "value": [tensor.half() for tensor in nest["value"]]}


def wrong_length(nest: Any) -> Any:
    return {**nest, "output": nest["output"][:, 1:]}


def wrong_rank(nest: Any) -> Any:
    return {**nest, "output": nest["output"][0, :1]}


def without_a_layer(nest: Any) -> Any:
    return {**nest, "key": nest["key"][1:]}


def another_nest(nest: Any) -> Any:
    return {"output": nest["output"]}


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (wrong_width, "bfloat16 tokenx5|bfloat16 token"),
        (wrong_dtype, "float16"),
        (wrong_length, "along token"),
        (wrong_rank, "expected axes"),
        (without_a_layer, "expected 5 entries"),
        (another_nest, "expected output, key, value"),
    ],
)
def test_files_that_do_not_fit_are_named(spoil: Any, says: str, tmp_path: Path) -> None:
    made = write_release(tmp_path, "truthfulqa-llm")
    last = list(made)[-1]
    write_zst(tmp_path / last, spoil(made[last]))
    with pytest.raises(SourceError, match=f"sample11-layer4-item1.zst: .*(?:{says})"):
        import_reference(tmp_path, "truthfulqa-llm", tmp_path / "archive")
    assert not (tmp_path / "archive").exists()


def test_copies_that_differ_are_refused(tmp_path: Path) -> None:
    made = write_release(tmp_path, "canny-t2i", 1)
    ((name, nest),) = made.items()
    nest["vae.encoder"]["vae.encoder_f1"][0, 0, 0] += 1
    write_zst(tmp_path / name, nest)
    with pytest.raises(SourceError, match=r"differs from the other copy of vae\.encoder"):
        import_reference(tmp_path, "canny-t2i", tmp_path / "archive")


def test_the_verbs_import_and_export(tmp_path: Path) -> None:
    write_release(tmp_path / "release", "in1k-vit")
    archive = tmp_path / "archive"
    done = invoke("import", tmp_path / "release", "--config", "in1k-vit", "--archive", archive)
    assert done.returncode == 0, done.stderr
    assert "3 samples" in done.stdout
    assert "lack context/image_size, reference/label" in done.stdout
    shown = invoke("info", "in1k-vit", "--archive", archive).stdout
    assert "which lack context/image_size, reference/label, the model's revision" in shown
    to = ("--to", "reference", "--out", tmp_path / "out", "--archive", archive)
    assert invoke("export", "in1k-vit", *to, "--samples", "0:2").returncode == 0
    said = json.loads((tmp_path / "out" / EXPORT).read_bytes())
    assert (said["complete"], said["samples"]) == (True, 2)
    for extra, what in (((), "something else"), (("--tensors", "layer.9"), "leave out --tensors")):
        refused = invoke("export", "in1k-vit", *to, *extra)
        assert refused.returncode == 2
        assert what in refused.stderr
        assert refused.stderr.count("\n") == 1
    for arguments in (
        ("import", tmp_path / "release", "--config", "vqa-mllm"),
        ("import", tmp_path / "release", "--config", "arc-llm"),
        ("score", "in1k-vit", "--archive", archive),
    ):
        refused = invoke(*arguments)
        assert refused.returncode == 2
        assert refused.stderr.startswith("error: ")
        assert refused.stderr.count("\n") == 1
