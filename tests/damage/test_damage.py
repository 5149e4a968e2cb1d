"""Every abuse of a store's files is found, named, and never read as data."""

import json
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lamofcbench import load_dataset
from lamofcbench.atomic import canonical_json, sha256_bytes
from lamofcbench.errors import FormatVersionError, IntegrityError, LamofcError
from lamofcbench.store.verify import verify_store
from lamofcbench.store.work import WORK
from tests import stores
from tests.contract.test_resume import unfinished

OUTPUT = "features.zarr/layer.1.output/c/{}/0/0"


def read_all(archive: Path, **options: Any) -> list[LamofcError]:
    """Read every sample; the errors that it took."""
    errors: list[LamofcError] = []
    for split in ("calibration", "test", "train"):
        try:
            ds = load_dataset(archive, stores.CONFIG, split=split, **options)
        except (IntegrityError, FormatVersionError) as error:
            return [error]
        for position in range(len(ds)):
            try:
                ds[position]
            except IntegrityError as error:
                errors.append(error)
    return errors


def cli(*arguments: object) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "lamofcbench", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_flipped_byte_in_any_file_is_found(archive: Path, store: Path) -> None:
    where = random.Random(0)
    files = [p for p in sorted(store.rglob("*")) if p.is_file()]
    assert len(files) > 40
    for path in files:
        data = path.read_bytes()
        name = path.relative_to(store).as_posix()
        # First and last byte, and two in between; of a shard also one in header and index.
        spots = {0, len(data) - 1, where.randrange(len(data)), where.randrange(len(data))}
        if "/c/" in name and "length/" not in name:
            spots |= {12, 60, len(data) - 20}
        for spot in spots:
            damaged = bytearray(data)
            damaged[spot] ^= 1 << where.randrange(8)
            path.write_bytes(damaged)
            findings = verify_store(store).findings
            assert any(name in f"{found.path} {found.what}" for found in findings), (name, spot)
            errors = read_all(archive)
            assert errors, (name, spot)
            assert all(path.name in str(error) for error in errors)
        path.write_bytes(data)
    assert not verify_store(store).findings
    assert not read_all(archive)


def test_a_flipped_chunk_spoils_no_other_sample(archive: Path, store: Path) -> None:
    path = store / OUTPUT.format(0)
    data = bytearray(path.read_bytes())
    data[64 + 100] ^= 1
    path.write_bytes(data)
    (error,) = read_all(archive)
    assert str(path) in str(error)
    assert "sample 0 fails its checksum" in str(error)
    assert "make extract SCENARIO=toy-llm PROFILE=tiny" in str(error)
    assert not read_all(archive, tensors=["layer.2.output"])


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-5])


def lengthen(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"x")


def empty(path: Path) -> None:
    path.write_bytes(b"")


def zero(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


@pytest.mark.parametrize("damage", [truncate, lengthen, empty, zero, Path.unlink])
@pytest.mark.parametrize(
    "name",
    [
        OUTPUT.format(1),
        "features.zarr/context/token_ids/c/1/0",
        "features.zarr/length/token/c/0",
        "features.zarr/length/token/zarr.json",
        "features.zarr/zarr.json",
        "samples-test.parquet",
        "manifest.json",
        "manifest.json.sha256",
    ],
)
def test_a_spoilt_file_is_named(
    archive: Path, store: Path, name: str, damage: Callable[[Path], object]
) -> None:
    damage(store / name)
    done = cli("verify", store)
    assert done.returncode == 1
    assert name in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
    errors = read_all(archive)
    assert errors
    assert all(Path(name).name in str(error) for error in errors)


def swap(one: Path, other: Path) -> None:
    first, second = one.read_bytes(), other.read_bytes()
    one.write_bytes(second)
    other.write_bytes(first)


def agree(store: Path, *names: str) -> None:
    """Bring the manifest into agreement with altered files, as a determined forger would."""
    manifest = json.loads((store / "manifest.json").read_bytes())
    for name in names:
        data = (store / name).read_bytes()
        manifest["files"][name] = {"bytes": len(data), "sha256": sha256_bytes(data)}
    lines = (
        f"{path} {entry['sha256']}\n"
        for path, entry in sorted(manifest["files"].items())
        if path.startswith("features.zarr/")
    )
    manifest["content_hash"] = sha256_bytes("".join(lines).encode())
    rewrite(store, manifest)


def rewrite(store: Path, manifest: dict[str, Any]) -> None:
    data = canonical_json(manifest)
    (store / "manifest.json").write_bytes(data)
    (store / "manifest.json.sha256").write_text(f"{sha256_bytes(data)}  manifest.json\n")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (OUTPUT.format(0), OUTPUT.format(1)),
        ("features.zarr/layer.0.k_cache/c/0/0/0/0", "features.zarr/layer.1.k_cache/c/0/0/0/0"),
    ],
)
def test_swapped_shards_are_found_even_by_their_header_alone(
    archive: Path, store: Path, one: str, other: str
) -> None:
    swap(store / one, store / other)
    findings = {found.path for found in verify_store(store).findings}
    assert {one, other} <= findings
    assert read_all(archive)
    agree(store, one, other)
    findings_now = verify_store(store).findings
    assert {found.path for found in findings_now} == {one, other}
    assert all("another shard" in found.what for found in findings_now)
    assert all("another shard" in str(error) for error in read_all(archive))


