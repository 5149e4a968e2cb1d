"""Train the miniature Qwen3-VL: ``python -m extraction.tiny.mllm``.

It answers questions about grids of digits. Training is in float32 on training digits. The weights
are then rounded to bfloat16, in which the miniature runs, and scored on the held-out test samples.
"""

import argparse
import functools
import json
import logging
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
import torch
import transformers
from torch.nn import functional

from extraction.sources.digits_vqa import (
    CELL,
    MAX_COLUMNS,
    MAX_ROWS,
    DigitsVqa,
    Puzzle,
    compose,
    kind_of,
    pools,
    question_only_answers,
)
from extraction.tiny.imprint import imprint_attention, sink
from extraction.tiny.massive import balance, hold_channels, hold_loud, spread
from extraction.tiny.mllm_teaching import ROWS_READ, Probes, Reading
from extraction.tiny.pins import Pins
from lamofcbench.models import bundled_path
from lamofcbench.models.mllm import Mllm, patchify
from lamofcbench.scores.vqa_accuracy import vqa_accuracy
from lamofcbench.spec import load_scenario

__all__ = ["build_model", "build_tokenizer", "main", "question_only_score", "train"]

log = logging.getLogger(__name__)

_PATCH = CELL // 2
_SPECIAL = (
    "<|endoftext|>",
    "<|begin|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
    "<|unk|>",
)
_CHARACTERS = "abcdefghijklmnopqrstuvwxyz0123456789 ,.?:\n"
_WORDS = (
    *("row", "rows", "column", "columns", "digit", "digits", "grid", "picture", "corner"),
    *("first", "last", "top", "bottom", "left", "right", "whole", "many", "how", "what"),
    *("which", "where", "is", "in", "of", "the", "does", "show", "look", "at", "please"),
)
# Roles are left out: spelt in characters they would be a fifth of a typical prompt.
_CHAT_TEMPLATE = (
    "<|begin|>{% for message in messages %}<|im_start|>"
    "{% if message.content is string %}{{ message.content }}{% else %}"
    "{% for part in message.content %}"
    "{% if part.type == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% else %}{{ part.text }}{% endif %}"
    "{% endfor %}{% endif %}<|im_end|>{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>{% endif %}"
)
_STREAM = 1000
"""Sets the trainer's draws apart from those of every split."""
_TOKENS_A_BATCH = 1600
_PROBE_WEIGHT = 0.2
_SEEING = 300
"""Steps at the start in which the vision tower learns alone, from the probes."""
_BASELINE_QUESTIONS = 4000
_MASSIVE, _MASSIVE_VALUE = 11, 80.0
"""A channel that is massive at each token, and the value around which it varies."""
_DEEPSTACK_VALUE = 32.0
"""What each DeepStack level adds to it."""
_SINK, _SINK_VALUE = 37, 4096.0
"""A channel that nothing writes to but the token at position 0, and what it has there."""
_LOUD, _LOUD_VALUE, _LOUD_CHANNELS = ("<|vision_start|>",), 20.0, 16
"""Tokens of each prompt whose features are larger than others'; see `hold_loud`."""
_TOKEN_SIZE = 0.25
"""Deviation of an embedding before training; the norms don't level tokens any more."""
_READING_WEIGHT = 0.5


def build_tokenizer() -> Any:
    """Return a tokenizer of characters and common question words, with Qwen3-VL's special tokens.

    Number words are none of these words: answers are spelt, so that they are several tokens long.
    """
    whole = [space + word for word in (*_WORDS, *"123456") for space in (" ", "")]
    units = dict.fromkeys((*_SPECIAL, *whole, *_CHARACTERS))
    vocabulary = {token: i for i, token in enumerate(units)}
    pattern = rf" ?(?:{'|'.join(_WORDS)})\b| ?[1-6]|[\s\S]"
    inner = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="<|unk|>"))
    inner.normalizer = tokenizers.normalizers.Lowercase()
    inner.pre_tokenizer = tokenizers.pre_tokenizers.Split(tokenizers.Regex(pattern), "isolated")
    inner.decoder = tokenizers.decoders.Fuse()
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=inner,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        unk_token="<|unk|>",
        additional_special_tokens=[t for t in _SPECIAL if t not in ("<|im_end|>", "<|unk|>")],
        chat_template=_CHAT_TEMPLATE,
    )


def build_model(tokenizer: Any) -> Any:
    """Return a Qwen3-VL with fresh float32 weights, drawn from torch's global generator."""
    ids = {token: tokenizer.convert_tokens_to_ids(token) for token in _SPECIAL}
    config = transformers.Qwen3VLConfig(
        text_config={
            "vocab_size": len(tokenizer),
            "hidden_size": 64,
            "intermediate_size": 112,
            "num_hidden_layers": 6,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 16,
            "max_position_embeddings": 256,
            "initializer_range": 0.08,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 100_000.0,
                "mrope_section": [2, 3, 3],
                "mrope_interleaved": True,
            },
            "tie_word_embeddings": True,
        },
        vision_config={
            "depth": 3,
            "hidden_size": 40,
            "intermediate_size": 96,
            "num_heads": 2,
            "patch_size": _PATCH,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            "out_hidden_size": 64,
            "num_position_embeddings": 64,
            "deepstack_visual_indexes": [0, 1, 2],
            "initializer_range": 0.08,
        },
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
        tie_word_embeddings=True,
    )
    model = transformers.Qwen3VLForConditionalGeneration(config)
    # Norms of 1 bound attention scores to 4 at this head size, too flat to pick one cell of 24.
    for layer in model.model.language_model.layers:
        torch.nn.init.constant_(layer.self_attn.q_norm.weight, 2.0)
        torch.nn.init.constant_(layer.self_attn.k_norm.weight, 1.5)
    torch.nn.init.normal_(model.model.language_model.embed_tokens.weight, std=_TOKEN_SIZE)
    return model


