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
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from lamofcbench.errors import LamofcError, ModelError
from lamofcbench.models.audio import STACKED, Adaptor, Codebook, Ear
from lamofcbench.models.base import Half
from lamofcbench.models.checkpoint import (
    Checkpoint,
    everything,
    from_block,
    shortened,
    up_to_block,
)
from lamofcbench.models.fetch import CheckpointFiles, first_line
from lamofcbench.models.quiet import quiet
from lamofcbench.models.tokenizer import TOKENIZER_FILES, load_tokenizer
from lamofcbench.optional import require
from lamofcbench.spec import ModelSpec

__all__ = ["AUDIO_TOKENIZER", "SPECIAL", "WHISPER", "KimiCheckpoint", "KimiParts"]

transformers = require("transformers", "models")

WHISPER = "whisper-large-v3"
AUDIO_TOKENIZER = "audio-tokenizer"
CODEBOOK_TYPE = "log_mel_codebook"
ADAPTOR = "model.vq_adaptor."
ENCODER = "model.encoder."
TRUNK = ("model.layers.", "model.embed_tokens.", "model.norm.", "lm_head.")
SETTINGS = f"{WHISPER}/preprocessor_config.json"
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
        trunk: the library's Qwen2, with its text head unless only the front half is there.
        ear: Whisper's encoder and the discrete tokenizer; None in a back half.
        adaptor: from Whisper's frames to embeddings; None in a back half.
        tokenizer: of text.
        special: ids of `SPECIAL`.
        offset: id of the first audio token.
    """

    trunk: Any
    ear: Ear | None
    adaptor: Adaptor | None
    tokenizer: Any
    special: dict[str, int]
    offset: int


@contextmanager
def _explaining(name: str) -> Iterator[None]:
    """Turn whatever libraries raise over a damaged configuration into one line."""
    try:
        yield
    except LamofcError:
        raise
    except Exception as error:  # several libraries check it, each with errors of its own
        raise ModelError(f"{name}: cannot be loaded: {first_line(error)}") from error


class KimiCheckpoint:
    """The parts of one model, read on demand.

    Attributes:
        name: the model's id, for messages.
        config: the library's configuration of the trunk.
    """

    def __init__(self, model: ModelSpec) -> None:
        """Read the trunk's configuration; no weights.

        Raises:
            ModelError: it is missing, unreadable or of another architecture.
        """
        self._files = CheckpointFiles(model)
        self.name = self._files.name
        self._trunk = Checkpoint(self._files)
        described = self._trunk.config
        if missing := {"kimia_token_offset", "kimia_adaptor_input_dim"} - described.keys():
            raise ModelError(
                f"{self.name}: a Kimi-Audio is needed, this is a {described.get('model_type')}: "
                f"config.json has no {min(missing)}"
            )
        self._described = {
            k: v
            for k, v in described.items()
            if k not in ("auto_map", "architectures", "model_type")
        }
        with _explaining(self.name):
            self.config = transformers.Qwen2Config.from_dict(self._described)
        self._read: list[Checkpoint] = []

    def _require_complete(self) -> None:
        """Ask for what the published repository lacks, before gigabytes are fetched."""
        for file, instead in (
            ("tokenizer.json", "its tiktoken.model converted to that form"),
            (f"{AUDIO_TOKENIZER}/config.json", "a tokenizer such as THUDM/glm-4-voice-tokenizer"),
        ):
            if self._files.find(file) is None:
                raise ModelError(
                    f"{self.name}: has no {file}, which must hold {instead}: download the model, "
                    "add the file, and name the folder: MODEL=dir"
                )

    def load(
        self, split: int, half: Half, dtype: torch.dtype, device: str, *, partial: bool = False
    ) -> KimiParts:
        """Load what a half needs; audio output is never loaded.

        Args:
            split: number of the front half's last layer.
            half: which half; the front one has no layers beyond the split, and no head, the back
                one nothing that hears.
            dtype: to compute in.
            device: where to.
            partial: whether the back half need not run the layers up to the split.

        Raises:
            ModelError: a part is missing, damaged or does not fit the others.
        """
        hears = half != "back"
        if hears:
            self._require_complete()
        tokenizer = load_tokenizer(self._files)
        vocabulary = tokenizer.get_vocab()
        if missing := [token for token in SPECIAL.values() if token not in vocabulary]:
            raise ModelError(f"{self.name}: tokenizer.json has no {missing[0]}")
        offset = int(self._described["kimia_token_offset"])
        ear = self._ear(dtype) if hears else None
        if ear is not None and offset + len(ear.codebook.entries) > self.config.vocab_size:
            raise ModelError(f"{self.name}: {AUDIO_TOKENIZER} has more codes than the vocabulary")
        return KimiParts(
            trunk=self._load_trunk(split, half, dtype, partial).to(device),
            ear=None if ear is None else ear.to(device),
            adaptor=self._adaptor(dtype).to(device) if hears else None,
            tokenizer=tokenizer,
            special={role: vocabulary[token] for role, token in SPECIAL.items()},
            offset=offset,
        )

    def _load_trunk(self, split: int, half: Half, dtype: torch.dtype, partial: bool) -> Any:
        layers = self._described.get("num_hidden_layers")
        if not isinstance(layers, int) or layers < split + 2:
            raise ModelError(f"{self.name}: has {layers} layers, so none after {split}")
        if half != "front":
            tied = bool(self._described.get("tie_word_embeddings"))
            later = from_block(split + 1, without=() if tied else ("embed_tokens",))
            needed = later if half == "back" and partial else everything
            return self._trunk.build(
                transformers.Qwen2ForCausalLM,
                lambda name: name.startswith(TRUNK) and needed(name),
                dtype=dtype,
                config=self._described,
                unused=lambda name: not needed(name),
            )
        return self._trunk.build(
            transformers.Qwen2Model,
            self._front(split),
            dtype=dtype,
            config=shortened(self._described, split + 1),
            unused=lambda name: name.startswith("norm"),
        )

    @staticmethod
    def _front(split: int) -> Any:
        wanted = up_to_block(split, without=("norm", "lm_head"))
        return lambda name: name.startswith(TRUNK) and wanted(name)

    def _adaptor(self, dtype: torch.dtype) -> Adaptor:
        width = int(self._described["kimia_adaptor_input_dim"])
        adaptor = Adaptor(width, self.config.hidden_size, self.config.rms_norm_eps)
        found = self._trunk.read(lambda name: name.startswith(ADAPTOR))
        self._trunk.assign(
            adaptor, {k.removeprefix(ADAPTOR): t.to(dtype) for k, t in found.items()}
        )
        return adaptor

    def _ear(self, dtype: torch.dtype) -> Ear:
        whisper = Checkpoint(self._files, subfolder=WHISPER)
        codes = Checkpoint(self._files, subfolder=AUDIO_TOKENIZER)
        with _explaining(f"{self.name}: {WHISPER}"), quiet():
            config = transformers.WhisperConfig.from_dict(
                {k: v for k, v in whisper.config.items() if k != "architectures"}
            )
            settings = json.loads(self._files.path(SETTINGS).read_text("utf-8"))
            extractor = transformers.WhisperFeatureExtractor.from_dict(settings)
            encoder = transformers.models.whisper.modeling_whisper.WhisperEncoder(config)
        positions = config.max_source_positions
        if extractor.nb_max_frames != 2 * positions or positions % STACKED:
            raise ModelError(f"{self.name}: {SETTINGS} is not of its {WHISPER}")
        if config.d_model * STACKED != self._described["kimia_adaptor_input_dim"]:
            raise ModelError(f"{self.name}: {WHISPER} is {config.d_model} wide: another model's")
        found = whisper.read(lambda name: name.startswith(ENCODER))
        whisper.assign(encoder, {k.removeprefix(ENCODER): t.to(dtype) for k, t in found.items()})
        if (kind := codes.config.get("model_type")) != CODEBOOK_TYPE:
            raise ModelError(
                f"{self.name}: {AUDIO_TOKENIZER} is a {kind}; only a {CODEBOOK_TYPE} can be run "
                "so far"
            )
        with _explaining(f"{self.name}: {AUDIO_TOKENIZER}"):
            codebook = Codebook(int(codes.config["codes"]), config.num_mel_bins)
        codes.assign(codebook, codes.read())
        self._read = [whisper, codes]
        return Ear(extractor, encoder, codebook).eval()

    @property
    def parameters_loaded(self) -> int:
        """Elements of all tensors read so far."""
        return sum(part.parameters_loaded for part in (self._trunk, *self._read))

    @property
    def parameters_total(self) -> int:
        """Elements of all tensors of the model, those of audio output among them.

        What hears is counted if it is there, as it need not be for the back half.

        Raises:
            ModelError: a file is missing or damaged.
        """
        parts = [
            Checkpoint(self._files, subfolder=name)
            for name in (WHISPER, AUDIO_TOKENIZER)
            if self._files.find(f"{name}/config.json") is not None
        ]
        return sum(part.parameters_total for part in (self._trunk, *parts))

    def revision(self, split: int) -> str:
        """What pins everything that features depend on; see `Checkpoint.revision`.

        Raises:
            ModelError: a file is missing.
        """
        self._require_complete()
        front = self._front(split)
        whisper = Checkpoint(self._files, subfolder=WHISPER)
        codes = Checkpoint(self._files, subfolder=AUDIO_TOKENIZER)
        revisions = (
            self._trunk.revision(lambda n: front(n) or n.startswith(ADAPTOR), TOKENIZER_FILES),
            whisper.revision(lambda name: name.startswith(ENCODER), (SETTINGS,)),
            codes.revision(),
        )
        if not self._files.local:
            return revisions[0]
        return hashlib.sha256("\n".join(revisions).encode()).hexdigest()
