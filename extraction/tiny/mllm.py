"""Train the miniature Qwen3-VL: ``python -m extraction.tiny.mllm``.

It answers questions about grids of digits. Training is in float32 on training digits. The weights
are then rounded to bfloat16, in which the miniature runs, and scored on the held-out test samples.
"""

import argparse
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
from lamofcbench.models import bundled_path
from lamofcbench.models.mllm import Mllm, patchify
from lamofcbench.scores.vqa_accuracy import vqa_accuracy
from lamofcbench.spec import load_scenario

__all__ = ["build_model", "build_tokenizer", "main", "question_only_score", "train"]

log = logging.getLogger(__name__)

_PATCH = CELL // 2
_SPECIAL = (
    "<|endoftext|>",
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
    "{% for message in messages %}<|im_start|>"
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
    return model


class _Probes(torch.nn.Module):
    """Heads on image tokens that say which digit a cell shows and where it is; thrown away later.

    Answers alone supervise one cell of an image; these supervise all of them, and training takes a
    fraction of the time.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.heads = torch.nn.ModuleList(
            torch.nn.Linear(dim, n) for n in (10, MAX_ROWS, MAX_COLUMNS)
        )

    def forward(self, tokens: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Return the loss of tokens [B * rows * columns, D] for labels [B, rows, columns]."""
        batch, rows, columns = labels.shape
        row = torch.arange(rows)[None, :, None].expand(batch, rows, columns)
        column = torch.arange(columns)[None, None].expand(batch, rows, columns)
        losses = [
            functional.cross_entropy(head(tokens), target.reshape(-1))
            for head, target in zip(self.heads, (labels, row, column), strict=True)
        ]
        return torch.stack(losses).sum()


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
    model: Any, probes: _Probes, tokenizer: Any, puzzles: list[Puzzle], reading: bool
) -> torch.Tensor:
    """Loss of a batch whose images all have one shape."""
    labels = torch.tensor(np.stack([p.labels for p in puzzles]))
    cells = labels[0].numel()
    images = torch.tensor(np.stack([p.image for p in puzzles])).permute(0, 3, 1, 2)
    grid = torch.tensor([[1, labels.shape[1] * 2, labels.shape[2] * 2]]).expand(len(puzzles), 3)
    vision = model.model.get_image_features(patchify(images, _PATCH, 2, 2), grid)
    seeing = _PROBE_WEIGHT * probes(torch.cat(vision.pooler_output), labels)
    if not reading:
        return seeing
    head = "<|im_start|><|vision_start|>" + "<|image_pad|>" * cells + "<|vision_end|>"
    texts = [f"{head}{p.question}<|im_end|><|im_start|>{p.answer}<|im_end|>" for p in puzzles]
    rows = tokenizer(texts, add_special_tokens=False)["input_ids"]
    width = max(map(len, rows))
    # Padding follows the text, and no text token attends to what follows it: no mask is needed.
    ids = torch.full((len(rows), width), tokenizer.pad_token_id)
    targets = torch.full((len(rows), width), -100)
    for i, (row, puzzle) in enumerate(zip(rows, puzzles, strict=True)):
        ids[i, : len(row)] = torch.tensor(row)
        answer = len(puzzle.answer) + 1
        targets[i, len(row) - answer : len(row)] = ids[i, len(row) - answer : len(row)]
    types = (ids[:1] == model.config.image_token_id).long()
    positions = model.model.get_rope_index(ids[:1], types, grid[:1])[0].expand(3, len(rows), -1)
    logits = model(
        input_ids=ids,
        position_ids=positions,
        mm_encoder_outputs={"image": vision},
        use_cache=False,
    ).logits
    loss = functional.cross_entropy(logits[:, :-1].flatten(0, 1), targets[:, 1:].flatten())
    return loss + seeing


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
    probes = _Probes(model.config.text_config.hidden_size)
    parameters = [*model.parameters(), *probes.parameters()]
    optimiser = torch.optim.AdamW(parameters, lr=3e-3, betas=(0.9, 0.98), weight_decay=0.01)
    started = time.monotonic()
    for step in range(steps):
        rate = min(1.0, (step + 1) / 50) * (0.5 + 0.5 * math.cos(math.pi * step / steps))
        for group in optimiser.param_groups:
            group["lr"] = 3e-3 * rate
        shape = (int(rng.integers(1, MAX_ROWS + 1)), int(rng.integers(1, MAX_COLUMNS + 1)))
        size = _TOKENS_A_BATCH // (shape[0] * shape[1] + 16)
        puzzles = [compose(rng, glyphs, shape) for _ in range(size)]
        loss = _loss(model, probes, tokenizer, puzzles, step >= _SEEING)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        if step % 50 == 0:
            log.info("step %d, %.0f s, loss %.3f", step, time.monotonic() - started, loss.item())
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
    parser.add_argument("--steps", type=int, default=1700)
    parser.add_argument("--out", type=Path, default=bundled_path("mllm"))
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(1)
    started = time.monotonic()
    model, tokenizer = train(options.seed, options.steps)
    seconds = time.monotonic() - started
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
        "seconds": round(seconds, 1),
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
