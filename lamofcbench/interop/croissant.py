"""Croissant metadata of an archive: the ML commons format that dataset searches read.

Sample tables are record sets, with their hashes; features are file sets, since the format has no
word for Zarr.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from lamofcbench.atomic import sha256_bytes
from lamofcbench.manifest import Manifest
from lamofcbench.store.tables import table_path, table_schema

__all__ = ["FILE", "croissant"]

FILE = "croissant.json"
DESCRIPTION = "Intermediate features of large models, for people who build feature codecs."
CONTEXT = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileObject": "cr:fileObject",
    "fileProperty": "cr:fileProperty",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "parentField": "cr:parentField",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "samplingRate": "cr:samplingRate",
    "isArray": "cr:isArray",
    "arrayShape": "cr:arrayShape",
    "key": "cr:key",
    "md5": "cr:md5",
    "path": "cr:path",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}
TYPES = {pa.string(): "sc:Text", pa.int64(): "sc:Integer", pa.float64(): "sc:Float"}


def _fields(manifest: Manifest, record: str, file: str) -> list[dict[str, Any]]:
    fields = []
    for column in table_schema(manifest.declaration):
        listed = pa.types.is_list(column.type)
        fields.append(
            {
                "@type": "cr:Field",
                "@id": f"{record}/{column.name}",
                "name": column.name,
                "dataType": TYPES[column.type.value_type if listed else column.type],
                **({"isArray": True, "arrayShape": "-1"} if listed else {}),
                "source": {"fileObject": {"@id": file}, "extract": {"column": column.name}},
            }
        )
    return fields


def _store(manifest: Manifest, prefix: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Files and record sets of one store."""
    name, folder = f"{manifest.config}-{manifest.profile}", f"{prefix}{manifest.config}"
    folder += f"/{manifest.profile}"
    files: list[dict[str, Any]] = [
        {
            "@type": "cr:FileSet",
            "@id": f"{name}-features",
            "name": f"{name}-features",
            "description": "A Zarr v3 group: an array a tensor, sample first, in shards.",
            "containedIn": {"@id": "archive"},
            "encodingFormat": "application/octet-stream",
            "includes": f"{folder}/features.zarr/**",
        }
    ]
    records = []
    for split in manifest.splits:
        path, file = table_path(split), f"{name}-{split}-table"
        files.append(
            {
                "@type": "cr:FileObject",
                "@id": file,
                "name": file,
                "containedIn": {"@id": "archive"},
                "contentUrl": f"{folder}/{path}",
                "contentSize": f"{manifest.files[path].bytes} B",
                "encodingFormat": "application/vnd.apache.parquet",
                "sha256": manifest.files[path].sha256,
            }
        )
        records.append(
            {
                "@type": "cr:RecordSet",
                "@id": f"{name}-{split}",
                "name": f"{name}-{split}",
                "description": f"{manifest.title}: a row a sample of split {split}.",
                "field": _fields(manifest, f"{name}-{split}", file),
            }
        )
    return files, records


def croissant(
    stores: Mapping[str, Sequence[Manifest]], url: str, version: str, prefix: str = ""
) -> dict[str, Any]:
    """Describe stores in Croissant 1.0.

    Args:
        stores: manifests by config.
        url: where the archive is, such as its repository on the Hub.
        version: of the package that wrote it.
        prefix: where the archive lies, seen from the description.

    Returns:
        JSON-LD.
    """
    manifests = [manifest for found in stores.values() for manifest in found]
    parts = [_store(manifest, prefix) for manifest in manifests]
    licences = {licence for m in manifests for licence in (m.model.licence, m.source.licence)}
    archive = {
        "@type": "cr:FileObject",
        "@id": "archive",
        "name": "archive",
        "description": "The archive's folder or repository.",
        "contentUrl": url,
        "encodingFormat": "git+https",
        # A folder has no hash of its own, and the format wants one: of the stores' hashes.
        "sha256": sha256_bytes("".join(sorted(m.content_hash for m in manifests)).encode()),
    }
    return {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "name": "lamofcbench",
        "description": DESCRIPTION,
        "citeAs": f"lamofcbench {version}, {url}",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "license": sorted(licences),
        "url": url,
        "version": version,
        "datePublished": max((m.capture.date for m in manifests), default=None),
        "distribution": [archive, *(file for files, _ in parts for file in files)],
        "recordSet": [record for _, records in parts for record in records],
    }
