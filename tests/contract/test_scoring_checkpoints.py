"""Scoring drives published checkpoints through the same interface: one of their shape, made up."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import transformers

from lamofcbench.models import bundled_path
from lamofcbench.models.quiet import quiet

LAYERS = 36


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Qwen3-8B's depth at a fraction of its width, random, untied, in parts with an index."""
    made = tmp_path_factory.mktemp("models") / "narrow"
    tokenizer = transformers.AutoTokenizer.from_pretrained(bundled_path("llm"))
    torch.manual_seed(0)
    config = transformers.Qwen3Config(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=LAYERS,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        vocab_size=len(tokenizer),
        tie_word_embeddings=False,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with quiet():
        transformers.Qwen3ForCausalLM(config).save_pretrained(made, max_shard_size="60kB")
    tokenizer.save_pretrained(made)
    return made


def run(*arguments: object) -> str:
    done = subprocess.run(
        [sys.executable, "-m", *map(str, arguments)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_deep_checkpoint_is_scored_and_needs_no_front_half(folder: Path, tmp_path: Path) -> None:
    where = ("--archive", tmp_path / "archive")
    run("extraction", "arc-llm", "--model", folder, "--samples", "3", *where)

    def scored(mode: str) -> list[dict[str, float]]:
        text = run(
            *("lamofcbench", "score", "arc-llm", "--mode", mode, "--json", *where),
            *("--quantise", "channel:8,2", "--knockout"),
        )
        rows: list[dict[str, float]] = json.loads(text)["rows"]
        return rows

    uncoded, eight, two, *zeroed = scored("handoff")
    assert (uncoded["profile"], uncoded["samples"]) == ("x-narrow", 3)
    assert (uncoded["fidelity"], uncoded["kl_rest"], uncoded["kl_first"]) == (1, 0, 0)
    assert 0 < eight["kl_rest"] < two["kl_rest"]
    assert len(zeroed) == 11

    whole = scored("output")
    front = [f"model.layers.{i}." for i in range(5)] + ["model.embed_tokens."]
    index = json.loads((folder / "model.safetensors.index.json").read_text("utf-8"))["weight_map"]
    held: dict[str, list[str]] = {}
    for name, file in index.items():
        held.setdefault(file, []).append(name)
    gone = [f for f, names in held.items() if all(n.startswith(tuple(front)) for n in names)]
    assert gone
    for file in gone:
        (folder / file).unlink()
    assert scored("output") == whole
