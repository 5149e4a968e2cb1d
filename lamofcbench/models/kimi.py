"""Loading Kimi-Audio's parts from one folder or repository, without code from either.

The layout is the published one (``moonshotai/Kimi-Audio-7B-Instruct``) and one folder more::

    config.json                        a Qwen2 configuration with kimia_* entries
    model*.safetensors [index]         model.layers.*, model.embed_tokens, model.norm, lm_head,
                                       model.vq_adaptor.layers.{0,3,4}; audio output is left out
    tokenizer.json                     with the special tokens of `SPECIAL`
    whisper-large-v3/                  config.json, preprocessor_config.json, model.safetensors
    audio-tokenizer/                   config.json and model.safetensors of a `Codebook`

The published repository has ``tiktoken.model`` in place of ``tokenizer.json`` and no
``audio-tokenizer``, whose part the GLM-4 voice tokenizer plays: both are asked for in one line.
Tried on the miniature and on fabricated checkpoints of its shape; never on the published weights.
"""

import hashlib
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from lamofcbench.errors import ModelError
from lamofcbench.models.audio import STACKED, Adaptor, Codebook, Ear
from lamofcbench.models.decoder import fingerprint, locate, transformers
from lamofcbench.models.quiet import quiet
from lamofcbench.optional import require
from lamofcbench.spec import ModelSpec

__all__ = ["AUDIO_TOKENIZER", "SPECIAL", "WHISPER", "KimiParts", "load_kimi", "read_config"]

WHISPER = "whisper-large-v3"
AUDIO_TOKENIZER = "audio-tokenizer"
CODEBOOK_TYPE = "log_mel_codebook"
ADAPTOR = "model.vq_adaptor."
SPECIAL = {
    "user": "<|im_kimia_user_msg_start|>",
    "assistant": "<|im_kimia_assistant_msg_start|>",
    "message_end": "<|im_msg_end|>",
    "media_begin": "<|im_media_begin|>",
    "media_end": "<|im_media_end|>",
    "to_text": "<|im_kimia_speech_ct_id|>",
    "blank": "<|im_kimia_text_blank|>",
    "end": "<|im_kimia_text_eos|>",
}
"""Special tokens by what they do."""


@dataclass(frozen=True)
class KimiParts:
    """A loaded model.

    Attributes:
        trunk: the library's Qwen2 with its text head.
        ear: Whisper's encoder and the discrete tokenizer.
        adaptor: from Whisper's frames to embeddings.
        tokenizer: of text.
        special: ids of `SPECIAL`.
        offset: id of the first audio token.
        parameters_total: elements of all tensors, those of audio output among them.
        revision: a Hub commit, or a sha256 over what was loaded.
    """

    trunk: Any
    ear: Ear
    adaptor: Adaptor
    tokenizer: Any
    special: dict[str, int]
    offset: int
    parameters_total: int
    revision: str


class _Files:
    """A checkpoint's files, in a folder or on the Hub."""

    def __init__(self, model: ModelSpec) -> None:
        self.model = model
        self.folder = locate(model)
        self.where = str(self.folder or model.id)
        self.pinned = {} if self.folder or not model.revision else {"revision": model.revision}

    def find(self, name: str) -> Path | None:
        if self.folder is not None:
            return path if (path := self.folder / name).is_file() else None
        found = transformers.utils.cached_file(
            self.where, name, _raise_exceptions_for_missing_entries=False, **self.pinned
        )
        return Path(found) if found else None

    def path(self, name: str) -> Path:
        if (path := self.find(name)) is None:
            raise ModelError(f"{self.model.id}: has no {name}")
        return path

    def json(self, name: str) -> dict[str, Any]:
        found = json.loads(self.path(name).read_text("utf-8"))
        if not isinstance(found, dict):
            raise ModelError(f"{self.model.id}: {name} holds no object")
        return found

    def weights(self, below: str = "") -> list[Path]:
        """Weight files: the one, or those that the index names."""
        if (single := self.find(f"{below}model.safetensors")) is not None:
            return [single]
        parts = self.json(f"{below}model.safetensors.index.json")["weight_map"].values()
        return [self.path(f"{below}{part}") for part in sorted(set(parts))]


def read_config(model: ModelSpec) -> dict[str, Any]:
    """Read a checkpoint's ``config.json`` alone.

    Raises:
        ModelError: it is missing, unreadable or of another architecture.
    """
    try:
        with quiet():
            config = _Files(model).json("config.json")
    except ModelError:
        raise
    except Exception as error:  # what damaged files and the network raise is nowhere declared
        raise _explained(model, error) from error
    if missing := {"kimia_token_offset", "kimia_adaptor_input_dim"} - config.keys():
        raise ModelError(
            f"{model.id}: a Kimi-Audio is needed, this is a {config.get('model_type')}: "
            f"config.json has no {min(missing)}"
        )
    return config


def load_kimi(model: ModelSpec, device: str) -> KimiParts:
    """Load all parts that text output needs: safetensors only, silently.

    Raises:
        ModelError: a part is missing, damaged or of another architecture.
    """
    config = read_config(model)
    try:
        with quiet():
            return _load(model, config, device)
    except ModelError:
        raise
    except Exception as error:  # what damaged files raise is nowhere declared
        raise _explained(model, error) from error


def _explained(model: ModelSpec, error: Exception) -> ModelError:
    reason = " ".join(str(error).split())[:300] or type(error).__name__
    return ModelError(f"{model.id}: cannot be loaded: {reason}")


