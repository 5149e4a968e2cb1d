"""Figures of a published release are computed again, and wrong ones are listed."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from lamofcbench.bench.reproduce import reproduce
from lamofcbench.errors import SourceError
from lamofcbench.interop.import_reference import import_reference
from lamofcbench.interop.zst import read_zst, write_zst
from tests.releases import RELEASES, write_release
from tests.verbs import invoke

Change = Callable[[dict[str, Any]], object]


def tensors_of(nest: Any, where: str = "") -> list[tuple[str, torch.Tensor]]:
    if isinstance(nest, torch.Tensor):
        return [(where, nest)]
    parts = nest.items() if isinstance(nest, dict) else enumerate(nest)
    return [pair for name, part in parts for pair in tensors_of(part, f"{where}.{name}".strip("."))]


def rounded(nest: Any) -> Any:
    """What a coarse codec would make of a nest."""
    if isinstance(nest, torch.Tensor):
        return (nest * 8).round() / 8
    if isinstance(nest, dict):
        return {name: rounded(part) for name, part in nest.items()}
    return type(nest)(rounded(part) for part in nest)


def after_coding(nest: Any, vit: bool) -> dict[str, Any]:
    """Fabricate a file after coding, its figures worked out with nothing of the package."""
    nest = nest.get("features", nest)
    if vit:
        plain = {
            f"layer.{name.split('.')[-1]}": part[0] if isinstance(part, list) else part
            for name, part in nest.items()
        }
    else:
        plain = nest
    decoded = rounded(plain)
    metadata: dict[str, Any] = {"arch": "toy", "handler": "toy", "frontend_seconds": 0.1}
    bits, weighed, errors, points = 0.0, 0.0, 0.0, 0
    for number, ((name, raw), (_, now)) in enumerate(
        zip(tensors_of(plain), tensors_of(decoded), strict=True)
    ):
        size, width = 10 + number, 8 * raw.element_size()
        error = ((raw.double() - now.double()) ** 2).sum().item()
        metadata[name.replace(".", "_")] = {
            "ori_shape": raw.shape,
            "ori_dtype": str(raw.dtype),
            "ori_numel": raw.numel(),
            "enc_bytes": size,
            "enc_bpfp": 8 * size / raw.numel(),
            "quant_mse": 0.0,
            "final_mse": error / raw.numel(),
        }
        bits += 8 * size
        weighed += 8 * size * 32 / width
        errors += error
        points += raw.numel()
    metadata |= {"bpfp": bits / points, "ebpfp": weighed / points, "mse": errors / points}
    return {"features": decoded, "metadata": metadata}


def fabricate(folder: Path, config: str) -> dict[str, Any]:
    """Write raw files and files after coding, and return the latter by path."""
    made = write_release(folder / "raw", config)
    coded = {name: after_coding(nest, config.endswith("-vit")) for name, nest in made.items()}
    for name, content in coded.items():
        write_zst(folder / "coded" / name, content)
    return coded


@pytest.mark.parametrize("config", RELEASES)
def test_right_figures_reproduce(config: str, tmp_path: Path) -> None:
    coded = fabricate(tmp_path, config)
    import_reference(tmp_path / "raw", config, tmp_path / "archive")
    for raw in ("raw", "archive"):
        found = reproduce(tmp_path / raw, tmp_path / "coded", config)
        assert len(found.files) == len(coded) == 3
        assert [one for file in found.files for one in file.deviating()] == []
        assert found.not_coded == []
        for name, (said, now) in found.means().items():
            wanted = [content["metadata"][name] for content in coded.values()]
            assert now == pytest.approx(sum(wanted) / 3, rel=1e-9)
            assert said == pytest.approx(now, rel=1e-9)
        # Every tensor of every file is looked at, with its rate and its error.
        tensors = sum(len(tensors_of(content["features"])) for content in coded.values())
        for figure in ("enc_bpfp", "final_mse", "ori_shape"):
            rows = [one for file in found.files for one in file.figures if one.figure == figure]
            assert len(rows) == tensors


def test_what_float16_states_weigh(tmp_path: Path) -> None:
    fabricate(tmp_path, "gsm8k-ssm")
    found = reproduce(tmp_path / "raw", tmp_path / "coded", "gsm8k-ssm")
    (bpfp, _), (ebpfp, _) = (found.means()[name] for name in ("bpfp", "ebpfp"))
    assert bpfp is not None
    assert ebpfp is not None
    # The output is float32, all else float16.
    assert bpfp < ebpfp < 2 * bpfp


def test_copies_that_were_coded_apart_count_apart(tmp_path: Path) -> None:
    name = next(iter(fabricate(tmp_path, "canny-t2i")))

    def change(content: dict[str, Any]) -> None:
        control = content["features"]["vae.encoder"]
        control["vae.encoder_f1"] = control["vae.encoder_f1"] + 1

    spoil(tmp_path / "coded" / name, change)
    (file, *_) = reproduce(tmp_path / "raw", tmp_path / "coded", "canny-t2i").files
    found = {(one.where, one.figure) for one in file.deviating()}
    assert found == {("", "mse"), ("vae.encoder.vae.encoder_f1", "final_mse")}


def spoil(path: Path, change: Change) -> None:
    content = read_zst(path)
    change(content)
    write_zst(path, content)


def off_by(name: str, ratio: float) -> Change:
    return lambda content: content["metadata"].update({name: content["metadata"][name] * ratio})


def tensor_off(content: dict[str, Any]) -> None:
    content["metadata"]["key_1"]["final_mse"] *= 1.01


def fewer_bytes(content: dict[str, Any]) -> None:
    content["metadata"]["value_4"]["enc_bytes"] -= 5


def other_values(content: dict[str, Any]) -> None:
    content["features"]["output"] = content["features"]["output"] + 1


def other_shape(content: dict[str, Any]) -> None:
    content["features"]["output"] = content["features"]["output"][..., 1:]


def unsaid(content: dict[str, Any]) -> None:
    del content["metadata"]["mse"]


@pytest.mark.parametrize(
    ("change", "listed"),
    [
        (off_by("bpfp", 1.006), {("", "bpfp")}),
        (off_by("ebpfp", 0.99), {("", "ebpfp")}),
        (off_by("mse", 2), {("", "mse")}),
        (off_by("mse", float("nan")), {("", "mse")}),
        (tensor_off, {("key.1", "final_mse")}),
        (fewer_bytes, {("", "bpfp"), ("", "ebpfp"), ("value.4", "enc_bpfp")}),
        (other_values, {("", "mse"), ("output", "final_mse")}),
        (other_shape, {("output", "shape")}),
        (unsaid, {("", "mse")}),
        (off_by("bpfp", 1.004), set()),
    ],
)
def test_a_wrong_figure_is_listed(
    change: Change, listed: set[tuple[str, str]], tmp_path: Path
) -> None:
    name = list(fabricate(tmp_path, "truthfulqa-llm"))[1]
    spoil(tmp_path / "coded" / name, change)
    found = reproduce(tmp_path / "raw", tmp_path / "coded", "truthfulqa-llm")
    deviating = {
        (file.sample, one.where, one.figure) for file in found.files for one in file.deviating()
    }
    assert deviating == {("10", where, figure) for where, figure in listed}


def test_the_verb_lists_deviations(tmp_path: Path) -> None:
    name = list(fabricate(tmp_path, "truthfulqa-llm"))[1]
    arguments = ("reproduce", tmp_path / "raw", tmp_path / "coded", "--config", "truthfulqa-llm")
    done = invoke(*arguments)
    assert (done.returncode, done.stderr) == (0, "")
    assert "deviates" not in done.stdout
    spoil(tmp_path / "coded" / name, off_by("ebpfp", 1.1))
    done = invoke(*arguments)
    assert done.returncode == 1
    assert "deviates: 10, whole file: ebpfp" in done.stdout
    done = invoke(*arguments, "--json")
    assert done.returncode == 1
    report = json.loads(done.stdout)
    (listed,) = report["deviations"]
    assert (listed["sample"], listed["figure"], listed["tensor"]) == ("10", "ebpfp", None)
    assert listed["deviation"] == pytest.approx(0.1 / 1.1)
    assert "quant_mse" in report["unchecked"]
    assert invoke(*arguments, "--tolerance", "0.2").returncode == 0


def test_files_that_cannot_be_compared_are_one_line(tmp_path: Path) -> None:
    names = list(fabricate(tmp_path, "truthfulqa-llm"))
    coded = tmp_path / "coded"
    with pytest.raises(SourceError, match="not a file after coding"):
        reproduce(tmp_path / "raw", tmp_path / "raw", "truthfulqa-llm")
    (tmp_path / "raw" / names[2]).unlink()
    with pytest.raises(SourceError, match="no raw file of sample 11"):
        reproduce(tmp_path / "raw", coded, "truthfulqa-llm")
    (coded / names[2]).unlink()
    (coded / names[1]).unlink()
    found = reproduce(tmp_path / "raw", coded, "truthfulqa-llm")
    assert found.not_coded == ["10"]

    def itself(content: dict[str, Any]) -> None:
        del content["metadata"]["output"]

    spoil(coded / names[0], itself)
    with pytest.raises(SourceError, match="describe 10 tensors, it holds 11"):
        reproduce(tmp_path / "raw", coded, "truthfulqa-llm")
