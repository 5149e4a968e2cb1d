"""What sources of image files share: reading them, and samples made when they are asked for."""

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from extraction.sources.base import SourceSample
from lamofcbench.errors import SampleError, SourceError

__all__ = ["IMAGE_SUFFIXES", "LazySamples", "Refused", "decoded", "image_files", "need_folder"]

IMAGE_SUFFIXES = (".jpeg", ".jpg", ".png")


class Refused(Mapping[str, Any]):
    """Inputs that are not to be had: reading one raises `SampleError` with the reason.

    So a bad file costs its own sample, which is recorded as skipped, and not the run.
    """

    def __init__(self, reason: str) -> None:
        """Keep the reason."""
        self._reason = reason

    def __getitem__(self, name: str) -> Any:
        """Raise `SampleError`."""
        raise SampleError(self._reason)

    def __iter__(self) -> Iterator[str]:
        """Iterate over nothing."""
        return iter(())

    def __len__(self) -> int:
        """Count nothing."""
        return 0


class LazySamples(Sequence[SourceSample]):
    """Samples that are read when they are indexed, each anew."""

    def __init__(self, records: Sequence[Any], make: Callable[[Any], SourceSample]) -> None:
        """Keep the records, and what makes a sample of one."""
        self._records = records
        self._make = make

    @overload
    def __getitem__(self, position: int) -> SourceSample: ...
    @overload
    def __getitem__(self, position: slice) -> "LazySamples": ...
    def __getitem__(self, position: int | slice) -> "SourceSample | LazySamples":
        """Read one sample; of a slice, none yet."""
        if isinstance(position, slice):
            return LazySamples(self._records[position], self._make)
        return self._make(self._records[position])

    def __len__(self) -> int:
        """Count the samples."""
        return len(self._records)


def need_folder(name: str, folder: Path | None, layout: str) -> Path:
    """Return the folder of a data set that must be given.

    Raises:
        SourceError: it is not given, or not there.
    """
    if folder is None:
        raise SourceError(f"{name}: needs SOURCE=, a folder with {layout}")
    if not folder.is_dir():
        raise SourceError(f"{name}: {folder} is no folder; needs one with {layout}")
    return folder


def image_files(folder: Path) -> list[Path]:
    """Image files right in a folder, sorted by name."""
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)


def decoded(data: bytes, where: str, mode: str = "RGB") -> NDArray[Any]:
    """Decode an image.

    Args:
        data: of a file.
        where: its name, for messages.
        mode: ``RGB``, into which anything is converted, or ``""`` to leave it as it is.

    Returns:
        uint8 [height, width, 3] for RGB; else as stored.

    Raises:
        SampleError: it is not an image.
    """
    try:
        with Image.open(io.BytesIO(data)) as image:
            return np.array(image.convert(mode) if mode else image)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        reason = (str(error).splitlines() or [""])[0] or type(error).__name__
        # Pillow names the buffer by its address, which differs from run to run.
        reason = "unknown format" if "cannot identify" in reason else reason
        raise SampleError(f"{where}: not a whole image: {reason}") from None
