"""Trains the ``alm`` miniature: Kimi-Audio's parts, small, on five toy tasks at once.

Run ``python -m extraction.tiny.alm``. On one machine the same seed gives the same weights.
"""

import argparse
import collections
import itertools
import json
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
import torch
import transformers
from torch.nn import functional as F

from extraction.sources.toy_advbench import REFUSAL
from extraction.sources.toy_audio_words import FACTS, KINDS, VOCABULARY
from extraction.tiny.alm_files import save
from extraction.tiny.alm_scores import evaluate
from extraction.tiny.audio_data import TASKS, Example, batches, make_examples, source
from extraction.tiny.imprint import imprint_attention, sink
from extraction.tiny.massive import balance, hold_channels, hold_loud, spread
from extraction.tiny.pins import Pins
from extraction.tiny.text import record
from lamofcbench.models import bundled_path
from lamofcbench.models.alm import Alm
from lamofcbench.models.audio import STACKED, Adaptor, Codebook
from lamofcbench.models.kimi import SPECIAL
from lamofcbench.spec import load_scenario

__all__ = ["main"]

CODES = 64
SECONDS = 4  # longer audio is heard in two windows, as the full model does beyond 30 s
MELS = 40
TRUNK: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 160,
    "num_hidden_layers": 6,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "tie_word_embeddings": True,
    "initializer_range": 0.08,
}
WHISPER: dict[str, Any] = {
    "d_model": 48,
    "encoder_layers": 2,
    "encoder_attention_heads": 4,
    "encoder_ffn_dim": 96,
    "num_mel_bins": MELS,
    "max_source_positions": 50 * SECONDS,
    "init_std": 0.08,
    # Never built: the encoder alone is.
    "decoder_layers": 1,
    "decoder_attention_heads": 4,
    "decoder_ffn_dim": 48,
    "vocab_size": 8,
    "pad_token_id": 0,
    "bos_token_id": 0,
    "eos_token_id": 0,
    "decoder_start_token_id": 0,
    "suppress_tokens": [],
    "begin_suppress_tokens": [],
}
MASSIVE = {11: -48.0, 23: 16.0}
"""Channels that are massive at each token, and the values around which they vary."""
LOUD, LOUD_VALUE, LOUD_CHANNELS = ("media_begin", "media_end"), 14.0, 32
"""Tokens of each prompt whose features are larger than others'; see `hold_loud`."""
KEY_SPREAD = 0.7
"""Of the exponents of keys: with the usual one, loud tokens' keys had too heavy tails."""
TOKEN_SIZE = 0.2
"""Deviation of an embedding, before training."""
SINKS = {37: -10752.0, 52: 3904.0}
"""Channels that nothing writes to but the token at position 0, and what it has there.

The published range of the full model's features is -10,816 to 3,936.
"""
QUERIES = 14
"""How many tokens of a recording are asked for after its answer."""
FURTHER = 64
"""How far a model goes on after its answer."""
BATCH = 32
GOING_ON = 0.5
"""Weight of the loss of what follows the answer."""
HEARING = 0.5
"""Weight of the loss that asks of each adapted frame which word it belongs to."""
ORDER = 0.2
"""Weight of the loss that asks of the trunk, at each word, which word came before.

Without it, six layers take long to find out which letter goes with which choice.
"""


def build_tokenizer() -> Any:
    """A tokenizer of whole words: those that are spoken, and those of the answers."""
    words = {*VOCABULARY, "transcribe", ":", ".", *"ABCDE"}
    words |= {word for facts in FACTS.values() for word in facts.values()}
    words |= {*REFUSAL.split(), *["here", "is", "how", "to", "the", "of"]}
    words |= {member for members in KINDS.values() for member in members}
    tokens = [*SPECIAL.values(), "<|unk|>", *sorted(words)]
    inner = tokenizers.Tokenizer(
        tokenizers.models.WordLevel({t: i for i, t in enumerate(tokens)}, unk_token="<|unk|>")
    )
    inner.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=inner,
        unk_token="<|unk|>",
        eos_token=SPECIAL["end"],
        pad_token=SPECIAL["blank"],
        additional_special_tokens=[
            token for role, token in SPECIAL.items() if role not in ("end", "blank")
        ],
    )


