"""Reading ``torch.save`` files without running anything that they ask for.

A file is a zip archive whose ``data.pkl`` names tensors and whose ``data/<n>`` hold their bits. The
pickle is not unpickled: its opcodes are listed, and the few that plain containers of tensors need
are followed here. Anything else is refused; nothing is imported or called by name.
"""

import io
import math
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
CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
PLAIN = ("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE")
TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
REBUILD = "torch._utils _rebuild_tensor_v2"
ORDERED = "collections OrderedDict"
SIZE = "torch Size"
STORAGES = {
    "torch BFloat16Storage": torch.bfloat16,
    "torch HalfStorage": torch.float16,
    "torch FloatStorage": torch.float32,
    "torch DoubleStorage": torch.float64,
    "torch ByteStorage": torch.uint8,
    "torch ShortStorage": torch.int16,
    "torch IntStorage": torch.int32,
    "torch LongStorage": torch.int64,
}
DTYPES = {str(dtype).replace(".", " "): dtype for dtype in STORAGES.values()}


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
            return _Machine(archive, root, shapes_only).run(archive.read(f"{root}/data.pkl"))
    except SourceError:
        raise
    except zipfile.BadZipFile as error:
        raise SourceError(f"not a whole torch.save file ({error})") from None
    except (
        *(EOFError, LookupError, TypeError, ValueError, ArithmeticError),
        *(AttributeError, RuntimeError, NotImplementedError),
    ) as error:
        said = " ".join(str(error).split())[:300]
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


@dataclass(frozen=True)
class _Name:
    """Something that a pickle may name."""

    name: str


@dataclass(frozen=True)
class _Storage:
    name: str
    dtype: torch.dtype
    elements: int


class _Machine:
    """Follows the opcodes of a pickle of tensors."""

    def __init__(self, archive: zipfile.ZipFile, root: str, shapes_only: bool) -> None:
        self._archive = archive
        self._root = root
        self._shapes_only = shapes_only
        self._bits: dict[str, torch.Tensor] = {}
        self._stack: list[Any] = []
        self._marks: list[int] = []

    def run(self, data: bytes) -> Any:
        """Return what the pickle describes."""
        stack, memo = self._stack, dict[Any, Any]()
        for opcode, argument, _ in pickletools.genops(data):
            match opcode.name:
                case "PROTO":
                    pass
                case "MARK":
                    self._marks.append(len(stack))
                case name if name in CONSTANTS:
                    stack.append(CONSTANTS[name])
                case name if name in PLAIN:
                    stack.append(argument)
                case "EMPTY_DICT":
                    stack.append({})
                case "EMPTY_LIST":
                    stack.append([])
                case "EMPTY_TUPLE":
                    stack.append(())
                case "TUPLE":
                    stack.append(tuple(self._since_mark()))
                case name if name in TUPLES:
                    stack.append(tuple(self._last(TUPLES[name])))
                case "BINPUT" | "LONG_BINPUT":
                    memo[argument] = stack[-1]
                case "BINGET" | "LONG_BINGET":
                    stack.append(memo[argument])
                case "APPEND":
                    self._extend(self._last(1))
                case "APPENDS":
                    self._extend(self._since_mark())
                case "SETITEM":
                    self._set(self._last(2))
                case "SETITEMS":
                    self._set(self._since_mark())
                case "GLOBAL":
                    stack.append(_named(str(argument)))
                case "REDUCE":
                    stack.append(self._made(*self._last(2)))
                case "BINPERSID":
                    stack.append(_storage(stack.pop()))
                case "STOP":
                    return stack.pop()
                case name:
                    raise SourceError(f"its pickle uses {name}: refused, and nothing was run")
        _malformed("nothing")

    def _last(self, count: int) -> list[Any]:
        if len(self._stack) < count:
            _malformed("less than it uses")
        last = self._stack[-count:]
        del self._stack[-count:]
        return last

    def _since_mark(self) -> list[Any]:
        start = self._marks.pop()
        since = self._stack[start:]
        del self._stack[start:]
        return since

    def _extend(self, values: list[Any]) -> None:
        if not isinstance(self._stack[-1], list):
            _malformed("a list")
        self._stack[-1].extend(values)

    def _set(self, values: list[Any]) -> None:
        # Only names and numbers as keys: hashing nested tuples can take for ever.
        plain = all(isinstance(key, (str, int, float)) for key in values[::2])
        if not isinstance(self._stack[-1], dict) or len(values) % 2 or not plain:
            _malformed("a dict")
        self._stack[-1].update(zip(values[::2], values[1::2], strict=True))

    def _made(self, what: Any, arguments: Any) -> Any:
        match what, arguments:
            case _Name(name=name), (tuple(sizes),) if name == SIZE and _counts(sizes):
                return torch.Size(sizes)
            case _Name(name=name), () if name == ORDERED:
                return OrderedDict[Any, Any]()
            case _Name(name=name), tuple() if name == REBUILD:
                return self._tensor(*arguments)
        _malformed("a call")

    def _tensor(self, *arguments: Any) -> torch.Tensor:
        match arguments:
            case (_Storage() as storage, int(offset), tuple(shape), tuple(strides), *_):
                pass
            case _:
                _malformed("a tensor")
        if len(shape) != len(strides) or not _counts((offset, *shape, *strides)):
            _malformed("a tensor")
        elements = math.prod(shape)
        last = offset + sum((n - 1) * s for n, s in zip(shape, strides, strict=True))
        # A tensor that repeats its elements would be larger than its file.
        if elements and (last >= storage.elements or elements > storage.elements):
            raise SourceError("a tensor reaches beyond its storage: refused")
        if self._shapes_only:
            self._entry(storage)
            return torch.empty(shape, dtype=storage.dtype, device="meta")
        return self._read(storage).as_strided(shape, strides, offset)

    def _entry(self, storage: _Storage) -> zipfile.ZipInfo:
        entry = self._archive.getinfo(f"{self._root}/data/{storage.name}")
        if entry.file_size != storage.elements * storage.dtype.itemsize:
            raise SourceError("a storage has another size than its tensors say")
        return entry

    def _read(self, storage: _Storage) -> torch.Tensor:
        if storage.name not in self._bits:
            entry = self._entry(storage)
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


def _named(name: str) -> Any:
    if name in DTYPES:
        return DTYPES[name]
    if name in (REBUILD, ORDERED, SIZE) or name in STORAGES:
        return _Name(name)
    raise SourceError(
        f"its pickle asks for {name.replace(' ', '.')[:200]}: refused, and nothing was run. "
        "Only tensors and plain containers are read"
    )


def _storage(described: Any) -> _Storage:
    match described:
        case ("storage", _Name(name=kind), str(name), str(), int(elements)) if kind in STORAGES:
            return _Storage(name, STORAGES[kind], elements)
    _malformed("a storage")


def _counts(numbers: tuple[Any, ...]) -> bool:
    return all(type(n) is int and 0 <= n < 1 << 62 for n in numbers)


def _malformed(what: str) -> NoReturn:
    raise SourceError(f"its pickle describes {what} as torch.save does not: refused")