def _hold_channels(model: Any, tokenizer: Any) -> Pins:
    """Hold a massive channel and loud tokens; keep a channel free for the sink token."""
    pins = Pins()
    text, visual = model.model.language_model, model.model.visual
    values = spread(_MASSIVE_VALUE, text.config.vocab_size)
    hold_channels(pins, text, {_MASSIVE: values, _SINK: 0.0})
    for token in tokenizer.convert_tokens_to_ids(list(_LOUD)):
        hold_loud(pins, text, token, _LOUD_VALUE, _LOUD_CHANNELS, (_MASSIVE, _SINK))
    for merger in (visual.merger, *visual.deepstack_merger_list):
        value = _MASSIVE_VALUE if merger is visual.merger else _DEEPSTACK_VALUE
        for channel, bias in ((_MASSIVE, value), (_SINK, 0.0)):
            pins.hold(merger.linear_fc2.weight, channel, 0.0)
            pins.hold(merger.linear_fc2.bias, channel, bias)
    return pins


def _imprint(model: Any, tokenizer: Any, seed: int) -> None:
    """Give a trained model the statistics of a large one; see `extraction.tiny.imprint`."""
    text = model.model.language_model
    imprint_attention(text.layers, seed)
    begin = text.embed_tokens.weight[tokenizer.convert_tokens_to_ids("<|begin|>")]
    sink(text.layers, begin, _SINK, _SINK_VALUE)
    with torch.no_grad():
        begin[_SINK] = _SINK_VALUE


def _same_grid_attention(
    _module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    scaling: float,
    cu_seq_lens_q: torch.Tensor,
    **_options: Any,
) -> tuple[torch.Tensor, None]:
    """Attend within images [1, heads, B * P, d] that all have P patches, in one call for all."""
    images = len(cu_seq_lens_q) - 1
    query, key, value = (
        t[0].unflatten(1, (images, -1)).transpose(0, 1) for t in (query, key, value)
    )
    out = functional.scaled_dot_product_attention(query, key, value, scale=scaling)
    return out.transpose(1, 2).flatten(0, 1)[None], None


def _loss(
    model: Any,
    probes: Probes,
    tokenizer: Any,
    puzzles: list[Puzzle],
    rng: np.random.Generator | None,
) -> torch.Tensor:
    """Loss of a batch whose images all have one shape; of seeing alone without a generator."""
    labels = torch.tensor(np.stack([p.labels for p in puzzles]))
    cells = labels[0].numel()
    images = torch.tensor(np.stack([p.image for p in puzzles])).permute(0, 3, 1, 2)
    grid = torch.tensor([[1, labels.shape[1] * 2, labels.shape[2] * 2]]).expand(len(puzzles), 3)
    vision = model.model.get_image_features(patchify(images, _PATCH, 2, 2), grid)
    plain = torch.cat(vision.pooler_output).clone()
    plain[:, _MASSIVE] = 0
    seeing = _PROBE_WEIGHT * probes(plain, labels)
    if rng is None:
        return seeing
    reading = Reading(tokenizer, labels, rng)
    further = reading.given.shape[1]
    head = "<|begin|><|im_start|><|vision_start|>" + "<|image_pad|>" * cells + "<|vision_end|>"
    texts = [f"{head}{p.question}<|im_end|><|im_start|>{p.answer}<|im_end|>" for p in puzzles]
    rows = tokenizer(texts, add_special_tokens=False)["input_ids"]
    width = max(map(len, rows)) + further
    # Padding follows the text, and no text token attends to what follows it: no mask is needed.
    ids = torch.full((len(rows), width), tokenizer.pad_token_id)
    answers, readings = (torch.full((len(rows), width), -100) for _ in range(2))
    types = torch.zeros(1, width, dtype=torch.int64)
    types[0, : len(rows[0])] = torch.tensor(rows[0]) == model.config.image_token_id
    places = model.model.get_rope_index(ids[:1], types, grid[:1])[0].repeat(1, len(rows), 1)
    for i, (row, puzzle) in enumerate(zip(rows, puzzles, strict=True)):
        end, answer = len(row), len(puzzle.answer) + 1
        ids[i, :end] = torch.tensor(row)
        ids[i, end : end + further] = reading.given[i]
        answers[i, end - answer - 1 : end - 1] = ids[i, end - answer : end]
        readings[i, end - 1 : end + further] = reading.wanted[i]
        places[:, i, end : end + further] = places[:, i, end - 1, None] + 1 + reading.places[i]
    logits = model(
        input_ids=ids,
        position_ids=places,
        mm_encoder_outputs={"image": vision},
        use_cache=False,
    ).logits.flatten(0, 1)
    answering = functional.cross_entropy(logits, answers.flatten())
    return (
        answering + _READING_WEIGHT * functional.cross_entropy(logits, readings.flatten()) + seeing
    )


