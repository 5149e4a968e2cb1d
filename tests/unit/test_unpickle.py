"""Files that are not tensors in plain containers are refused, and nothing in them runs."""

import contextlib
import io
import os
import pickle
import random
import struct
import zipfile
from collections import Counter, OrderedDict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch

from lamofcbench.errors import SourceError
from lamofcbench.interop.unpickle import load_tensors
from lamofcbench.interop.zst import read_zst, write_zst


class Runs:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (os.mkdir, (str(self.path),))


def saved(value: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def packed(data: bytes) -> bytes:
    return bytes(pa.Codec("zstd").compress(data))


def with_pickle(data: bytes, **more: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a/data.pkl", data)
        for name, content in more.items():
            archive.writestr(f"a/{name}", content)
    return buffer.getvalue()


def load(data: bytes, **more: bool) -> Any:
    return load_tensors(io.BytesIO(data), **more)


PLAIN = {
    "output": torch.randn(1, 3, 4).bfloat16(),
    "list": [torch.randn(2, 3).half(), torch.arange(3), torch.zeros(0)],
    "pair": (torch.randn(2, 4).t(), (None, True, False, 1, -7, 1 << 40, 2.5, "text")),
    "named": OrderedDict(a=torch.Size([1, 2]), b=torch.float16),
}


def test_tensors_in_plain_containers_come_back() -> None:
    found = load(saved(PLAIN))
    assert found.keys() == PLAIN.keys()
    assert torch.equal(found["output"], PLAIN["output"])
    assert found["output"].dtype == torch.bfloat16
    assert [t.dtype for t in found["list"]] == [torch.float16, torch.int64, torch.float32]
    assert torch.equal(found["pair"][0], PLAIN["pair"][0])
    assert found["pair"][1] == PLAIN["pair"][1]
    assert found["named"] == PLAIN["named"]
    assert isinstance(found["named"], OrderedDict)
    shapes = load(saved(PLAIN), shapes_only=True)
    assert (shapes["output"].shape, shapes["output"].device.type) == ((1, 3, 4), "meta")


def test_code_does_not_run(tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    path = tmp_path / "a.zst"
    write_zst(path, {"output": torch.zeros(1), "more": Runs(trap)})
    with pytest.raises(SourceError, match=r"a\.zst: .*mkdir: refused, and nothing was run") as one:
        read_zst(path)
    assert "\n" not in str(one.value)
    assert not trap.exists()
    # The trap is a real one.
    torch.load(io.BytesIO(saved(Runs(trap))), weights_only=False)
    assert trap.exists()


@pytest.mark.parametrize(
    "value",
    [
        Counter("abc"),
        torch.nn.Parameter(torch.zeros(2)),
        {1, 2},
        b"bytes",
        torch.device("cpu"),
        torch.zeros(2, 2).to_sparse(),
        torch.complex(torch.zeros(1), torch.zeros(1)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_anything_else_is_refused(value: Any) -> None:
    with pytest.raises(SourceError, match="refused"):
        load(saved({"a": value}))


@pytest.mark.parametrize("protocol", [0, 4])
def test_pickles_of_other_protocols_are_refused(protocol: int, tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    with pytest.raises(SourceError, match="refused"):
        load(with_pickle(pickle.dumps(Runs(trap), protocol)))
    assert not trap.exists()


def test_what_is_too_large_is_refused(tmp_path: Path) -> None:
    bomb = tmp_path / "bomb.zst"
    bomb.write_bytes(packed(bytes(1 << 24)))
    with pytest.raises(SourceError, match="says that it holds 16777216 bytes"):
        read_zst(bomb, most=1 << 20)
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(bytes(1 << 24))
    # This frame doesn't say how much it holds.
    bomb.write_bytes(sink.getvalue().to_pybytes())
    with pytest.raises(SourceError, match="holds more than 1048576 bytes"):
        read_zst(bomb, most=1 << 20)
    # Two frames, of which the first says that there is less.
    bomb.write_bytes(packed(b"x" * 100) + packed(bytes(1 << 20)))
    with pytest.raises(SourceError, match="holds more than 100 bytes"):
        read_zst(bomb)


def test_a_compressed_zip_is_refused() -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data.pkl", random.Random(0).randbytes(1000))
    with pytest.raises(SourceError, match="compressed"):
        load(buffer.getvalue())


def test_a_tensor_beyond_its_storage_is_refused() -> None:
    storage = (
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00storage"
        b"ctorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x02tQK\x00"
    )
    tail = b"\x89ccollections\nOrderedDict\n)RtR."

    def tensor(size: bytes, stride: bytes) -> bytes:
        return storage + b"J" + size + b"\x85J" + stride + b"\x85" + tail

    number = struct.Struct("<i").pack
    good = with_pickle(tensor(number(2), number(1)), **{"data/0": bytes(8)})
    assert torch.equal(load(good), torch.zeros(2))
    for size, stride in ((3, 1), (2, 2), (1 << 30, 0), (-1, 1), (2, -1)):
        bad = with_pickle(tensor(number(size), number(stride)), **{"data/0": bytes(8)})
        with pytest.raises(SourceError):
            load(bad)
    with pytest.raises(SourceError, match="another size"):
        load(with_pickle(tensor(number(2), number(1)), **{"data/0": bytes(7)}))
    with pytest.raises(SourceError):
        load(with_pickle(tensor(number(2), number(1))))


def test_damaged_files_never_raise_anything_else(tmp_path: Path) -> None:
    whole, path = saved({"a": torch.randn(5), "b": [torch.randn(2, 2).half()]}), tmp_path / "x.zst"
    draw = random.Random(0)
    for _ in range(400):
        data = bytearray(whole)
        for _ in range(draw.randint(1, 4)):
            data[draw.randrange(len(data))] = draw.randrange(256)
        with contextlib.suppress(SourceError):
            load(bytes(data))
    for cut in range(0, len(whole), 97):
        with pytest.raises(SourceError):
            load(whole[:cut])
    coded = packed(whole)
    for cut in (0, 3, 10, len(coded) // 2, len(coded) - 1):
        path.write_bytes(coded[:cut])
        with pytest.raises(SourceError, match=r"x\.zst"):
            read_zst(path)
    with pytest.raises(SourceError, match="No such file"):
        read_zst(tmp_path / "none.zst")