def test_a_shard_of_another_store_is_found(archive: Path, store: Path, tmp_path: Path) -> None:
    other = stores.write(tmp_path / "other", stores.profile(split_point="elsewhere"))
    name = OUTPUT.format(0)
    assert (other / name).stat().st_size == (store / name).stat().st_size
    shutil.copyfile(other / name, store / name)
    agree(store, name)
    assert cli("verify", store).returncode == 1
    assert "another shard, array, request or archive" in str(read_all(archive)[0])


def test_a_missing_chunk_is_never_read_as_zeros(archive: Path, store: Path) -> None:
    """A shard whose index says "absent", with a right checksum, for a sample that is there."""
    import struct

    import google_crc32c

    name = OUTPUT.format(0)
    data = bytearray((store / name).read_bytes())
    size = 16 * 16 * 2  # 16 samples of 2 chunks
    index = bytearray(data[-size - 4 : -4])
    index[:16] = b"\xff" * 16
    data[-size - 4 :] = index + struct.pack("<I", google_crc32c.value(bytes(index)))
    (store / name).write_bytes(data)
    agree(store, name)
    errors = read_all(archive)
    assert len(errors) == 15
    assert all("chunk 0 of its sample 0 is missing" in str(error) for error in errors)


def test_a_length_that_disagrees_is_found(archive: Path, store: Path) -> None:
    manifest = json.loads((store / "manifest.json").read_bytes())
    manifest["shards"][0]["lengths"]["token"][0] += 1
    rewrite(store, manifest)
    (finding,) = verify_store(store).findings
    assert "length/token" in finding.what
    assert "differs from the manifest, first at sample 0" in finding.what
    assert len(read_all(archive)) == 1


def test_a_foreign_file_is_found(archive: Path, store: Path) -> None:
    (store / "features.zarr" / "notes.txt").write_text("mine")
    done = cli("verify", archive)
    assert done.returncode == 1
    assert "features.zarr/notes.txt: not listed in the manifest" in done.stdout
    assert not read_all(archive)


def test_a_newer_format_asks_for_an_upgrade(archive: Path, store: Path) -> None:
    manifest = json.loads((store / "manifest.json").read_bytes())
    manifest["format_version"] = 99
    rewrite(store, manifest)
    (error,) = read_all(archive)
    assert "format version 99, this package reads 1" in str(error)
    assert cli("verify", archive).returncode == 1


def test_an_unknown_field_in_the_manifest_is_refused(archive: Path, store: Path) -> None:
    manifest = json.loads((store / "manifest.json").read_bytes())
    manifest["surprise"] = 1
    rewrite(store, manifest)
    assert "surprise" in str(read_all(archive)[0])


def test_damage_in_an_unfinished_store_is_found(tmp_path: Path) -> None:
    store = unfinished(tmp_path, range(0, 2))
    record = store / WORK / "shard-0.json"
    data = bytearray(record.read_bytes())
    spot = data.index(b"toy-000")
    data[spot] ^= 1
    record.write_bytes(data)
    assert "shard-0.json: altered" in verify_store(store).findings[0].what
    assert "shard-0.json" in str(read_all(tmp_path)[0])


def test_nothing_there_is_a_mistake_not_a_finding(tmp_path: Path) -> None:
    done = cli("verify", tmp_path / "nothing")
    assert done.returncode == 2
    assert "make extract SCENARIO=" in done.stderr
    assert cli("verify", tmp_path).returncode == 2
