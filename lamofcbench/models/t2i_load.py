"""Loads the parts of the ``t2i`` family from diffusers' layout."""

import hashlib
import json
import re
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import huggingface_hub
from huggingface_hub.errors import StrictDataclassError

from lamofcbench.errors import ModelError
from lamofcbench.models import bundled_path
from lamofcbench.models.quiet import quiet
from lamofcbench.optional import require
from lamofcbench.spec import ModelSpec

__all__ = ["PARTS", "load_pipeline", "pipeline_revision"]

PARTS = {
    "text_encoder": ("transformers", "CLIPTextModelWithProjection"),
    "text_encoder_2": ("transformers", "CLIPTextModelWithProjection"),
    "text_encoder_3": ("transformers", "T5EncoderModel"),
    "transformer": ("diffusers", "SD3Transformer2DModel"),
    "vae": ("diffusers", "AutoencoderKL"),
    "controlnet": ("diffusers", "SD3ControlNetModel"),
}
"""Networks, by their folders."""
TOKENIZERS = {
    "tokenizer": "CLIPTokenizer",
    "tokenizer_2": "CLIPTokenizer",
    "tokenizer_3": "T5TokenizerFast",
}
SCHEDULER = "FlowMatchEulerDiscreteScheduler"


def load_pipeline(
    model: ModelSpec,
    controlnet: str,
    controlnet_revision: str,
    device: str,
    parts: Collection[str] = tuple(PARTS),
) -> tuple[Any, str]:
    """Load a ``StableDiffusion3ControlNetPipeline``.

    Args:
        model: names the checkpoint: ``bundled:<name>``, a folder or a Hub id; and the dtype.
        controlnet: folder or Hub id of the ControlNet; empty if it is within the checkpoint.
        controlnet_revision: the Hub commit of the ControlNet; empty for the newest.
        device: where to put it.
        parts: which networks to load; the pipeline has None in place of the others and of what
            only they need.

    Returns:
        The pipeline and what pins its weights: Hub commits, or a sha256 of the files loaded; empty
        unless all were.

    Raises:
        ModelError: a part is missing, unreadable or of another architecture.
        MissingDependencyError: diffusers or transformers is not installed.
    """
    torch = require("torch", "models")
    with quiet("diffusers"):
        diffusers = require("diffusers", "models")
        folder, control, revision = _located(model, controlnet, controlnet_revision)
        dtype = getattr(torch, model.dtype)
        loaded: dict[str, Any] = dict.fromkeys([*PARTS, *TOKENIZERS])
        for name in parts:
            external = name == "controlnet" and controlnet
            where = controlnet if external else f"{model.id}: {name}"
            place = control if name == "controlnet" else folder / name
            loaded[name] = _load_part(place, where, *PARTS[name], dtype)
        for name, kind in TOKENIZERS.items():
            if name.replace("tokenizer", "text_encoder") in parts:
                where = f"{model.id}: {name}"
                loaded[name] = _load_plain(folder / name, where, "transformers", kind)
        loaded["scheduler"] = _load_plain(
            folder / "scheduler", f"{model.id}: scheduler", "diffusers", SCHEDULER
        )
        try:
            pipeline = diffusers.StableDiffusion3ControlNetPipeline(**loaded)
            pipeline.to(device)
        except (ValueError, TypeError, RuntimeError) as error:
            raise ModelError(f"{model.id}: its parts do not fit: {_line(error)}") from error
        pipeline.set_progress_bar_config(disable=True)
    # After loading, so that an unreadable file is reported as such.
    return pipeline, revision() if set(parts) == set(PARTS) else ""


def pipeline_revision(model: ModelSpec, controlnet: str, controlnet_revision: str) -> str:
    """Say what pins the weights that `load_pipeline` would load, without loading them.

    Raises:
        ModelError: a part is missing.
    """
    return _located(model, controlnet, controlnet_revision)[2]()


def _located(
    model: ModelSpec, controlnet: str, controlnet_revision: str
) -> tuple[Path, Path, Callable[[], str]]:
    """Find the folders of the pipeline and its ControlNet, and a way to say what pins them."""
    own = [name for name in PARTS if not (name == "controlnet" and controlnet)]
    patterns = [f"{part}/{end}" for part in own for end in ("*.json", "*.safetensors")]
    patterns += ["scheduler/*.json", *(f"{part}/*" for part in TOKENIZERS)]
    folder, commit = _resolve(model.id, model.revision, model.gated, patterns)
    control, control_commit = folder / "controlnet", None
    if controlnet:
        patterns = ["config.json", "*.safetensors", "*.safetensors.index.json"]
        control, control_commit = _resolve(
            controlnet, controlnet_revision or None, model.gated, patterns
        )

    def revision() -> str:
        order = [name for name in PARTS if name != "controlnet"]
        folders = [folder / name for name in (*order, *TOKENIZERS, "scheduler")]
        try:
            pins = [commit or _digest(folders if controlnet else [*folders, control])]
            if controlnet:
                pins.append(control_commit or _digest([control]))
        except OSError as error:
            raise ModelError(f"{model.id}: a part is missing: {_line(error)}") from error
        return "+".join(pins)

    return folder, control, revision


