"""The card of a config: what it is, how it was captured, what is in it and what codecs make of it.

Everything on it comes from declaration, manifest, values and results; nothing is typed by hand.
"""

import tomllib
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from lamofcbench.bench.key_statistics import SAMPLES, key_statistics
from lamofcbench.card.markdown import bullet, code, figure, number, size, table
from lamofcbench.card.metadata import card_header
from lamofcbench.card.results import codec_section, knockout_section, score_section
from lamofcbench.manifest import Manifest
from lamofcbench.metrics.bands import BANDED
from lamofcbench.spec import ProfileSpec, ScenarioSpec

__all__ = ["CHANNELS", "FEATURES", "card_text"]

CHANNELS, FEATURES = "channels", "features"
"""Figures of values beside a card, ``<config>.<profile>.<figure>.png``."""
CATEGORIES = {
    "CVU": "visual understanding",
    "CLU": "language understanding",
    "CAU": "audio understanding",
    "CTTI": "controlled text-to-image generation",
    "multimodal": "visual question answering",
}
MINIATURE = (
    "Profile `tiny` comes from a miniature that is trained in this repository and ships with it. "
    "It has the structure and the statistics of the large model, so that loaders, codecs and "
    "measurements can be built and tested anywhere; **it is not evidence about the large model**."
)


def _shape(profile: ProfileSpec, sizes: Sequence[int | str]) -> str:
    """A declared shape; a ragged axis with its bound."""
    bounds = {str(axis): bound.max for axis, bound in profile.ragged.items()}
    parts = [f"{name} <= {bounds[name]}" if isinstance(name, str) else str(name) for name in sizes]
    return " x ".join(parts) or "1"


def _profiles(scenario: ScenarioSpec, stores: Sequence[Manifest]) -> str:
    here = {manifest.profile for manifest in stores}
    declared = {str(name): profile for name, profile in scenario.profiles.items()}
    declared |= {m.profile: m.declaration for m in stores if m.profile not in declared}
    rows = []
    for name, profile in declared.items():
        counts = profile.samples.model_dump()
        rows.append(
            [
                f"`{name}`",
                f"`{profile.model.id}`",
                profile.model.dtype,
                f"`{profile.source.id}`, {profile.source.split}",
                profile.split_point,
                ", ".join(f"{count} {split}" for split, count in counts.items() if count),
                "yes" if name in here else "declared",
            ]
        )
    titles = ["profile", "model", "computed in", "data", "split point", "samples", "captured"]
    return table(titles, rows)


def _tensors(scenario: ScenarioSpec, manifest: Manifest) -> str:
    full = scenario.profiles.get("full")
    stored = {path: 0 for path in manifest.layouts}
    for path, layout in manifest.layouts.items():
        files = (layout.shard_path(shard) for shard in range(manifest.shard_count))
        stored[path] = sum(manifest.files[name].bytes for name in files if name in manifest.files)
    rows = []
    for path, tensor in manifest.declaration.tensors().items():
        large = full.tensors().get(path) if full is not None else None
        kind = tensor.captured
        rows.append(
            [
                f"`{path}`",
                " x ".join(tensor.axes) or "-",
                _shape(manifest.declaration, tensor.shape),
                _shape(full, large.shape) if full is not None and large is not None else "-",
                kind if tensor.logical == kind else f"{kind}, stored as {tensor.logical}",
                size(stored[path]),
            ]
        )
    titles = ["tensor", "stored axes", manifest.profile, "full", "dtype", "stored"]
    return table(titles, rows)


def _modes(profile: ProfileSpec) -> str:
    def names(keys: Sequence[str]) -> str:
        return ", ".join(f"`{key}`" for key in keys)

    return "\n".join(bullet(f"`{name}`", names(mode.keys)) for name, mode in profile.modes.items())


def _sizes(manifest: Manifest) -> str:
    totals = manifest.totals
    splits = ", ".join(f"{count} {split}" for split, count in manifest.splits.items())
    return "\n".join(
        [
            bullet("samples", f"{totals.samples} ({splits}), {totals.skipped} skipped"),
            bullet("values", f"{totals.elements:,}"),
            bullet(
                "bytes",
                f"{size(totals.bytes)} stored, {size(totals.raw_bytes)} raw, lossless ratio "
                f"{totals.raw_bytes / totals.bytes:.2f}",
            ),
            bullet(
                "files",
                f"{len(manifest.files)} in {manifest.shard_count} shards of "
                f"{manifest.samples_per_shard} samples",
            ),
            bullet("content hash", f"`{manifest.content_hash}`"),
        ]
    )


def _capture(manifest: Manifest) -> str:
    capture, model, source = manifest.capture, manifest.model, manifest.source
    loaded = f"{model.parameters_loaded:,} of {model.parameters_total:,}"
    versions = ", ".join(f"{name} {version}" for name, version in capture.versions.items())
    lines = [
        bullet("weights", f"`{model.id}`, revision `{model.revision or 'not pinned'}`"),
        bullet("parameters loaded", f"{loaded}: the front half is all that runs"),
        bullet("device and dtype", f"{capture.device}, {capture.dtype}"),
        bullet("versions", versions),
        bullet("selection", f"{source.selection}; seed {source.seed}"),
        bullet("calibration samples", f"from {source.calibration_split}, never evaluated"),
    ]
    if manifest.shared_prefix:
        lines.append(bullet("shared prefix", f"{manifest.shared_prefix} leading tokens"))
    if manifest.constant_keys:
        lines.append(bullet("constant keys", ", ".join(manifest.constant_keys)))
    return "\n".join(lines)


