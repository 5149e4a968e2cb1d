"""Full-size declarations against the benchmark's table, and against the architectures."""

import subprocess
import sys
from pathlib import Path

import pytest

from extraction.published import SHAPES
from extraction.shapes import compare
from lamofcbench.spec import list_configs, load_scenario

ROOT = Path(__file__).parents[2]
N = "ragged"

# Transcribed from the benchmark's tables of tensors at full size; native layouts as stored.
LLM = {"k_cache": ([N, 8, 128], "bfloat16"), "v_cache": ([N, 8, 128], "bfloat16")}
ALM = {"k_cache": ([N, 4, 128], "bfloat16"), "v_cache": ([N, 4, 128], "bfloat16")}
SSM = {"ssm_state": ([8192, 16], "float32"), "conv_state": ([8192, 4], "bfloat16")}


def layers(kinds: dict[str, tuple[list[object], str]]) -> dict[str, tuple[list[object], str]]:
    return {f"layer.{i}.{kind}": entry for i in range(5) for kind, entry in kinds.items()}


def text_keys() -> dict[str, tuple[list[object], str]]:
    keys: dict[str, tuple[list[object], str]] = {}
    for prompt in ("pos", "neg"):
        for name, width in (("text_encoder", 768), ("text_encoder_2", 1280)):
            keys[f"{name}.{prompt}.pooled"] = ([width], "float16")
            keys[f"{name}.{prompt}.hidden"] = ([77, width], "float16")
        keys[f"text_encoder_3.{prompt}.hidden"] = ([77, 4096], "float16")
    return keys


def table(config: str) -> dict[str, tuple[list[object], str]]:
    family = config.rpartition("-")[2]
    if family == "llm":
        return {**layers(LLM), "layer.4.output": ([N, 4096], "bfloat16")}
    if family == "alm":
        return {**layers(ALM), "layer.4.output": ([N, 3584], "bfloat16")}
    if family == "ssm":
        return {**layers(SSM), "layer.4.output": ([N, 4096], "float32")}
    if family == "t2i":
        vae = {
            "vae.encoder": ([32, 128, 128], "float16"),
            "vae.decoder": ([16, 128, 128], "float16"),
        }
        return {**text_keys(), **vae}
    if family == "mllm":
        vision = {f"vision.deepstack.{k}": ([N, 4096], "bfloat16") for k in range(3)}
        vision["vision.output"] = ([N, 4096], "bfloat16")
        return {**layers(LLM), "layer.4.output": ([N, 4096], "bfloat16"), **vision}
    shape: list[object] = {"ade20k-vit": [N, 3141, 4096], "nyuv2-vit": [2, 3077, 4096]}.get(
        config, [1029, 4096]
    )
    blocks = (9, 19, 29, 39) if config in ("ade20k-vit", "nyuv2-vit") else (9, 39)
    return {f"layer.{i}": (shape, "float32") for i in blocks}


@pytest.mark.parametrize("config", list_configs())
def test_full_declarations_are_the_benchmarks(config: str) -> None:
    profile = load_scenario(config).profile("full")
    declared = {
        tensor.name: ([N if isinstance(n, str) else n for n in tensor.shape], tensor.captured)
        for tensor in profile.keys
    }
    assert declared == table(config)


def test_the_published_architectures_give_them() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "extraction.shapes"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    listed = {line.split()[0] for line in done.stdout.splitlines()[1:]}
    assert listed == set(list_configs())
    assert "declared [" not in done.stdout


def test_a_wrong_expectation_fails() -> None:
    profile = load_scenario("in1k-vit").profile("full")
    tensor = profile.keys[0]
    shape, dtype = SHAPES["vit"](profile)[tensor.name]
    assert compare(tensor, shape, dtype) is None
    wrong = tensor.model_copy(update={"shape": (1028, 4096)})
    assert compare(wrong, shape, dtype) == "shape [1029, 4096], declared [1028, 4096]"
    assert "dtype" in str(compare(tensor.model_copy(update={"captured": "float16"}), shape, dtype))
