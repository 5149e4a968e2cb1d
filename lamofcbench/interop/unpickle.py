"""Reading ``torch.save`` files without running anything that they ask for.

A file is a zip archive whose ``data.pkl`` names tensors and whose ``data/<n>`` hold their bits. The
pickle's opcodes are listed before it is read, and every name in it stands for something made here:
tensors, plain containers, sizes and dtypes. Anything else is refused; nothing is imported.
"""

import io
import math
import pickle
import pickletools
import zipfile
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, BinaryIO, NoReturn

import numpy as np
import torch

from lamofcbench.errors import SourceError

__all__ = ["load_tensors"]

MOST_PICKLE_BYTES = 1 << 24
MOST_ENTRIES = 1 << 16
PIECE = 1 << 20
OPCODES = frozenset(
    {
        *(
            "PROTO",
            "STOP",
            "MARK",
            "NONE",
            "NEWTRUE",
            "NEWFALSE",
            "BININT",
            "BININT1",
            "BININT2",
            "LONG1",
        ),
        *(
            "BINFLOAT",
            "BINUNICODE",
            "EMPTY_DICT",
            "EMPTY_LIST",
            "EMPTY_TUPLE",
            "TUPLE",
            "TUPLE1",
            "TUPLE2",
        ),
        *(
            "TUPLE3",
            "APPEND",
            "APPENDS",
            "SETITEM",
            "SETITEMS",
            "BINPUT",
            "LONG_BINPUT",
            "BINGET",
            "LONG_BINGET",
        ),
        *("GLOBAL", "REDUCE", "BINPERSID"),
    }
)
STORAGES = {
    "BFloat16Storage": torch.bfloat16,
    "HalfStorage": torch.float16,
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "ByteStorage": torch.uint8,
    "ShortStorage": torch.int16,
    "IntStorage": torch.int32,
    "LongStorage": torch.int64,
}
DTYPES = {str(dtype).removeprefix("torch."): dtype for dtype in STORAGES.values()}
DTYPES |= {"half": torch.float16, "float": torch.float32, "double": torch.float64}


def load_tensors(file: BinaryIO, *, shapes_only: bool = False) -> Any:
    """Read a ``torch.save`` file (zip): tensors in plain containers.

    Args:
        file: seekable; must stay open only during the call.
        shapes_only: make tensors on the device ``meta``, with shapes and dtypes but no bits.

    Returns:
        What was saved. Tensors may be views, as they were when they were saved.

    Raises:
        SourceError: the file is damaged, or asks for anything but tensors, dict, OrderedDict, list,
            tuple, str, int, float, bool, None, torch.Size and dtypes. Nothing of it was run.
    """
    end = file.seek(0, io.SEEK_END)
    try:
        with zipfile.ZipFile(file) as archive:
            root = _checked_root(archive, end)
            data = archive.read(f"{root}/data.pkl")
            _check_opcodes(data)
            return _Unpickler(data, archive, root, shapes_only).load()
    except zipfile.BadZipFile as error:
        raise SourceError(f"not a whole torch.save file ({error})") from None
    except (
        *(pickle.UnpicklingError, EOFError, KeyError, IndexError, TypeError, ValueError),
        *(AttributeError, OverflowError, RuntimeError, NotImplementedError, RecursionError),
    ) as error:
        if isinstance(error, SourceError):
            raise
        said = " ".join(str(error).split())
        raise SourceError(f"not a torch.save file of tensors ({said})") from None


def _checked_root(archive: zipfile.ZipFile, end: int) -> str:
    """The folder that all entries lie in; refuses what could grow beyond the file's own size."""
    entries = archive.infolist()
    if len(entries) > MOST_ENTRIES or sum(entry.file_size for entry in entries) > end:
        raise SourceError("its zip archive claims more than the file holds")
    if any(entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1 for entry in entries):
        raise SourceError("its zip archive is compressed or encrypted: torch.save does neither")
    pickles = [entry for entry in entries if entry.filename.count("/") == 1]
    pickles = [entry for entry in pickles if entry.filename.endswith("/data.pkl")]
    if len(pickles) != 1 or pickles[0].file_size > MOST_PICKLE_BYTES:
        raise SourceError("its zip archive holds no data.pkl of a sane size")
    root = pickles[0].filename.removesuffix("/data.pkl")
    if f"{root}/byteorder" in archive.namelist() and archive.read(f"{root}/byteorder") != b"little":
        raise SourceError("it was saved on a big-endian machine")
    return root


