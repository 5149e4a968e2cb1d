"""What the language miniatures share: tokenizer, batches of all five tasks, loss, evaluation."""

import argparse
import collections
import itertools
import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
import torch
import transformers
from torch.nn import functional as F

from extraction.sources import SOURCES
from extraction.sources.toy_text import Question, ToyText
from extraction.tiny.pins import Pins
from extraction.tiny.stream import Stream, prepare, sink_token
from lamofcbench.models import bundled_path
from lamofcbench.models.text import TextFamily
from lamofcbench.scores.answers import last_number, letter
from lamofcbench.spec import ProfileSpec, load_scenario

__all__ = [
    "BEGIN",
    "CONTINUED",
    "TASKS",
    "Recipe",
    "build_tokenizer",
    "conversation",
    "evaluate",
    "loss_of",
    "profile_of",
    "record",
    "run",
    "source",
    "special_ids",
    "train",
]

TASKS = ("arc", "gsm8k", "hellaswag", "truthfulqa", "winogrande")
BEGIN = "<|begin|>"
"""A token that stands at position 0, and nowhere else."""
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|unk|>", BEGIN)
TEMPLATE = (
    BEGIN
    + "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
PATTERN = r" ?[A-Za-z]+| ?\d| ?[^\sA-Za-z\d]|\n| "
# Random words cannot be foretold; a little of their loss still teaches which kind comes next.
PROMPT_WEIGHT = 0.03
CONTINUED = 64
"""Tokens after a prompt that are taught, the answer's among them."""
TIMES = 3
"""How often a question is asked again, which is enough for so many tokens."""
ANSWER_WEIGHT = 2.0
CONTINUED_WEIGHT = 0.5
"""Of the loss after the answer, of which there is more than of the answer's."""
POOL = 16
BATCH = 32
REPORT = 50

Row = tuple[list[int], list[float]]
"""Token ids, and how much the loss of foretelling each counts."""


def source(task: str) -> type[ToyText]:
    """The generator of a task's questions."""
    found: type[ToyText] = SOURCES.load(f"toy_{task}")
    return found


def build_tokenizer() -> Any:
    """A tokenizer of the words of all five tasks, with a chat template."""
    words: set[str] = {"user", "assistant", *"0123456789", *(f" {d}" for d in "0123456789")}
    regex = tokenizers.pre_tokenizers.Split(tokenizers.Regex(PATTERN), "isolated")
    for task in TASKS:
        stream = source(task).stream(np.random.RandomState(0), "training")
        for question in itertools.islice(stream, 3000):
            for text in (question.turn, question.prefix + question.response):
                words.update(piece for piece, _ in regex.pre_tokenize_str(text))
    vocabulary = {token: i for i, token in enumerate([*SPECIAL, *sorted(words | {"\n", " "})])}
    inner = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="<|unk|>"))
    inner.pre_tokenizer = regex
    inner.decoder = tokenizers.decoders.Fuse()
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=inner,
        unk_token="<|unk|>",
        pad_token="<|endoftext|>",
        eos_token="<|im_end|>",
        additional_special_tokens=[BEGIN, "<|im_start|>"],
    )
    tokenizer.chat_template = TEMPLATE
    return tokenizer


def special_ids(tokenizer: Any) -> dict[str, int]:
    """Vocabulary size and special tokens, as arguments of a library configuration."""
    return {
        "vocab_size": len(tokenizer),
        "eos_token_id": tokenizer.eos_token_id,
        "bos_token_id": tokenizer.convert_tokens_to_ids(BEGIN),
        "pad_token_id": tokenizer.pad_token_id,
    }


def conversation(
    tokenizer: Any, question: Question, orders: np.random.RandomState | None = None
) -> Row:
    """A whole conversation, in which the user then asks the same again and again.

    So what follows an answer is read from the caches or states, too.

    Args:
        tokenizer: from `build_tokenizer`.
        question: what it is about.
        orders: draws another order for the words of a note each time; the same one without.
    """

    def chat(text: str) -> str:
        turn = [{"role": "user", "content": text}]
        found = tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True)
        return str(found) + question.prefix

    answer = question.response + "<|im_end|>"
    turns = (question.again if orders is None else question.reordered(orders) for _ in range(TIMES))
    again = "".join("\n" + chat(turn).removeprefix(BEGIN) + answer for turn in turns)
    prompt, response, rest = (
        tokenizer(text, add_special_tokens=False)["input_ids"]
        for text in (chat(question.turn), answer, again)
    )
    rest = rest[: CONTINUED - len(response)]
    weights = [PROMPT_WEIGHT] * len(prompt) + [ANSWER_WEIGHT] * len(response)
    weights += [CONTINUED_WEIGHT] * len(rest)
    return prompt + response + rest, weights


