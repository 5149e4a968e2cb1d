"""Results files made up from curves that are known, with no model run."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lamofcbench.bench.results import write_results
from lamofcbench.bench.scoring import Measured

SAMPLES = 12


def write(
    path: Path,
    curves: dict[str, Sequence[tuple[float, float]]],
    samples: int = SAMPLES,
    **provenance: Any,
) -> Path:
    """Write points of codecs ``name:bits=n``, each a rate and an ``agree_rest``."""
    said = {"content_hash": "a", "conditions_sha256": "b", "model_revision": "c", **provenance}
    points = [("uncoded", None, 1.0)]
    for name, curve in curves.items():
        points += [(f"{name}:bits={n + 1}", *point) for n, point in enumerate(curve)]
    rows, results = [], []
    for point, rate, agree in points:
        name, _, parameters = point.partition(":")
        figures = {
            "agree_rest": agree,
            "kl_rest": (1 - agree) / 4,
            "exact_match": agree,
            **({"bpfp": rate, "mse": (1 - agree) or 1e-9, "rel_mse": 1 - agree} if rate else {}),
        }
        row: dict[str, Any] = {
            "config": "arc-llm",
            "profile": "tiny",
            "mode": "handoff",
            "keys": ["layer.4.output"],
            "point": point,
            "samples": samples,
            "metric": "exact_match",
            "chance": 0.25,
            "headline": "agree_rest",
            "fidelity_chance": 0.05,
            "codec": name,
            "params": parameters,
            "fit": "none",
            "provenance": said,
        }
        named = {**figures, "score": agree, "fidelity": agree, "score_loss": 1 - agree}
        for column, value in named.items():
            row |= {column: value, f"{column}_low": value * 0.98, f"{column}_high": value * 1.01}
        rows.append(row)
        wobble = np.linspace(0.99, 1.01, samples)[:, None]
        stacks = {column: value * wobble for column, value in figures.items()}
        results.append(Measured(point, [f"s{n}" for n in range(samples)], stacks))
    write_results(path, rows, results)
    return path
