"""Loading no more of a checkpoint than a half of a model needs.

A checkpoint is ``config.json`` and safetensors: one file, or numbered parts and the index that says
which tensor lies in which. Only the parts that hold a wanted tensor are fetched and opened, and of
those only the wanted tensors are read. Pickled weights and a repository's own code are never read.
"""

import hashlib
import json
import math
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from torch import nn

from lamofcbench.errors import ModelError
from lamofcbench.models.fetch import CheckpointFiles, first_line
from lamofcbench.models.quiet import quiet
from lamofcbench.optional import require
from lamofcbench.spec import ModelSpec

__all__ = ["Checkpoint", "Wanted", "everything", "from_block", "shortened", "up_to_block"]

Wanted = Callable[[str], bool]
"""Says of a tensor's name in the checkpoint whether to load it."""


def everything(_name: str) -> bool:
    """Want every tensor."""
    return True


def up_to_block(last: int, stem: str = "layers", without: Iterable[str] = ()) -> Wanted:
    """Want the blocks up to one, and what stands outside the blocks.

    Args:
        last: number of the last block wanted.
        stem: what precedes the number in a tensor's name, as in ``model.layers.0.mlp.weight``.
        without: regular expressions of names outside the blocks that are not wanted either, such as
            ``lm_head`` or ``norm``; each must match from a dot (or the start) to a dot (or the
            end).
    """
    return _blocks(lambda number: number <= last, stem, without)


def from_block(first: int, stem: str = "layers", without: Iterable[str] = ()) -> Wanted:
    """Want the blocks from one on, and what stands outside the blocks; see `up_to_block`."""
    return _blocks(lambda number: number >= first, stem, without)


def _blocks(kept: Callable[[int], bool], stem: str, without: Iterable[str]) -> Wanted:
    block = re.compile(rf"(?:^|\.){re.escape(stem)}\.(\d+)\.")
    refused = [re.compile(rf"(?:^|\.){pattern}(?:\.|$)") for pattern in without]

    def wanted(name: str) -> bool:
        if (match := block.search(name)) is not None:
            return kept(int(match[1]))
        return not any(pattern.search(name) for pattern in refused)

    return wanted


def shortened(config: Mapping[str, Any], blocks: int) -> dict[str, Any]:
    """Copy a model's configuration with fewer blocks.

    Args:
        config: with ``num_hidden_layers`` and, in some models, ``layer_types``.
        blocks: how many to keep.
    """
    changed = {**config, "num_hidden_layers": blocks}
    if isinstance(config.get("layer_types"), list):
        changed["layer_types"] = config["layer_types"][:blocks]
    return changed