def batches(
    tokenizer: Any, tasks: Sequence[str], seed: int, reordered: bool = False
) -> Iterator[list[Row]]:
    """Batches of conversations of like length, tasks mixed, without end.

    Args:
        tokenizer: from `build_tokenizer`.
        tasks: all that are taught; those that are named twice, twice as much.
        seed: of the questions.
        reordered: whether notes are repeated in other orders; see `conversation`.
    """
    streams = [
        source(task).stream(np.random.RandomState([seed, n]), "training")
        for n, task in enumerate(tasks)
    ]
    random = np.random.RandomState(seed)
    orders = random if reordered else None
    while True:
        pool = [
            conversation(tokenizer, next(streams[i % len(streams)]), orders)
            for i in range(POOL * BATCH)
        ]
        pool.sort(key=lambda item: len(item[0]))
        cuts = [pool[i : i + BATCH] for i in range(0, len(pool), BATCH)]
        for i in random.permutation(len(cuts)):
            yield cuts[i]


def loss_of(model: Any, batch: list[Row], pad: int) -> torch.Tensor:
    """Mean loss of foretelling the tokens of some conversations, each as much as it counts."""
    longest = max(len(ids) for ids, _ in batch)
    ids = torch.tensor([row + [pad] * (longest - len(row)) for row, _ in batch])
    weights = torch.tensor([row + [0.0] * (longest - len(row)) for _, row in batch])
    logits = model(input_ids=ids, use_cache=False).logits
    loss = F.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten(), reduction="none")
    weights = weights[:, 1:].flatten()
    return (loss * weights).sum() / weights.sum()


def train(
    model: Any, rows: Iterator[list[Row]], pad: int, pins: Pins, steps: int, rate: float
) -> None:
    """Train on a mixture of the five tasks, held-out questions left out.

    Args:
        model: a library model, float32.
        rows: from `batches`.
        pad: token that fills rows up.
        pins: what holds some of the model's weights.
        steps: how many batches.
        rate: peak learning rate.
    """
    optimiser = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.01, betas=(0.9, 0.98))
    pins.tie(optimiser)
    began = time.process_time()
    losses: collections.deque[float] = collections.deque(maxlen=REPORT)
    model.train()
    for step, batch in enumerate(itertools.islice(rows, steps), 1):
        pace = min(step / 50, 0.51 + 0.49 * math.cos(math.pi * step / steps))
        for group in optimiser.param_groups:
            group["lr"] = rate * pace
        loss = loss_of(model, batch, pad)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        losses.append(float(loss.detach()))
        if step % REPORT == 0:
            mean, seconds = sum(losses) / len(losses), time.process_time() - began
            print(f"step {step}: loss {mean:.3f}, {seconds:.0f} s", flush=True)
    model.eval()


def save(model: Any, tokenizer: Any, name: str) -> Path:
    """Round the weights to bfloat16, in which the full model computes, and write the miniature."""
    folder = bundled_path(name)
    folder.mkdir(parents=True, exist_ok=True)
    model.to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    for path in folder.glob("*.safetensors"):
        path.chmod(0o644)  # safetensors makes them private, and a wheel would keep that
    return folder


def profile_of(task: str, family: str) -> ProfileSpec:
    """The tiny profile of a task through a family."""
    return load_scenario(f"{task}-{family}").profile("tiny")


def evaluate(model: TextFamily, family: str) -> dict[str, dict[str, float]]:
    """Score a miniature on every task's test split, as the plain model.

    Returns:
        Per task its exact-match score, and that of always giving the commonest answer.
    """
    scores = {}
    for task in TASKS:
        profile = profile_of(task, family)
        samples = source(task)(profile).select("test", profile.samples.test)
        read = last_number if task == "gsm8k" else letter
        right = [
            read(model.plain(sample.inputs).prediction) == sample.reference["answer"]
            for sample in samples
        ]
        commonest = collections.Counter(s.reference["answer"] for s in samples).most_common(1)
        scores[task] = {
            "score": sum(right) / len(right),
            "baseline": commonest[0][1] / len(samples),
        }
    return scores