def _check_opcodes(data: bytes) -> None:
    """Refuse opcodes that plain containers of tensors never need, and memo slots out of turn."""
    for count, (opcode, argument, _) in enumerate(pickletools.genops(data)):
        if opcode.name not in OPCODES:
            raise SourceError(f"its pickle uses {opcode.name}: refused, and nothing was run")
        # The unpickler makes room for a memo slot of any number.
        if opcode.name in ("BINPUT", "LONG_BINPUT") and int(argument or 0) > count:
            raise SourceError("its pickle has memo slots out of turn: refused")


@dataclass(frozen=True)
class _StorageType:
    dtype: torch.dtype


@dataclass(frozen=True)
class _Storage:
    name: str
    dtype: torch.dtype
    elements: int


class _Unpickler(pickle.Unpickler):
    def __init__(self, data: bytes, archive: zipfile.ZipFile, root: str, shapes_only: bool) -> None:
        super().__init__(io.BytesIO(data))
        self._archive = archive
        self._root = root
        self._shapes_only = shapes_only
        self._bits: dict[str, torch.Tensor] = {}

    def find_class(self, module: str, name: str) -> Any:
        if module == "torch._utils" and name == "_rebuild_tensor_v2":
            return self._tensor
        if module == "collections" and name == "OrderedDict":
            return _ordered
        if module == "torch" and name == "Size":
            return _size
        if module == "torch" and name in STORAGES:
            return _StorageType(STORAGES[name])
        if module == "torch" and name in DTYPES:
            return DTYPES[name]
        raise SourceError(
            f"its pickle asks for {module}.{name}: refused, and nothing was run. "
            "Only tensors and plain containers are read"
        )

    def persistent_load(self, pid: Any) -> _Storage:
        match pid:
            case ("storage", _StorageType(dtype=dtype), str(name), str(), int(elements)):
                return _Storage(name, dtype, elements)
        _malformed("a storage")

    def _tensor(self, *arguments: Any) -> torch.Tensor:
        match arguments:
            case (_Storage() as storage, int(offset), tuple(shape), tuple(strides), *_):
                pass
            case _:
                _malformed("a tensor")
        numbers = (offset, *shape, *strides)
        if len(shape) != len(strides) or not all(type(n) is int and n >= 0 for n in numbers):
            _malformed("a tensor")
        elements = math.prod(shape)
        last = offset + sum((n - 1) * s for n, s in zip(shape, strides, strict=True))
        if elements and (last >= storage.elements or elements > storage.elements):
            raise SourceError("a tensor reaches beyond its storage: refused")
        if self._shapes_only:
            self._check(storage)
            return torch.empty(shape, dtype=storage.dtype, device="meta")
        return self._read(storage).as_strided(shape, strides, offset)

    def _check(self, storage: _Storage) -> zipfile.ZipInfo:
        entry = self._archive.getinfo(f"{self._root}/data/{storage.name}")
        if entry.file_size != storage.elements * storage.dtype.itemsize:
            raise SourceError("a storage has another size than its tensors say")
        return entry

    def _read(self, storage: _Storage) -> torch.Tensor:
        if storage.name not in self._bits:
            entry = self._check(storage)
            bits = torch.empty(entry.file_size, dtype=torch.uint8)
            room, at = bits.numpy(), 0
            with self._archive.open(entry) as file:
                while piece := file.read(PIECE):
                    room[at : at + len(piece)] = np.frombuffer(piece, np.uint8)
                    at += len(piece)
            if at != entry.file_size:
                raise SourceError("a storage is cut short")
            self._bits[storage.name] = bits
        return self._bits[storage.name].view(storage.dtype)


def _ordered(*pairs: Any) -> OrderedDict[Any, Any]:
    return OrderedDict(*pairs)


def _size(*sizes: Any) -> torch.Size:
    return torch.Size(*sizes)


def _malformed(what: str) -> NoReturn:
    raise SourceError(f"its pickle describes {what} as torch.save does not: refused")