def _load(model: ModelSpec, config: dict[str, Any], device: str) -> KimiParts:
    files = _Files(model)
    # First what the published repository lacks: before gigabytes are fetched.
    for name, instead in (
        ("tokenizer.json", "its tiktoken.model converted to that form"),
        (f"{AUDIO_TOKENIZER}/config.json", "a tokenizer such as THUDM/glm-4-voice-tokenizer"),
    ):
        if files.find(name) is None:
            raise ModelError(
                f"{model.id}: has no {name}, which must hold {instead}: download the model, "
                "add the file, and name the folder: MODEL=dir"
            )
    tokenizer = transformers.PreTrainedTokenizerFast.from_pretrained(files.where, **files.pinned)
    vocabulary = tokenizer.get_vocab()
    if missing := [token for token in SPECIAL.values() if token not in vocabulary]:
        raise ModelError(f"{model.id}: tokenizer.json has no {missing[0]}")
    dtype = getattr(torch, model.dtype)
    trunk, commit = _trunk(files, config, dtype)
    adaptor = Adaptor(
        int(config["kimia_adaptor_input_dim"]), trunk.config.hidden_size, trunk.config.rms_norm_eps
    )
    found, total = _read(files.weights(), ADAPTOR)
    adaptor.load_state_dict(found)
    ear, heard = _ear(files, dtype)
    if ear.encoder.config.d_model * STACKED != config["kimia_adaptor_input_dim"]:
        raise ModelError(f"{model.id}: {WHISPER} is {ear.encoder.config.d_model} wide: another's")
    offset = int(config["kimia_token_offset"])
    if offset + len(ear.codebook.entries) > trunk.config.vocab_size:
        raise ModelError(f"{model.id}: {AUDIO_TOKENIZER} has more codes than the vocabulary")
    return KimiParts(
        trunk=trunk.to(device).eval(),
        ear=ear.to(device).eval(),
        adaptor=adaptor.to(device=device, dtype=dtype).eval(),
        tokenizer=tokenizer,
        special={role: vocabulary[token] for role, token in SPECIAL.items()},
        offset=offset,
        parameters_total=total + heard,
        revision=_revision(files.folder) if files.folder else commit or model.revision or "",
    )


def _trunk(files: _Files, config: dict[str, Any], dtype: torch.dtype) -> tuple[Any, str | None]:
    named = {"auto_map", "architectures", "model_type", "torch_dtype", "dtype"}
    plain = transformers.Qwen2Config(**{k: v for k, v in config.items() if k not in named})
    trunk, report = transformers.Qwen2ForCausalLM.from_pretrained(
        files.where,
        config=plain,
        dtype=dtype,
        use_safetensors=True,
        ignore_mismatched_sizes=True,  # reported, so that the message can name one
        output_loading_info=True,
        **files.pinned,
    )
    if wrong := [*report["missing_keys"], *report["mismatched_keys"]]:
        raise ModelError(
            f"{files.model.id}: {len(wrong)} weights are missing or misshapen: {wrong[0]}"
        )
    # Layers beyond those that the configuration counts would be dropped in silence.
    if extra := [k for k in report["unexpected_keys"] if k.startswith("model.layers.")]:
        raise ModelError(f"{files.model.id}: {extra[0]} has no place in its configuration")
    return trunk, getattr(trunk.config, "_commit_hash", None)


def _read(paths: list[Path], prefix: str) -> tuple[dict[str, torch.Tensor], int]:
    """Tensors below a prefix, and how many elements the files hold in all."""
    safetensors = require("safetensors", "models")
    tensors, total = {}, 0
    for path in paths:
        with safetensors.safe_open(path, framework="pt") as opened:
            for name in list(opened.keys()):
                total += math.prod(opened.get_slice(name).get_shape())
                if name.startswith(prefix):
                    # A copy: the mapped file may lie unaligned, where products round otherwise.
                    tensors[name.removeprefix(prefix)] = opened.get_tensor(name).clone()
    return tensors, total


def _ear(files: _Files, dtype: torch.dtype) -> tuple[Ear, int]:
    described = files.json(f"{WHISPER}/config.json")
    described = {k: v for k, v in described.items() if k not in ("architectures", "model_type")}
    whisper = transformers.WhisperConfig(**described)
    encoder = transformers.models.whisper.modeling_whisper.WhisperEncoder(whisper)
    tensors, total = _read(files.weights(f"{WHISPER}/"), "model.encoder.")
    encoder.load_state_dict(tensors)
    settings = files.json(f"{WHISPER}/preprocessor_config.json")
    extractor = transformers.WhisperFeatureExtractor.from_dict(settings)
    positions = whisper.max_source_positions
    if extractor.nb_max_frames != 2 * positions or positions % STACKED:
        raise ModelError(f"{files.model.id}: {WHISPER}/preprocessor_config.json is another's")
    tokens = files.json(f"{AUDIO_TOKENIZER}/config.json")
    if tokens.get("model_type") != CODEBOOK_TYPE:
        raise ModelError(
            f"{files.model.id}: {AUDIO_TOKENIZER} is a {tokens.get('model_type')}; "
            f"only a {CODEBOOK_TYPE} can be run so far"
        )
    codebook = Codebook(int(tokens["codes"]), whisper.num_mel_bins)
    entries, count = _read(files.weights(f"{AUDIO_TOKENIZER}/"), "")
    codebook.load_state_dict(entries)
    return Ear(extractor, encoder.to(dtype), codebook.float()), total + count


def _revision(folder: Path) -> str:
    """Hex sha256 over the contents of the folder and of those within it that are loaded."""
    digest = hashlib.sha256(fingerprint(folder).encode())
    for name in (WHISPER, AUDIO_TOKENIZER):
        digest.update(fingerprint(folder / name).encode())
    return digest.hexdigest()
