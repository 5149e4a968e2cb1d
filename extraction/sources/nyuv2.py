"""NYU Depth v2: the labelled ``.mat`` with ``splits.mat``, or folders of images and depth maps."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from extraction.sources.base import Source, SourceSample, sha256_of
from extraction.sources.images import LazySamples, Refused, decoded, need_folder
from lamofcbench.errors import SampleError, SourceError
from lamofcbench.optional import require
from lamofcbench.spec import CALIBRATION_SAMPLES

__all__ = ["NyuV2"]

LABELLED, SPLITS_FILE = "nyu_depth_v2_labeled.mat", "splits.mat"
LAYOUT = f"{LABELLED} and {SPLITS_FILE}, or {{train,test}}/<scene>/rgb_*.jpg and sync_depth_*.png"
INDICES = {"test": "testNdxs", "calibration": "trainNdxs", "train": "trainNdxs"}
FOLDERS = {"test": "test", "calibration": "train", "train": "train"}


class NyuV2(Source):
    """Images of 480 x 640 with depth in metres, 0 where the sensor gave none.

    Depth is the sensor's, before missing values were filled in (``rawDepths``): what was filled in
    is no truth. In the folders it is stored as whole millimetres.
    """

    def select(self, split: str, count: int) -> Sequence[SourceSample]:
        """Choose the first ``count`` images of a split, in an order drawn from the seed.

        Raises:
            SourceError: the files are not there, are malformed, or have fewer images.
            MissingDependencyError: h5py or scipy is not installed, and the ``.mat`` is read.
        """
        folder = need_folder("nyuv2", self.folder, LAYOUT)
        if split not in FOLDERS:
            raise SourceError(f"nyuv2: no split {split!r}; there are {', '.join(FOLDERS)}")
        labelled = folder / LABELLED
        if labelled.is_file():
            records = [(labelled, i) for i in _indices(folder / SPLITS_FILE, INDICES[split])]
            number = _checked(labelled)
            if records and max(i for _, i in records) >= number:
                raise SourceError(f"nyuv2: {SPLITS_FILE} numbers images beyond the {number} there")
        else:
            records = [(pair, None) for pair in _pairs(folder / FOLDERS[split])]
        order = np.random.RandomState(self.profile.source.seed).permutation(len(records))
        first = CALIBRATION_SAMPLES if split == "train" else 0
        if first + count > len(records):
            raise SourceError(
                f"nyuv2: {len(records)} images for split {split!r}, {first + count} are needed"
            )
        chosen = [records[i] for i in order[first : first + count]]
        return LazySamples(chosen, _labelled if labelled.is_file() else _pair)


def _pairs(folder: Path) -> list[Path]:
    """Colour images below a folder, each with its depth map beside it."""
    if not folder.is_dir():
        raise SourceError(f"nyuv2: no folder {folder}; needs {LAYOUT}")
    images = sorted(folder.glob("*/rgb_*.jpg"))
    for image in images:
        if not _depth_of(image).is_file():
            raise SourceError(f"nyuv2: {image.parent} has no {_depth_of(image).name}")
    return images


def _depth_of(image: Path) -> Path:
    return image.with_name(f"sync_depth_{image.stem.removeprefix('rgb_')}.png")


def _indices(path: Path, name: str) -> list[int]:
    """Read which images are of a split, numbered from 0."""
    if not path.is_file():
        raise SourceError(
            f"nyuv2: {LABELLED} does not say which images are the test's: put the official "
            f"{SPLITS_FILE} beside it"
        )
    scipy = require("scipy.io", "models")
    try:
        found = np.asarray(scipy.loadmat(path, variable_names=[name])[name]).ravel()
        numbers = found.astype(np.int64)
    # What a file that is no .mat raises depends on its first bytes.
    except Exception as error:
        raise SourceError(f"{path}: has no {name}: {type(error).__name__}") from None
    if not len(numbers) or numbers.min() < 1 or not np.array_equal(numbers, found):
        raise SourceError(f"{path}: {name} holds no numbers from 1 on")
    return [int(n) - 1 for n in numbers]


def _checked(path: Path) -> int:
    """Count the images of the labelled file, after a look at its arrays."""
    h5py = require("h5py", "interop")
    try:
        with h5py.File(path, "r") as file:
            images, depths = (file[name].shape for name in ("images", "rawDepths"))
    except (OSError, KeyError, AttributeError) as error:
        reason = str(error).splitlines()[0]
        raise SourceError(f"{path}: not the labelled HDF5 file: {reason}") from None
    # MATLAB's [height, width, 3, n] in HDF5's order.
    if len(images) != 4 or images[1] != 3 or depths != (images[0], *images[2:]):
        raise SourceError(f"{path}: images {images} and rawDepths {depths} do not fit")
    return int(images[0])


def _labelled(record: tuple[Path, int]) -> SourceSample:
    path, index = record
    h5py = require("h5py", "interop")
    try:
        with h5py.File(path, "r") as file:
            image: NDArray[Any] = file["images"][index].transpose(2, 1, 0)
            depth: NDArray[Any] = file["rawDepths"][index].T.astype(np.float32)
    except OSError as error:
        raise SourceError(f"{path}: image {index}: {str(error).splitlines()[0]}") from None
    depth = np.nan_to_num(depth, nan=0.0, posinf=0.0, neginf=0.0)
    digest = sha256_of(np.ascontiguousarray(image).tobytes(), depth.tobytes())
    return _made(f"nyuv2-{index + 1:04d}", {"image": image}, depth, f"{index + 1}", digest)


def _pair(record: tuple[Path, None]) -> SourceSample:
    path = record[0]
    data, metres = path.read_bytes(), _depth_of(path).read_bytes()
    depth = np.zeros((1, 1), np.float32)
    # Both splits have scenes and numbers alike.
    scene, split = path.parent.name, path.parent.parent.name
    name = f"{split}/{scene}/{path.name}"
    try:
        image = decoded(data, name)
        found = decoded(metres, _depth_of(path).name, "")
        if found.ndim != 2 or found.dtype not in (np.uint16, np.int32):
            raise SampleError(f"{name}: its depth map is {found.dtype}, not whole millimetres")
        if found.shape != image.shape[:2]:
            raise SampleError(f"{name}: its depth map is of another size")
        depth = (found / 1000).astype(np.float32)
        inputs: Mapping[str, object] = {"image": image}
    except SampleError as error:
        inputs = Refused(str(error))
    number = path.stem.removeprefix("rgb_")
    return _made(f"{split}-{scene}-{number}", inputs, depth, name, sha256_of(data, metres))


def _made(
    name: str, inputs: Mapping[str, object], depth: NDArray[Any], source_id: str, digest: str
) -> SourceSample:
    return SourceSample(
        id=name,
        inputs=inputs,  # type: ignore[arg-type]
        reference={"depth": depth.ravel()},
        summary=f"a room, {depth.shape[0]} x {depth.shape[1]} pixels",
        source_id=source_id,
        sha256=digest,
    )