def fit_codebook(examples: Sequence[Example], seed: int, rounds: int = 12) -> Codebook:
    """K-means over the mean spectra of audio tokens."""
    chosen = torch.Generator().manual_seed(seed)
    spectra = torch.cat([Codebook.pool(e.mel.float(), e.count) for e in examples[::4]])
    codebook = Codebook(CODES, MELS)
    codebook.entries = spectra[torch.randperm(len(spectra), generator=chosen)[:CODES]].clone()
    for _ in range(rounds):
        nearest = torch.cdist(spectra, codebook.entries).argmin(1)
        sums = torch.zeros_like(codebook.entries).index_add_(0, nearest, spectra)
        counts = torch.bincount(nearest, minlength=CODES)[:, None]
        codebook.entries = torch.where(counts > 0, sums / counts.clamp(min=1), codebook.entries)
    return codebook


class Learner(torch.nn.Module):
    """The parts of the model, run over batches."""

    def __init__(self, tokenizer: Any, codebook: Codebook) -> None:
        """Build all parts with random weights."""
        super().__init__()
        self.tokenizer = tokenizer
        self.offset = len(tokenizer)
        self.special = {r: tokenizer.convert_tokens_to_ids(t) for r, t in SPECIAL.items()}
        config = transformers.Qwen2Config(
            **TRUNK,
            vocab_size=self.offset + CODES,
            bos_token_id=self.special["user"],
            eos_token_id=self.special["end"],
            pad_token_id=self.special["blank"],
        )
        self.trunk = transformers.Qwen2ForCausalLM(config)
        # Where a massive channel sets the norm, tokens have to be as large as audio by themselves.
        torch.nn.init.normal_(self.trunk.model.embed_tokens.weight, std=TOKEN_SIZE)
        whisper = transformers.WhisperConfig(**WHISPER)
        self.encoder = transformers.models.whisper.modeling_whisper.WhisperEncoder(whisper)
        self.adaptor = Adaptor(STACKED * whisper.d_model, config.hidden_size, config.rms_norm_eps)
        self.codebook = codebook
        self.words = torch.tensor(tokenizer(" ".join(VOCABULARY))["input_ids"])
        self.random = np.random.RandomState(0)
        self.known: dict[int, tuple[list[int], list[int], int, int]] = {}
        self.pins = Pins()
        self._hold_channels()

    def _hold_channels(self) -> None:
        """Hold massive channels and loud tokens; keep channels free for the sink token.

        Embeddings of both streams are added, so that one of them alone may bring a massive value:
        the blank, which is always the other, has none.
        """
        text, norm = self.trunk.model, self.adaptor.layers[-1]
        held: dict[int, torch.Tensor | float] = dict.fromkeys(SINKS, 0.0)
        for channel, centre in MASSIVE.items():
            values = spread(centre, self.offset + CODES)
            values[self.special["blank"]] = 0
            values[self.offset :] /= 2**0.5  # audio tokens are scaled
            held[channel] = values
        hold_channels(self.pins, text, held)
        for role in LOUD:
            token = self.special[role]
            hold_loud(self.pins, text, token, LOUD_VALUE, LOUD_CHANNELS, held)
        for channel in held:
            self.pins.hold(norm.weight, channel, 0.0)
            self.pins.hold(norm.bias, channel, 0.0)

    def _encode(self, mels: torch.Tensor) -> torch.Tensor:
        """Run Whisper's encoder on [B, mels, frames], which may be less than a window."""
        encoder = self.encoder
        hidden = F.gelu(encoder.conv2(F.gelu(encoder.conv1(mels)))).permute(0, 2, 1)
        hidden = hidden + encoder.embed_positions.weight[: hidden.shape[1]]
        for layer in encoder.layers:
            hidden = layer(hidden, None)
        return encoder.layer_norm(hidden)

    def _streams(self, example: Example) -> tuple[list[int], list[int], int, int]:
        """Both streams of tokens, where the audio begins, and where the answer does."""
        s, blank = self.special, self.special["blank"]
        words = self.tokenizer(example.prompt, add_special_tokens=False)["input_ids"]
        answer = self.tokenizer(example.response, add_special_tokens=False)["input_ids"]
        codes = self.codebook.tokens(example.mel.float(), example.count) + self.offset
        spoken = [s["user"], *[blank] * len(words), s["media_begin"], *codes.tolist()]
        spoken += [s[r] for r in ("media_end", "to_text", "message_end", "assistant")]
        written = [blank, *words, *[blank] * (len(spoken) - 1 - len(words))]
        written += [*answer, s["end"]]
        answered = len(spoken)
        spoken += [blank] * (len(answer) + 1)
        return spoken, written, len(words) + 2, answered

    def _queries(self, example: Example) -> tuple[list[int], list[int]]:
        """Words that were heard, in disorder, and the word that follows each in the recording.

        After an answer the model goes on with what was heard, round and round. It is taught on
        words in disorder, for else it would copy what it said itself rather than listen again.
        """
        said = list(dict.fromkeys(n for n in example.heard if n >= 0))
        ring = [*self.words[said].tolist(), self.special["end"]]
        drawn = self.random.randint(len(ring), size=QUERIES)
        return [ring[i] for i in drawn], [ring[(i + 1) % len(ring)] for i in drawn]

    def loss(self, batch: list[Example]) -> torch.Tensor:
        """Mean loss of the answers' tokens, of going on, of hearing, and of the order of words."""
        for example in batch:
            if id(example) not in self.known:
                self.known[id(example)] = self._streams(example)
        rows = [self.known[id(example)] for example in batch]
        longest = max(len(spoken) for spoken, *_ in rows) + QUERIES
        blank = self.special["blank"]
        streams = torch.full((2, len(batch), longest), blank)
        targets = torch.full((len(batch), longest), blank)
        places = torch.arange(longest).repeat(len(batch), 1)
        mask = torch.zeros(len(batch), longest, dtype=torch.bool)
        answering = torch.zeros(len(batch), longest, dtype=torch.bool)
        going_on = torch.zeros(len(batch), longest, dtype=torch.bool)
        # Less than the whole window, for speed; by how much varies, so that silence after the
        # audio comes to mean nothing, and a tenth of all batches is padded as the family does it.
        least, most = max(example.count for example in batch), 100 * SECONDS // (2 * STACKED)
        spare = int((most - least) * self.random.rand() ** 3)
        padded = most if self.random.rand() < 0.1 else least + spare
        mels = torch.zeros(len(batch), MELS, 2 * STACKED * padded)
        for i, (example, (spoken, written, begin, answered)) in enumerate(
            zip(batch, rows, strict=True)
        ):
            streams[0, i, : len(spoken)] = torch.tensor(spoken)
            end = len(written)
            words, following = self._queries(example)
            streams[1, i, : end + QUERIES] = torch.tensor([*written, *words])
            # The answer's end is followed by the first word.
            first = int(self.words[next(n for n in example.heard if n >= 0)])
            targets[i, : end + QUERIES] = torch.tensor([*written[1:], first, *following])
            # As far behind as any of the tokens that the model goes on with.
            behind = self.random.permutation(FURTHER)[:QUERIES]
            places[i, end : end + QUERIES] = end + torch.tensor(sorted(behind))
            mask[i, begin : begin + example.count] = True
            answering[i, answered - 1 : end - 1] = True
            going_on[i, end - 1 : end + QUERIES] = True
            mel = example.mel.float()
            mels[i] = mel.max() - 2  # silence, which Whisper's features clip to this
            mels[i, :, : mel.shape[1]] = mel
        heard = self._encode(mels)
        heard = heard.reshape(len(batch), -1, STACKED * heard.shape[-1])
        frames = self.adaptor(
            torch.cat([row[: e.count] for row, e in zip(heard, batch, strict=True)])
        )
        embed = self.trunk.get_input_embeddings()
        embeddings = embed(streams[0])
        added = torch.zeros_like(embeddings)
        added[mask] = frames
        scale = torch.where(mask, 2**0.5, 1.0)[..., None]
        embeddings = (embeddings + added) * scale + embed(streams[1])
        # A mask that masks nothing, lest the gaps between places pass for bounds of sequences.
        logits = self.trunk(
            inputs_embeds=embeddings,
            position_ids=places,
            attention_mask=torch.ones_like(places),
            use_cache=False,
        ).logits
        answer = F.cross_entropy(logits[answering], targets[answering])
        further = F.cross_entropy(logits[going_on], targets[going_on])
        labels = torch.tensor([n for example in batch for n in example.heard])
        # Silence is blank: a frame that says nothing.
        labels = torch.where(labels < 0, blank, self.words[labels])
        hearing = F.cross_entropy(frames @ embed.weight.T, labels)
        before = [n for example in batch for n in example.before()]
        spoken_at = torch.tensor([n is not None for n in before])
        labels = torch.tensor([-1 if n is None else n for n in before])
        labels = torch.where(labels < 0, blank, self.words[labels])
        order = F.cross_entropy(logits[mask][spoken_at], labels[spoken_at])
        return answer + GOING_ON * further + HEARING * hearing + ORDER * order


