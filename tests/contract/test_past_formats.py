"""A store written by every format version must be readable for ever."""

from pathlib import Path

import pytest
import torch

from lamofcbench import load_dataset
from lamofcbench.store.verify import verify_store
from tests import stores

ARCHIVES = Path(__file__).parents[1] / "archives"


@pytest.mark.parametrize("version", sorted(path.name for path in ARCHIVES.glob("v*")))
def test_a_past_store_is_intact_and_reads_the_same(version: str) -> None:
    archive = ARCHIVES / version
    assert not verify_store(archive / stores.CONFIG / "tiny").findings
    seen = 0
    for split in ("calibration", "test", "train"):
        for item in load_dataset(archive, stores.CONFIG, split=split):
            want = stores.sample(item["index"])
            for key in stores.SMALL:
                assert torch.equal(item["features"][key], torch.as_tensor(want.arrays[key]))
            seen += 1
    assert seen == 35


def test_todays_writer_gives_the_bytes_of_the_current_format(tmp_path: Path) -> None:
    """A change of bytes without a change of version would break resumes and published hashes."""
    new = stores.write(tmp_path, stores.small())
    old = ARCHIVES / "v1" / stores.CONFIG / "tiny"
    for path in sorted(p.relative_to(old) for p in (old / "features.zarr").rglob("*")):
        if (old / path).is_file():
            assert (new / path).read_bytes() == (old / path).read_bytes(), path