def _resolve(
    name: str, revision: str | None, gated: bool, patterns: list[str]
) -> tuple[Path, str | None]:
    """Find a checkpoint's folder, and its commit if it is from the Hub."""
    if name.startswith("bundled:"):
        folder = bundled_path(name.removeprefix("bundled:"))
    else:
        folder = Path(name).expanduser()
    if folder.is_dir():
        return folder, None
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        raise ModelError(f"{name}: no such folder, and not a Hub id such as org/name")
    try:
        snapshot = huggingface_hub.snapshot_download(
            name,
            revision=revision,
            allow_patterns=patterns,
            # The same weights rounded otherwise, which some repositories hold beside them.
            ignore_patterns=["*.fp16*", "*.bf16*"],
        )
    except (OSError, ValueError) as error:
        hint = "; accept its licence on the Hub and log in" if gated else ""
        raise ModelError(f"{name}: not to be had from the Hub: {_line(error)}{hint}") from error
    # The cache names a snapshot's folder after its commit.
    return Path(snapshot), revision or Path(snapshot).name


def _faults() -> tuple[type[Exception], ...]:
    """What the libraries raise on checkpoints that are broken, each in ways of its own."""
    safetensors = require("safetensors", "models")
    builtin = (OSError, ValueError, TypeError, KeyError, RuntimeError, AttributeError)
    return (*builtin, safetensors.SafetensorError, StrictDataclassError)


def _load_part(folder: Path, where: str, library: str, kind: str, dtype: Any) -> Any:
    """Load one network, and refuse it unless its weights are all there and all used."""
    _check_class(folder, where, library, kind)
    cls = getattr(require(library, "models"), kind)
    options = {"dtype": dtype} if library == "transformers" else {"torch_dtype": dtype}
    try:
        part, report = cls.from_pretrained(
            folder,
            use_safetensors=True,
            local_files_only=True,
            output_loading_info=True,
            **options,
        )
    except _faults() as error:
        raise ModelError(f"{where}: cannot be loaded: {_line(error)}") from error
    # Both libraries fill what is missing with random values and carry on.
    for fault in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if report.get(fault):
            what = f"{fault.replace('_', ' ')}, such as {min(str(key) for key in report[fault])}"
            raise ModelError(f"{where}: does not fit its config.json: {what}")
    return part


def _check_class(folder: Path, where: str, library: str, kind: str) -> None:
    """Compare a part's config.json with the class that it is to be loaded as."""
    try:
        config = json.loads((folder / "config.json").read_text("utf-8"))
        names = config["architectures"] if library == "transformers" else [config["_class_name"]]
    except KeyError:
        names = []
    except (OSError, ValueError, TypeError) as error:
        raise ModelError(f"{where}: config.json cannot be read: {_line(error)}") from error
    if kind not in (names or []):
        raise ModelError(f"{where}: config.json is of {names}; needs {kind}")


def _load_plain(folder: Path, where: str, library: str, kind: str) -> Any:
    """Load a part that has no weights."""
    if not folder.is_dir():
        raise ModelError(f"{where}: no such folder: {folder}")
    cls = getattr(require(library, "models"), kind)
    try:
        return cls.from_pretrained(folder, local_files_only=True)
    # The tokenizers' library raises plain exceptions.
    except Exception as error:
        raise ModelError(f"{where}: cannot be loaded: {_line(error)}") from error


def _digest(folders: list[Path]) -> str:
    """Hex sha256 over the names and hashes of the files that loading may read."""
    digest = hashlib.sha256()
    for folder in folders:
        for path in sorted(folder.iterdir()):
            if path.suffix not in (".json", ".safetensors", ".txt", ".model"):
                continue
            with path.open("rb") as file:
                hashed = hashlib.file_digest(file, "sha256").hexdigest()
            digest.update(f"{path.name} {hashed}\n".encode())
    return digest.hexdigest()


def _line(error: Exception) -> str:
    """Return the first line of an error's message, or its type if it has none."""
    return next(iter(str(error).strip().splitlines()), "") or type(error).__name__
