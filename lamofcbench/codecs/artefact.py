"""What a decoder holds besides bitstreams: codebooks, transforms, bounds, fitted beforehand.

An artefact is one safetensors file. Its sha256 stands in every bitstream that needs it, so that a
wrong or altered one is refused; its size is accounted for in columns of its own.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from lamofcbench.atomic import canonical_json, write_bytes
from lamofcbench.errors import BitstreamError
from lamofcbench.optional import require

__all__ = ["Artefact"]


@dataclass(frozen=True)
class Artefact:
    """A fitted artefact.

    Attributes:
        codec: name of the codec that it was fitted for.
        tensors: by name; what they are is the codec's business.
        about: how it was fitted: parameters, data.
        data: the file's bytes.
    """

    codec: str
    tensors: Mapping[str, NDArray[np.float32]]
    about: Mapping[str, str]
    data: bytes

    @classmethod
    def make(
        cls, codec: str, tensors: Mapping[str, NDArray[np.float32]], about: Mapping[str, str]
    ) -> Self:
        """Make an artefact of tensors; the same ones give the same bytes.

        Args:
            codec: which it is for.
            tensors: float32, by name.
            about: how it was fitted.
        """
        save = require("safetensors.numpy", "codecs").save
        ordered = {
            name: np.ascontiguousarray(tensors[name], np.float32) for name in sorted(tensors)
        }
        # One entry, since the order of several isn't kept.
        said = canonical_json({"codec": codec, "about": dict(about)}).decode()
        return cls(codec, ordered, dict(about), save(ordered, metadata={"artefact": said}))

    @property
    def sha256(self) -> bytes:
        """Hash of the file's bytes, 32 bytes."""
        return hashlib.sha256(self.data).digest()

    def save(self, path: Path) -> None:
        """Write the file; its folder is made."""
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, self.data)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a file.

        Raises:
            BitstreamError: it is missing, damaged, or no artefact.
        """
        safetensors = require("safetensors", "codecs")
        try:
            data = path.read_bytes()
            with safetensors.safe_open(path, framework="np") as opened:
                said = json.loads((opened.metadata() or {})["artefact"])
                # Not a dict: it has no iterator of its own.
                tensors = {name: opened.get_tensor(name) for name in list(opened.keys())}
            codec, about = said["codec"], said["about"]
        except (OSError, KeyError, TypeError, ValueError, safetensors.SafetensorError) as error:
            raise BitstreamError(f"{path}: no artefact, or a damaged one: {error}") from None
        return cls(codec, tensors, about, data)