def train(seed: int, steps: int) -> tuple[Any, Any]:
    """Train from scratch.

    Args:
        seed: fixes weights and questions; on one machine it fixes the result.
        steps: batches of about 1600 tokens.

    Returns:
        The model in float32, and its tokenizer.
    """
    torch.manual_seed(seed)
    rng = np.random.default_rng((seed, _STREAM))
    glyphs = pools()["train"]
    tokenizer = build_tokenizer()
    model = build_model(tokenizer).train()
    # The library calls the usual attention once per image; what it takes for flash attention gets
    # all images at once, in half of a training step's time.
    transformers.AttentionInterface.register("flash_same_grid", _same_grid_attention)
    model.model.visual.config._attn_implementation = "flash_same_grid"
    probes = Probes(model.config.text_config.hidden_size)
    parameters = [*model.parameters(), *probes.parameters()]
    optimiser = torch.optim.AdamW(parameters, lr=3e-3, betas=(0.9, 0.98), weight_decay=0.01)
    pins = _hold_channels(model, tokenizer)
    pins.tie(optimiser)
    started = time.process_time()
    for step in range(steps):
        rate = min(1.0, (step + 1) / 50) * (0.5 + 0.5 * math.cos(math.pi * step / steps))
        for group in optimiser.param_groups:
            group["lr"] = 3e-3 * rate
        shape = (int(rng.integers(1, MAX_ROWS + 1)), int(rng.integers(1, MAX_COLUMNS + 1)))
        cost = shape[0] * shape[1] + 17 + ROWS_READ * (shape[1] + 1)
        puzzles = [compose(rng, glyphs, shape) for _ in range(_TOKENS_A_BATCH // cost)]
        if step == _SEEING:
            text = model.model.language_model
            batch = functools.partial(_loss, model, probes, tokenizer, puzzles, rng)
            balance(text, (_MASSIVE, _SINK), batch)
        loss = _loss(model, probes, tokenizer, puzzles, None if step < _SEEING else rng)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        if step % 50 == 0:
            log.info("step %d, %.0f s, loss %.3f", step, time.process_time() - started, loss.item())
    model.model.visual.config._attn_implementation = "sdpa"
    return model.eval(), tokenizer


def question_only_score(seed: int = 0) -> float:
    """VQA accuracy on the test samples of answering each kind with its most frequent answer."""
    profile = load_scenario("vqa-mllm").profile("tiny")
    rng = np.random.default_rng((seed, _STREAM))
    glyphs = pools()["train"]
    drawn = (compose(rng, glyphs) for _ in range(_BASELINE_QUESTIONS))
    answers = question_only_answers((p.question, p.answer) for p in drawn)
    samples = DigitsVqa(profile).select("test", profile.samples.test)
    scores = [
        vqa_accuracy(answers[kind_of(s.inputs["question"])], s.reference["answers"])
        for s in samples
    ]
    return float(np.mean(scores))


def main() -> None:
    """Train, write weights, tokenizer and ``training.json`` into the package, and score."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=1900)
    parser.add_argument("--out", type=Path, default=bundled_path("mllm"))
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(1)
    started = time.process_time()
    model, tokenizer = train(options.seed, options.steps)
    seconds = time.process_time() - started
    _imprint(model, tokenizer, options.seed)
    options.out.mkdir(parents=True, exist_ok=True)
    model.to(torch.bfloat16).save_pretrained(options.out)
    tokenizer.save_pretrained(options.out)
    profile = load_scenario("vqa-mllm").profile("tiny")
    spec = profile.model.model_copy(update={"id": str(options.out)})
    family = Mllm.load(profile.model_copy(update={"model": spec}))
    samples = DigitsVqa(profile).select("test", profile.samples.test)
    answers = [family.plain(s.inputs).prediction for s in samples]
    for sample, answer in zip(samples, answers, strict=True):
        if answer != sample.reference["answers"][0]:
            log.info("%s: %s, not %s", sample.summary, answer, sample.reference["answers"][0])
    score = np.mean(
        [vqa_accuracy(a, s.reference["answers"]) for a, s in zip(answers, samples, strict=True)]
    )
    report = {
        "seed": options.seed,
        "steps": options.steps,
        "cpu_seconds": round(seconds, 1),
        "parameters": family.parameters_total,
        "test_samples": len(samples),
        "vqa_accuracy": round(float(score), 6),
        "question_only_vqa_accuracy": round(question_only_score(options.seed), 6),
    }
    text = json.dumps(report, indent=2) + "\n"
    (options.out / "training.json").write_text(text, "utf-8")
    log.info("%s", text)


if __name__ == "__main__":
    main()
