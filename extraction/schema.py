"""``python -m extraction.schema`` writes the manifest's JSON Schema from its definition."""

import json
from pathlib import Path

from lamofcbench.manifest import Manifest

__all__ = ["render"]


def render() -> str:
    """The schema's text, as it must stand in the package."""
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **Manifest.model_json_schema(),
    }
    return json.dumps(schema, indent=2) + "\n"


if __name__ == "__main__":
    path = Path(__file__).parents[1] / "lamofcbench" / "manifest.schema.json"
    path.write_text(render(), "utf-8")
