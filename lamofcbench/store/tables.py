"""Sample tables: one Parquet file a split, one row a sample, one row group a shard."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from lamofcbench.atomic import write_bytes
from lamofcbench.spec import ProfileSpec

__all__ = [
    "length_column",
    "load_table",
    "read_parquet",
    "reference_column",
    "table_path",
    "table_schema",
    "write_table",
]

_REFERENCE = {
    "int64": pa.int64(),
    "float64": pa.float64(),
    "string": pa.string(),
    "list<string>": pa.list_(pa.string()),
}


def table_path(split: str) -> str:
    """Path of a split's table, relative to the store."""
    return f"samples-{split}.parquet"


def length_column(axis: str) -> str:
    """Column of a ragged axis's lengths."""
    return f"length_{axis}"


def reference_column(name: str) -> str:
    """Column of a scalar or text reference."""
    return f"reference_{name}"


def table_schema(profile: ProfileSpec) -> pa.Schema:
    """Columns of a sample table."""
    return pa.schema(
        [
            pa.field("id", pa.string(), nullable=False),
            pa.field("index", pa.int64(), nullable=False),
            pa.field("status", pa.string(), nullable=False),
            pa.field("reason", pa.string()),
            *(pa.field(length_column(axis), pa.int64()) for axis in sorted(profile.ragged)),
            *(
                pa.field(reference_column(name), _REFERENCE[kind])
                for name, kind in profile.reference.items()
            ),
            pa.field("token_ids", pa.list_(pa.int64())),
            pa.field("input", pa.string()),
            pa.field("source_id", pa.string()),
            pa.field("source_sha256", pa.string()),
        ]
    )


def write_table(
    path: Path, profile: ProfileSpec, groups: Iterable[Sequence[dict[str, Any]]]
) -> None:
    """Write a split's table, each group of rows as a row group of its own.

    Whoever streams one sample reads the whole footer, so it holds no statistics, dictionaries or
    Arrow schema, which would double it. Pages have checksums, for a part that is read alone can't
    be checked by the file's hash.
    """
    schema = table_schema(profile)
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(
        sink,
        schema,
        compression="zstd",
        write_statistics=False,
        use_dictionary=False,
        store_schema=False,
        write_page_checksum=True,
    ) as writer:
        for rows in groups:
            writer.write_table(pa.Table.from_pylist(list(rows), schema))
    write_bytes(path, sink.getvalue().to_pybytes())


def read_parquet(file: Path | bytes, columns: Sequence[str] | None = None) -> pa.Table:
    """Read a Parquet file, or its bytes, in this thread.

    Arrow's own threads may still be there when a short program ends, and abort it.
    """
    source = pa.BufferReader(file) if isinstance(file, bytes) else file
    with pq.ParquetFile(source, pre_buffer=False) as opened:
        return opened.read(columns, use_threads=False)


def load_table(data: bytes) -> list[dict[str, Any]]:
    """Rows of a table from the bytes of its file."""
    rows: list[dict[str, Any]] = read_parquet(data).to_pylist()
    return rows