def _values(archive: Path, manifest: Manifest, folder: Path) -> str:
    rows = key_statistics(manifest.config, str(archive), manifest.profile)
    titles = ["key", "range", *(name.replace("_", " ") for name in BANDED)]
    lines = [
        [
            f"`{row['key']}`",
            f"{number(row['minimum'])} to {number(row['maximum'])}",
            *(number(row[name]) for name in BANDED),
        ]
        for row in rows
    ]
    stem = f"{manifest.config}.{manifest.profile}"
    figures = {
        FEATURES: "Histogram of every key, on asinh axes",
        CHANNELS: "Range and deviation of every channel, massive ones marked",
    }
    shown = [
        figure(caption, f"{stem}.{name}.png")
        for name, caption in figures.items()
        if (folder / f"{stem}.{name}.png").is_file()
    ]
    intro = (
        f"Of the first {SAMPLES} test samples. Kurtosis is 3 for a normal distribution; deviation "
        "ratio is that of the strongest channel to the median one; shares are of the energy."
    )
    return "\n\n".join([intro, table(titles, lines), *shown])


def _licences(scenario: ScenarioSpec) -> str:
    rows = [
        [f"`{name}`", profile.model.licence, profile.source.licence]
        for name, profile in scenario.profiles.items()
    ]
    return table(["profile", "model", "data"], rows)


def _citation(scenario: ScenarioSpec, manifest: Manifest) -> str:
    from lamofcbench import __version__

    listed = resources.files("lamofcbench") / "card" / "citations.toml"
    known: dict[str, dict[str, Any]] = tomllib.loads(listed.read_text("utf-8"))
    fields = {
        "title": f"lamofcbench: {manifest.config}",
        "version": __version__,
        "note": f"content hash {manifest.content_hash}",
    }
    entries = [("lamofcbench", fields)]
    if (paper := known.get(scenario.family)) is not None:
        entries.append((scenario.family, {**paper, "archivePrefix": "arXiv"}))
    return "\n\n".join(
        f"@misc{{{name},\n"
        + "".join(f"  {key} = {{{value}}},\n" for key, value in body.items())
        + "}"
        for name, body in entries
    )


def _load(manifest: Manifest) -> str:
    config, profile = manifest.config, manifest.profile
    return (
        "from lamofcbench import load_dataset\n\n"
        f'dataset = load_dataset("lamofcbench", "{config}", profile="{profile}")\n'
        "sample = dataset[0]  # id, index, features, context, reference, lengths\n"
        f'one = load_dataset("lamofcbench", "{config}", tensors=["{next(iter(manifest.keys))}"], '
        "samples=range(10))"
    )


def card_text(
    scenario: ScenarioSpec, archive: Path, stores: Sequence[Manifest], folder: Path
) -> str:
    """Write the card of a config.

    Args:
        scenario: its declaration.
        archive: where its stores are.
        stores: their manifests, the preferred profile first; at least one.
        folder: the card's, in which figures and results are looked for.

    Returns:
        Markdown, with the Hub's metadata at its head.
    """
    first = stores[0]
    family = f"family `{scenario.family}`, task {scenario.task.replace('_', ' ')}"
    parts = [
        card_header({scenario.config: stores}),
        f"# {scenario.config}: {scenario.title}",
        f"Intermediate features for {CATEGORIES[scenario.category]}: what crosses the split when a "
        f"large model runs on two devices, and must be coded. {family.capitalize()}, metric "
        f"{scenario.metric.replace('_', ' ')}.",
        _profiles(scenario, stores),
    ]
    if any(manifest.profile == "tiny" for manifest in stores):
        parts.append(MINIATURE)
    for manifest in stores:
        suffix = f", profile `{manifest.profile}`" if len(stores) > 1 else ""
        parts += [
            f"## How it was captured{suffix}",
            _capture(manifest),
            f"## Tensors{suffix}",
            _tensors(scenario, manifest),
            "Modes, each a set of keys that is coded and injected together:",
            _modes(manifest.declaration),
            f"## Values{suffix}",
            _values(archive, manifest, folder),
            f"## Sizes{suffix}",
            _sizes(manifest),
            f"## Scores{suffix}",
            score_section(folder, manifest),
            f"## Keys that matter{suffix}",
            knockout_section(folder, manifest),
            f"## Codecs{suffix}",
            codec_section(folder, manifest),
        ]
    parts += [
        "## How to load",
        code("python", _load(first)),
        "## Licences",
        _licences(scenario),
        "## Citation",
        code("bibtex", _citation(scenario, first)),
    ]
    return "\n\n".join(parts) + "\n"
