"""Small synthetic stores with every kind of array, written without any model.

Run as a program, it writes one store, slowly enough to be killed in the middle.
"""

import dataclasses
import sys
from pathlib import Path
from typing import Any

import numpy as np

from lamofcbench.atomic import canonical_json, sha256_bytes
from lamofcbench.layout import build_layouts
from lamofcbench.manifest import (
    ArrayEntry,
    CaptureEntry,
    Draft,
    Manifest,
    ModelEntry,
    SourceEntry,
)
from lamofcbench.spec import SPLITS, ProfileSpec
from lamofcbench.store.writer import Sample, StoreWriter

CONFIG = "toy-llm"
ZERO_ROW = 3
SKIPPED_ROW = 5


def profile(test: int = 20, compression: str = "blosc", **changes: Any) -> ProfileSpec:
    """Ragged and fixed, bfloat16 kept and narrowed, more than one chunk a sample, maps."""
    return ProfileSpec.model_validate(
        {
            "model": {"id": "toy", "licence": "none", "dtype": "bfloat16"},
            "source": {
                "name": "toy",
                "id": "toy",
                "split": "x",
                "calibration_split": "x",
                "licence": "none",
                "selection": "numbered",
                "seed": 7,
            },
            "split_point": "nowhere",
            "samples": {"calibration": 4, "test": test, "train": 12},
            "compression": compression,
            "ragged": {"token": {"max": 40, "typical": 20}, "pixel": {"max": 900, "typical": 300}},
            "reference": {"label": "int64", "answers": "list<string>"},
            "keys": [
                tensor(
                    "layer.{0,1}.k_cache", ["token", "head", "dim"], ["token", 2, 4], "bfloat16"
                ),
                tensor("layer.1.output", ["token", "dim"], ["token", 20000], "bfloat16"),
                {
                    **tensor("layer.2.output", ["token", "dim"], ["token", 6], "float32"),
                    "stored": "bfloat16",
                },
                tensor("state", ["channel", "state"], [300, 1000], "float32"),
                tensor("views", ["view", "height"], [2, 5], "float16"),
            ],
            "context": [tensor("token_ids", ["token"], ["token"], "int64")],
            "reference_arrays": [tensor("mask", ["pixel"], ["pixel"], "uint8")],
            "modes": {"all": {"keys": ["layer.{0,1}.k_cache"], "context": ["token_ids"]}},
            **changes,
        }
    )


def tensor(name: str, axes: list[str], shape: list[Any], captured: str) -> dict[str, Any]:
    return {"name": name, "axes": axes, "shape": shape, "captured": captured}


def draft(spec: ProfileSpec, name: str = "tiny", config: str = CONFIG) -> Draft:
    counts = spec.samples.model_dump()
    splits = {split: counts[split] for split in SPLITS if counts[split]}
    entries = {
        path: ArrayEntry(**layout.to_manifest())
        for path, layout in build_layouts(spec, name, sum(splits.values())).items()
    }

    def below(prefix: str) -> dict[str, ArrayEntry]:
        return {p.removeprefix(prefix): e for p, e in entries.items() if p.startswith(prefix)}

    asked = {"config": config, "profile": name, "declaration": spec.model_dump(mode="json")}
    return Draft(
        format_version=1,
        config=config,
        profile=name,
        category="CLU",
        title="A toy",
        model=ModelEntry(
            id="toy",
            revision=None,
            family="llm",
            licence="none",
            parameters_loaded=1,
            parameters_total=2,
        ),
        split_point="nowhere",
        source=SourceEntry(**spec.source.model_dump(exclude={"name"})),
        capture=CaptureEntry(
            device="cpu", dtype="bfloat16", versions={}, seed=7, git_commit=None, date="2000-01-01"
        ),
        declaration=spec,
        request_sha256=sha256_bytes(canonical_json(asked)),
        splits=splits,
        keys={path: entry for path, entry in entries.items() if "/" not in path},
        context=below("context/"),
        reference=below("reference/"),
    )


def bfloat16(array: Any) -> Any:
    import torch

    return torch.from_numpy(array).to(torch.bfloat16)


SMALL = ("layer.0.k_cache", "layer.2.output", "views")


def small() -> ProfileSpec:
    """A profile of a few kilobytes a sample, with fewer keys and otherwise the same."""
    whole = profile()
    return whole.model_copy(
        update={
            "keys": tuple(key for key in whole.keys if key.name in SMALL),
            "modes": {"all": whole.mode().model_copy(update={"keys": SMALL[:1]})},
        }
    )


def sample(row: int, seed: int = 0) -> Sample:
    """Sample of a store row, always the same for a seed; one is all zeros, one is skipped."""
    rest: tuple[Any, ...] = (
        {"label": row, "answers": [f"a{row}", "b"]},
        f"toy input {row}",
        f"record {row}",
        sha256_bytes(bytes([row])),
    )
    if row == SKIPPED_ROW:
        return Sample(f"toy-{row:03}", {}, *rest, skipped="it is a bad one")
    rng = np.random.default_rng([row, seed] if seed else row)
    ids = np.array([7, 8, 9, *rng.integers(0, 1 << 40, 40)])
    tokens, pixels = int(rng.integers(1, 41)), int(rng.integers(1, 901))

    def normal(*shape: int) -> Any:
        values = rng.standard_normal(shape).astype(np.float32)
        return np.zeros_like(values) if row == ZERO_ROW else values

    def coarse(*shape: int) -> Any:
        return np.round(normal(*shape))

    return Sample(
        f"toy-{row:03}",
        {
            "layer.0.k_cache": bfloat16(normal(2, tokens, 4)),
            "layer.1.k_cache": bfloat16(normal(2, tokens, 4)),
            "layer.1.output": bfloat16(coarse(tokens, 20000)),
            "layer.2.output": bfloat16(normal(tokens, 6)).float(),
            "state": coarse(300, 1000),
            "views": np.full((2, 5), 1.5, np.float16),
            "context/token_ids": ids[:tokens],
            "reference/mask": rng.integers(0, 255, pixels).astype(np.uint8),
        },
        *rest,
        token_ids=ids[:tokens].tolist(),
    )


def _declared(whole: Sample, asked: Draft) -> Sample:
    arrays = {path: value for path, value in whole.arrays.items() if path in asked.layouts}
    return dataclasses.replace(whole, arrays=arrays)


def write(
    archive: Path,
    spec: ProfileSpec | None = None,
    name: str = "tiny",
    config: str = CONFIG,
    seed: int = 0,
) -> Path:
    """Write a whole store and return its folder."""
    asked = draft(spec or profile(), name, config)
    store = archive / config / name
    with StoreWriter(store, asked) as writer:
        for shard in writer.pending():
            rows = asked.shard_rows(shard)
            writer.write_shard(shard, (_declared(sample(row, seed), asked) for row in rows))
        finished = writer.finalise()
    if not isinstance(finished, Manifest):
        raise RuntimeError("the store was not finished")
    return store


if __name__ == "__main__":
    write(Path(sys.argv[1]))