def record(folder: Path, **fields: Any) -> None:
    """Write how the miniature was made and what it scores."""
    text = json.dumps(fields, indent=2)
    (folder / "training.json").write_text(text + "\n", "utf-8")
    print(text)


def untie(model: Any, stream: Stream) -> None:
    """Give a trained model a head of its own, which later changes of the embedding leave alone.

    Training goes faster with one table for both; the full models have two.
    """
    model.lm_head.weight = torch.nn.Parameter(stream.embedding.weight.detach().clone())
    model.config.tie_word_embeddings = False


@torch.no_grad()
def deviation(model: Any, stream: Stream, rows: list[Row]) -> torch.Tensor:
    """Deviation [D] of the channels between tokens, before the last layer.

    Args:
        model: a trained library model.
        stream: its parts.
        rows: some conversations.
    """
    kept: list[torch.Tensor] = []
    hook = stream.layers[-1].register_forward_pre_hook(lambda _, given: kept.append(given[0][0]))
    for ids, _ in rows:
        model(input_ids=torch.tensor([ids]), use_cache=False)
    hook.remove()
    return torch.cat(kept).std(0)


@dataclass(frozen=True)
class Recipe:
    """How to make a language miniature.

    Attributes:
        name: of the family and of the miniature's folder.
        family: loads what was saved.
        build: makes a library model, with random weights, for a tokenizer.
        stream: finds the parts of such a model.
        imprint: gives a trained model uneven features, from a seed.
        tasks: what is taught; see `batches`.
        steps: batches by default.
        gain: of the norms at the start; see `prepare`.
        sink: what the token at position 0 gets; see `sink_token`.
        far: how far its other channels are moved; see `sink_token`.
        reordered: whether what follows an answer repeats a note's words in other orders. Several
            tokens are then as likely, as in natural text, and which is the likeliest turns on
            every layer's caches; repeated in the same order, the first layers' tell it alone.
        training: makes a context to train in, and only that.
    """

    name: str
    family: type[TextFamily]
    build: Callable[[Any], Any]
    stream: Callable[[Any], Stream]
    imprint: Callable[[Stream, int], None]
    tasks: Sequence[str]
    steps: int
    gain: float
    sink: float
    far: float
    reordered: bool = False
    training: Callable[[], AbstractContextManager[None]] = nullcontext


def run(recipe: Recipe, arguments: Sequence[str] | None) -> None:
    """Train a language miniature, save it, and record the scores of what was saved.

    Args:
        recipe: how to make it.
        arguments: of the command line.
    """
    parser = argparse.ArgumentParser(description=f"Train the {recipe.name} miniature.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=recipe.steps)
    parser.add_argument("--threads", type=int, default=1, help="other counts round otherwise")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    tokenizer = build_tokenizer()
    model = recipe.build(tokenizer)
    stream, pins = recipe.stream(model), Pins()
    prepare(stream, pins, recipe.gain, options.seed)
    began = time.process_time()
    with recipe.training():
        rows = batches(tokenizer, recipe.tasks, options.seed, recipe.reordered)
        train(model, rows, tokenizer.pad_token_id, pins, options.steps, rate=3e-3)
    seconds = time.process_time() - began
    recipe.imprint(stream, options.seed)
    few = next(batches(tokenizer, recipe.tasks, options.seed, recipe.reordered))
    usual = deviation(model, stream, few)
    untie(model, stream)
    begin = tokenizer.convert_tokens_to_ids(BEGIN)
    sink_token(stream, begin, recipe.sink, usual, recipe.far, options.seed)
    folder = save(model, tokenizer, recipe.name)
    saved = recipe.family.load(profile_of("arc", recipe.name))
    record(
        folder,
        seed=options.seed,
        steps=options.steps,
        threads=options.threads,
        cpu_seconds=round(seconds),
        parameters=saved.parameters_total,
        held_out=evaluate(saved, recipe.name),
        revision=saved.revision,
    )
