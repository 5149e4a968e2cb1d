"""A checkpoint's files, one at a time, from a folder, the wheel or the Hub."""

import re
from pathlib import Path
from typing import Any

import huggingface_hub
from huggingface_hub import constants, errors

from lamofcbench.errors import ModelError
from lamofcbench.models import bundled_path
from lamofcbench.spec import ModelSpec

__all__ = ["CheckpointFiles", "first_line"]

_SECRETS = re.compile(r"hf_\w+|(?<=Bearer )\S+")


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or its type if it has none; never a token."""
    text = next(iter(str(error).strip().splitlines()), "") or type(error).__name__
    token = huggingface_hub.get_token()
    return _SECRETS.sub("***", text.replace(token, "***") if token else text)


class CheckpointFiles:
    """The files of one model: ``bundled:<name>``, a folder, or a repository on the Hub.

    A file on the Hub is fetched, into the Hub's own cache, when its path is first asked for.

    Attributes:
        name: the model's id, for messages.
        commit: the Hub's commit, the same for every file; None for a folder, and for a repository
            without a pinned revision until its first file is there.
    """

    def __init__(self, model: ModelSpec) -> None:
        """Find where the files are, without reading any.

        Args:
            model: the declaration.

        Raises:
            ModelError: the id is neither a folder nor of the form ``org/name``.
        """
        self.name = model.id
        self.commit: str | None = None
        self._folder: Path | None = None
        self._gated = model.gated
        self._fetched: dict[str, Path | None] = {}
        if model.id.startswith("bundled:"):
            folder = bundled_path(model.id.removeprefix("bundled:"))
            if not folder.is_dir():
                raise ModelError(f"{model.id}: this installation has no such miniature")
        else:
            folder = Path(model.id).expanduser()
        if folder.is_dir():
            self._folder = folder
        elif re.fullmatch(r"[\w.-]+/[\w.-]+", model.id):
            self.commit = model.revision
        else:
            raise ModelError(f"{model.id}: no such folder, and not a Hub id such as org/name")

    @property
    def local(self) -> bool:
        """Whether the files lie in a folder rather than on the Hub."""
        return self._folder is not None

    def path(self, file: str) -> Path:
        """Return the path of a file that must be there.

        Raises:
            ModelError: there is no such file, or it is not to be had.
        """
        path = self.find(file)
        if path is None:
            raise ModelError(f"{self.name}: has no {file}")
        return path

    def find(self, file: str) -> Path | None:
        """Return the path of a file, or None if the model has no such file.

        Raises:
            ModelError: the Hub does not answer, or does not give the file.
        """
        if self._folder is not None:
            path = self._folder / file
            return path if path.is_file() else None
        if file not in self._fetched:
            self._fetched[file] = self._fetch(file)
        return self._fetched[file]

    def _fetch(self, file: str) -> Path | None:
        try:
            path = Path(huggingface_hub.hf_hub_download(self.name, file, revision=self.commit))
        except Exception as error:
            if isinstance(error, errors.EntryNotFoundError) and not isinstance(
                error, errors.LocalEntryNotFoundError
            ):
                return None
            raise self._explained(error) from None
        # The cache keeps a snapshot in a folder of its commit's name.
        depth = len(Path(file).parts)
        self.commit = self.commit or path.parts[-depth - 1]
        return path

    def header(self, file: str) -> dict[str, Any]:
        """Read the header of a safetensors file on the Hub, by ranged requests.

        Returns:
            The shape of every tensor, by name.

        Raises:
            ModelError: it is not to be had.
        """
        try:
            found = huggingface_hub.HfApi().parse_safetensors_file_metadata(
                self.name, file, revision=self.commit
            )
        except Exception as error:
            raise self._explained(error) from None
        return {name: tensor.shape for name, tensor in found.tensors.items()}

    def _explained(self, error: Exception) -> ModelError:
        """Turn whatever the Hub's client raises into one line that says what to do.

        Built without the message of the error where its kind is known: those messages have
        several lines, and hold request ids.
        """
        page = f"{constants.ENDPOINT}/{self.name}"
        log_in = "log in with `hf auth login` or set HF_TOKEN"
        anonymous = huggingface_hub.get_token() is None
        if isinstance(error, errors.GatedRepoError) or (
            self._gated and anonymous and isinstance(error, errors.RepositoryNotFoundError)
        ):
            return ModelError(
                f"{self.name}: gated: accept the licence at {page} and {log_in}"
                if anonymous
                else f"{self.name}: gated, and this account may not read it: accept the licence at "
                f"{page}, or {log_in} as an account that has"
            )
        if isinstance(error, errors.RevisionNotFoundError):
            return ModelError(f"{self.name}: has no revision {self.commit}; see {page}/commits")
        if isinstance(error, errors.RepositoryNotFoundError):
            hint = f"; if it is private, {log_in}" if anonymous else ""
            return ModelError(f"{self.name}: no such repository at {page}{hint}")
        if isinstance(error, (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled)):
            return ModelError(
                f"{self.name}: not in the Hub's local cache, and the Hub cannot be reached: "
                "connect, or name a local folder as the model"
            )
        return ModelError(f"{self.name}: not to be had from the Hub: {first_line(error)}")