class Checkpoint:
    """One model's configuration and tensors, read on demand.

    Attributes:
        name: the model's id, for messages.
        config: what ``config.json`` says.
    """

    def __init__(
        self,
        model: ModelSpec | CheckpointFiles,
        *,
        subfolder: str = "",
        stem: str = "model",
        config: str = "config.json",
    ) -> None:
        """Read a configuration; no weights, nor where they are.

        Args:
            model: the declaration, or the files that it names.
            subfolder: where in the model's folder this checkpoint lies, such as ``vae``.
            stem: what the weight files' names begin with; diffusers has
                ``diffusion_pytorch_model``.
            config: name of the configuration's file.

        Raises:
            ModelError: the configuration is missing or unreadable, or the Hub does not give it.
            MissingDependencyError: safetensors is not installed.
        """
        require("safetensors", "models")
        self._files = model if isinstance(model, CheckpointFiles) else CheckpointFiles(model)
        self.name = self._files.name
        self._below = f"{subfolder}/" if subfolder else ""
        self._stem = stem
        self._config_file = f"{self._below}{config}"
        self.config = self._json(self._config_file)
        self._index: dict[str, Any] | None = None
        self._places: dict[str, str] | None = None
        self._loaded: dict[str, int] = {}

    @property
    def parameters_loaded(self) -> int:
        """Elements of all tensors read so far, each counted once."""
        return sum(self._loaded.values())

    def require_type(self, *types: str) -> None:
        """Refuse a checkpoint of any other ``model_type``.

        Raises:
            ModelError: it is of another.
        """
        if (found := self.config.get("model_type")) not in types:
            raise ModelError(
                f"{self.name}: {self._config_file} is of model type {found!r}; "
                f"needs {' or '.join(map(repr, types))}"
            )

    def places(self) -> Mapping[str, str]:
        """Find which file holds each tensor, from the index or the one file's header.

        Returns:
            File names, below the model's folder, by tensor name.

        Raises:
            ModelError: there are no such files, or they are damaged.
        """
        if self._places is None:
            single = f"{self._below}{self._stem}.safetensors"
            if self._files.find(single) is not None:
                self._places = dict.fromkeys(self._shapes(single), single)
            else:
                self._places = self._indexed()
        return self._places

    def files(self, wanted: Wanted = everything) -> list[str]:
        """Names of the weight files that hold a wanted tensor, sorted.

        Raises:
            ModelError: see `places`.
        """
        return sorted({file for name, file in self.places().items() if wanted(name)})

    @property
    def files_beside(self) -> CheckpointFiles:
        """The files of the model that this checkpoint is of, weights or not."""
        return self._files

    def revision(self, wanted: Wanted = everything, beside: Iterable[str] = ()) -> str:
        """Say what pins the wanted tensors, without loading them.

        Args:
            wanted: which tensors matter.
            beside: names of other files that matter, where they are there: a tokenizer's.

        Returns:
            The Hub's commit; for a folder, the hex sha256 over the names and hashes of the
            configuration, the index and the files that hold them. For a pinned Hub revision this
            reads nothing.

        Raises:
            ModelError: a file is missing.
        """
        if not self._files.local:
            return self._files.commit or ""
        names = [self._config_file, *self.files(wanted)]
        names += [name for name in beside if self._files.find(name) is not None]
        if self._index is not None:
            names.append(self._index_file)
        digest = hashlib.sha256()
        for name in sorted(names):
            with self._files.path(name).open("rb") as file:
                line = f"{name} {hashlib.file_digest(file, 'sha256').hexdigest()}\n"
            digest.update(line.encode())
        return digest.hexdigest()

    @property
    def parameters_total(self) -> int:
        """Elements of all tensors of the checkpoint, from headers and the index alone.

        The index's own count, where it has one; else the sum over the headers, which on the Hub
        are read by ranged requests.

        Raises:
            ModelError: a file is missing or damaged.
        """
        files = self.files()
        stated = (self._index or {}).get("metadata") or {}
        count = stated.get("total_parameters") if isinstance(stated, dict) else None
        if isinstance(count, int):
            return count
        return sum(math.prod(shape) for file in files for shape in self._shapes(file).values())

    def read(self, wanted: Wanted = everything) -> dict[str, torch.Tensor]:
        """Read the wanted tensors and no others.

        Returns:
            Tensors by their names in the checkpoint, in its own dtypes, on the CPU.

        Raises:
            ModelError: a file is missing or damaged, or no tensor is wanted.
        """
        names: dict[str, list[str]] = {}
        for name, file in self.places().items():
            if wanted(name):
                names.setdefault(file, []).append(name)
        if not names:
            raise ModelError(f"{self.name}: has none of the tensors that are needed")
        tensors = {}
        for file in sorted(names):
            tensors.update(self._tensors(file, sorted(names[file])))
        return tensors

    def read_beside(self, file: str) -> dict[str, torch.Tensor]:
        """Read all of a safetensors file that lies beside the checkpoint, such as a head's.

        Returns:
            Tensors by name; none if there is no such file.

        Raises:
            ModelError: it is damaged.
        """
        if self._files.find(file) is None:
            return {}
        return self._tensors(file, list(self._shapes(file)))

    def shapes_beside(self, file: str) -> dict[str, list[int]]:
        """Shapes of what `read_beside` reads.

        Raises:
            ModelError: it is damaged.
        """
        return {} if self._files.find(file) is None else self._shapes(file)

    def build(
        self,
        model: Any,
        wanted: Wanted = everything,
        *,
        dtype: torch.dtype,
        config: Mapping[str, Any] | None = None,
        unused: Wanted = lambda _: False,
        **options: Any,
    ) -> Any:
        """Build a transformers model from the wanted tensors.

        Its library builds it on the meta device, computes its buffers, renames what older
        versions named otherwise, ties what is tied, and assigns the tensors.

        Args:
            model: a class of transformers, such as ``Qwen3Model``.
            wanted: which tensors of the checkpoint to read.
            dtype: of the weights.
            config: in place of the checkpoint's own; see `shortened`.
            unused: says of a parameter's name in the model whether it may be missing. Such
                parameters are filled with NaN, so that no use of them goes unnoticed.
            options: more arguments for its ``from_pretrained``.

        Returns:
            The model on the CPU, in evaluation mode, without gradients.

        Raises:
            ModelError: a parameter is missing, or a wanted tensor is unexpected or of another
                shape; or see `read`.
        """
        described = dict(self.config if config is None else config)
        described.pop("auto_map", None)
        tensors = self.read(wanted)
        # Several libraries check a configuration, each with errors of its own.
        faults = (OSError, ValueError, TypeError, KeyError, AttributeError, RuntimeError)
        try:
            with quiet():
                built, report = model.from_pretrained(
                    None,
                    config=model.config_class.from_dict(described),
                    state_dict=tensors,
                    dtype=dtype,
                    output_loading_info=True,
                    **options,
                )
        except (*faults, StrictDataclassError) as error:
            raise ModelError(f"{self.name}: cannot be loaded: {first_line(error)}") from error
        missing = {str(key) for key in report["missing_keys"]}
        spared = {key for key in missing if unused(key)}
        # transformers fills what is missing with random values and carries on.
        self._refuse("missing", missing - spared)
        self._refuse("unexpected", (str(key) for key in report["unexpected_keys"]))
        self._refuse("mismatched", (str(key) for key in report["mismatched_keys"]))
        parameters = dict(built.named_parameters())
        with torch.no_grad():
            for key in spared:
                parameters[key].fill_(torch.nan)
        return built.eval().requires_grad_(False)

    def assign(self, module: nn.Module, tensors: Mapping[str, torch.Tensor]) -> None:
        """Put tensors into a module that is not of transformers, which may lie on the meta device.

        Args:
            module: whose parameters and persistent buffers must be exactly ``tensors``. Buffers
                that no checkpoint holds must be in place already.
            tensors: by their names in the module.

        Raises:
            ModelError: one is missing, unexpected or of another shape.
        """
        state = module.state_dict()
        self._refuse("missing", state.keys() - tensors.keys())
        self._refuse("unexpected", tensors.keys() - state.keys())
        self._refuse(
            "mismatched", (name for name in state if state[name].shape != tensors[name].shape)
        )
        module.load_state_dict(dict(tensors), assign=True)
        module.eval().requires_grad_(False)
        empty = sorted(name for name, buffer in module.named_buffers() if buffer.is_meta)
        if empty:
            raise ModelError(f"{self.name}: buffer {empty[0]} was left without values")

    def _refuse(self, what: str, names: Iterable[str]) -> None:
        if found := sorted(names):
            raise ModelError(
                f"{self.name}: does not fit its {self._config_file}: "
                f"{len(found)} {what} tensors, such as {found[0]}"
            )

    @property
    def _index_file(self) -> str:
        return f"{self._below}{self._stem}.safetensors.index.json"

    def _indexed(self) -> dict[str, str]:
        if self._files.find(self._index_file) is None:
            raise ModelError(
                f"{self.name}: has no {self._below}{self._stem}.safetensors, nor its parts and "
                "index; pickled weights are not read"
            )
        self._index = self._json(self._index_file)
        parts = self._index.get("weight_map")
        if not isinstance(parts, dict) or not all(
            # A name with a folder in it could lead anywhere.
            isinstance(part, str) and re.fullmatch(r"[\w.-]+\.safetensors", part)
            for part in parts.values()
        ):
            raise ModelError(f"{self.name}: {self._index_file} names no safetensors files")
        return {name: f"{self._below}{part}" for name, part in parts.items()}

    def _tensors(self, file: str, names: Iterable[str]) -> dict[str, torch.Tensor]:
        safetensors = require("safetensors", "models")
        path = self._files.path(file)
        try:
            with safetensors.safe_open(path, framework="pt") as opened:
                # Copies: what safetensors returns lies in the mapped file at any offset, and
                # products may round differently on memory that is not aligned.
                tensors = {name: opened.get_tensor(name).clone() for name in names}
        except (OSError, safetensors.SafetensorError) as error:
            raise self._damaged(file, error) from error
        self._loaded.update({f"{file}:{name}": t.numel() for name, t in tensors.items()})
        return tensors

    def _shapes(self, file: str) -> dict[str, list[int]]:
        if not self._files.local and self._index is not None and file in self.files():
            return self._files.header(file)
        safetensors = require("safetensors", "models")
        path = self._files.path(file)
        try:
            with safetensors.safe_open(path, framework="pt") as opened:
                # Not a dict: it has no iterator of its own.
                return {name: opened.get_slice(name).get_shape() for name in list(opened.keys())}
        except (OSError, safetensors.SafetensorError) as error:
            raise self._damaged(file, error) from error

    def _damaged(self, file: str, error: Exception) -> ModelError:
        return ModelError(
            f"{self.name}: {file} is damaged or cut short, fetch it again: {first_line(error)}"
        )

    def _json(self, file: str) -> dict[str, Any]:
        path: Path = self._files.path(file)
        try:
            found = json.loads(path.read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise ModelError(f"{self.name}: {file} cannot be read: {first_line(error)}") from error
        if not isinstance(found, dict):
            raise ModelError(f"{self.name}: {file} holds no object")
        return found
