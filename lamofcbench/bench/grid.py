"""The grid of codecs that a whole board runs: one data file."""

import tomllib
from importlib import resources

__all__ = ["grid_codecs"]


def grid_codecs() -> list[str]:
    """Codecs of ``grid.toml`` with their settings, as for `parse_codec`, in its order."""
    text = (resources.files("lamofcbench") / "bench" / "grid.toml").read_text("utf-8")
    codecs: dict[str, list[str]] = tomllib.loads(text)["codecs"]
    return [
        f"{name}:{setting}" if setting else name
        for name, settings in codecs.items()
        for setting in settings
    ]
