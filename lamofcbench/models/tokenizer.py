"""Tokenizers and stop tokens of a checkpoint, from the files beside its weights."""

import json
from typing import Any

from lamofcbench.errors import ModelError
from lamofcbench.models.fetch import CheckpointFiles, first_line
from lamofcbench.models.quiet import quiet
from lamofcbench.optional import require

__all__ = ["TOKENIZER_FILES", "load_tokenizer", "stop_tokens"]

GENERATION_FILE = "generation_config.json"
TOKENIZER_FILES = (
    "tokenizer_config.json",
    "tokenizer.json",
    "chat_template.jinja",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    GENERATION_FILE,
)
"""What besides the weights decides which tokens a prompt becomes and where an answer ends."""


def load_tokenizer(files: CheckpointFiles) -> Any:
    """Load a checkpoint's tokenizer, without running any code of the checkpoint.

    Raises:
        ModelError: it has none, or its files are damaged.
    """
    transformers = require("transformers", "models")
    folder = files.path("config.json").parent
    found = [name for name in TOKENIZER_FILES if files.find(name) is not None]
    if not {"tokenizer.json", "vocab.json", "tokenizer_config.json"} & set(found):
        raise ModelError(f"{files.name}: has no tokenizer.json")
    try:
        with quiet():
            return transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # what damaged files raise is nowhere declared
        raise ModelError(f"{files.name}: tokenizer cannot be loaded: {first_line(error)}") from None


def stop_tokens(files: CheckpointFiles, tokenizer: Any) -> list[int]:
    """Ids of the tokens that end an answer.

    Raises:
        ModelError: the checkpoint names none, or its generation file is damaged.
    """
    ends: Any = None
    if (path := files.find(GENERATION_FILE)) is not None:
        try:
            ends = json.loads(path.read_text("utf-8")).get("eos_token_id")
        except (OSError, ValueError, AttributeError) as error:
            raise ModelError(
                f"{files.name}: {GENERATION_FILE} cannot be read: {first_line(error)}"
            ) from None
    ends = tokenizer.eos_token_id if ends is None else ends
    if ends is None:
        raise ModelError(f"{files.name}: names no token that ends an answer")
    return list(ends) if isinstance(ends, list) else [ends]
