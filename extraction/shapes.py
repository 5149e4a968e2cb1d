"""``python -m extraction.shapes``: the published architectures against the declarations."""

import re
import sys

import torch

from extraction.published import SHAPES, Shapes
from lamofcbench.cli.output import print_table
from lamofcbench.spec import TensorSpec, list_configs, load_scenario

__all__ = ["compare", "main"]


def _measure(config: str, done: dict[str, Shapes]) -> Shapes:
    """Run a config's published architecture, once for all configs that look the same to it."""
    scenario = load_scenario(config)
    profile = scenario.profile("full")
    alike = f"{scenario.family} {sorted(profile.preprocess.items())} {profile.keys}"
    if alike not in done:
        with torch.no_grad():
            done[alike] = SHAPES[scenario.family](profile)
    return done[alike]


def compare(tensor: TensorSpec, shape: tuple[int, ...], dtype: str) -> str | None:
    """What differs between a declared tensor and a measured one; None if nothing does."""
    if dtype != tensor.captured:
        return f"dtype {dtype}, declared {tensor.captured}"
    fits = len(shape) == len(tensor.shape) and all(
        isinstance(size, str) or size == found
        for size, found in zip(tensor.shape, shape, strict=True)
    )
    return None if fits else f"shape {list(shape)}, declared {list(tensor.shape)}"


def _pattern(name: str) -> str:
    return re.sub(r"\d+", "*", name)


def main() -> None:
    """Print a table of all configs; exit with 1 if any differs from its declaration."""
    rows, wrong = [], 0
    done: dict[str, Shapes] = {}
    for config in list_configs():
        profile = load_scenario(config).profile("full")
        found = _measure(config, done)
        groups: dict[tuple[str, str, str, str], int] = {}
        for tensor in profile.keys:
            shape, dtype = found[tensor.name]
            fault = compare(tensor, shape, dtype)
            wrong += fault is not None
            declared = ", ".join("N" if isinstance(n, str) else str(n) for n in tensor.shape)
            key = (_pattern(tensor.name), f"[{declared}]", dtype, fault or "as declared")
            groups[key] = groups.get(key, 0) + 1
        rows += [[config, name, count, *rest] for (name, *rest), count in groups.items()]
    print_table(["config", "key", "keys", "shape", "dtype", ""], rows)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
