"""A folder of raw inputs, which no archive keeps: made where the sources are, read by the bench.

::

    <folder>/<config>/<profile>/inputs.json      parts by sample: texts, and names of files
    <folder>/<config>/<profile>/<id>.<part>.npy  images and audio
"""

import json
import urllib.parse
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from lamofcbench.atomic import sha256_file, write_bytes
from lamofcbench.bench.input_codec import Parts
from lamofcbench.errors import IntegrityError, SampleError

__all__ = ["InputFolder", "write_inputs"]

INDEX = "inputs.json"
VERSION = 1


def write_inputs(
    folder: Path,
    config: str,
    profile: str,
    constant: Parts,
    samples: Iterable[tuple[str, str, Parts]],
) -> int:
    """Write the raw inputs of samples; the index comes last.

    Args:
        folder: of all configs; is made.
        config: its name.
        profile: its name.
        constant: text that is the same in all samples.
        samples: id, sha256 of the source's bytes, and parts of each.

    Returns:
        How many samples were written.
    """
    place = folder / config / profile
    place.mkdir(parents=True, exist_ok=True)
    listed = {}
    for sample, source, parts in samples:
        entries = {}
        for name, value in parts.items():
            if isinstance(value, str):
                entries[name] = {"text": value}
                continue
            path = place / f"{urllib.parse.quote(sample, safe='')}.{name}.npy"
            np.save(path, np.ascontiguousarray(value), allow_pickle=False)
            entries[name] = {"file": path.name, "sha256": sha256_file(path)}
        listed[sample] = {"source_sha256": source, "parts": entries}
    index = {
        "version": VERSION,
        "config": config,
        "profile": profile,
        "constant": dict(constant),
        "samples": listed,
    }
    write_bytes(place / INDEX, json.dumps(index, ensure_ascii=False, indent=1).encode())
    return len(listed)


@dataclass(frozen=True)
class InputFolder:
    """Raw inputs of one config and profile.

    Attributes:
        place: their folder.
        constant: text that is the same in all samples, by part.
        samples: what the index says, by id.
    """

    place: Path
    constant: Mapping[str, str]
    samples: Mapping[str, Mapping[str, Any]]

    @classmethod
    def open(cls, folder: Path, config: str, profile: str) -> Self:
        """Read the index.

        Raises:
            SampleError: it is missing or malformed; the message has the command that makes it.
        """
        place = folder / config / profile
        try:
            index = json.loads((place / INDEX).read_text("utf-8"))
            if (index["version"], index["config"]) != (VERSION, config):
                raise ValueError(f"version {index['version']} of {index['config']}")
            return cls(place, dict(index["constant"]), dict(index["samples"]))
        except OSError:
            raise SampleError(
                f"{place}: no raw inputs here. Make them where the sources are: "
                f"python -m extraction.inputs {config} --profile {profile} --out {folder}"
            ) from None
        except (ValueError, KeyError, TypeError) as error:
            raise SampleError(f"{place / INDEX} is malformed: {error!r}") from None

    def parts(self, sample: str, source: str) -> dict[str, Any]:
        """Read a sample's parts.

        Args:
            sample: its id.
            source: sha256 of the source's bytes that the features were made of.

        Raises:
            SampleError: there are none.
            IntegrityError: they are of another source, or a file is missing or altered.
        """
        if sample not in self.samples:
            raise SampleError(f"no raw inputs in {self.place}: write them again, with all samples")
        entry = self.samples[sample]
        if entry["source_sha256"] != source:
            raise IntegrityError(f"{self.place}: {sample} is not what its features were made of")
        parts: dict[str, Any] = {}
        for name, said in entry["parts"].items():
            if "text" in said:
                parts[name] = said["text"]
                continue
            path = self.place / Path(said["file"]).name
            if not path.is_file() or sha256_file(path) != said["sha256"]:
                raise IntegrityError(f"{path}: missing or altered; write the raw inputs again")
            # A map fails where the file is shorter than its header claims, and allocates nothing.
            parts[name] = np.array(np.lib.format.open_memmap(path, mode="r"))
        return parts