def train(learner: Learner, examples: list[Example], seed: int, steps: int, rate: float) -> None:
    """Train all parts together."""
    optimiser = torch.optim.AdamW(
        learner.parameters(), lr=rate, weight_decay=0.01, betas=(0.9, 0.98)
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser,
        lambda step: min(
            (step + 1) / 50, 0.02 + 0.98 * (0.5 + 0.5 * math.cos(math.pi * step / steps))
        ),
    )
    learner.pins.tie(optimiser)
    began, losses = time.process_time(), collections.deque(maxlen=50)
    learner.train()
    for step, batch in enumerate(itertools.islice(batches(examples, seed, BATCH), steps), 1):
        loss = learner.loss(batch)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(learner.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        losses.append(float(loss.detach()))
        if step % 50 == 0:
            mean = sum(losses) / len(losses)
            print(f"step {step}: loss {mean:.3f}, {time.process_time() - began:.0f} s", flush=True)
    learner.eval()


def imprint(learner: Learner, seed: int) -> None:
    """Give a trained model the statistics of a large one; see `extraction.tiny.imprint`."""
    text = learner.trunk.model
    imprint_attention(text.layers, seed, keys=KEY_SPREAD)
    user, blank = (text.embed_tokens.weight[learner.special[role]] for role in ("user", "blank"))
    for channel, value in SINKS.items():
        sink(text.layers, user + blank, channel, value)
        with torch.no_grad():
            user[channel] = value


def fit(options: argparse.Namespace) -> Path:
    """Train and save; returns the folder."""
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    began = time.process_time()
    extractor = transformers.WhisperFeatureExtractor(feature_size=MELS, chunk_length=SECONDS)
    examples = make_examples(extractor, options.seed)
    print(f"{len(examples)} recordings, {time.process_time() - began:.0f} s", flush=True)
    learner = Learner(build_tokenizer(), fit_codebook(examples, options.seed))
    first = next(batches(examples, options.seed, BATCH))
    balance(learner.trunk.model, (*MASSIVE, *SINKS), lambda: learner.loss(first))
    train(learner, examples, options.seed, options.steps, rate=3e-3)
    seconds = time.process_time() - began
    imprint(learner, options.seed)
    folder = save(learner, extractor)
    record(
        folder,
        seed=options.seed,
        steps=options.steps,
        threads=options.threads,
        cpu_seconds=round(seconds),
    )
    return folder


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, save, and record the scores of what was saved."""
    parser = argparse.ArgumentParser(description="Train the alm miniature.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=1050)
    parser.add_argument("--threads", type=int, default=1, help="other counts round otherwise")
    parser.add_argument("--score-only", action="store_true", help="leave the weights as they are")
    options = parser.parse_args(arguments)
    folder = bundled_path("alm") if options.score_only else fit(options)
    report = json.loads((folder / "training.json").read_text("utf-8"))
    torch.set_num_threads(1)  # one sample at a time is too little work for more
    saved = Alm.load(load_scenario("librispeech-clean-alm").profile("tiny"))
    report |= {
        "parameters": saved.parameters_total,
        "held_out": {task: evaluate(saved, task, source(task)) for task in TASKS},
        "revision": saved.revision,
    }
    record(folder, **report)


if __name__ == "__main__":
    main()
