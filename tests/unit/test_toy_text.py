"""The generated language questions, and what the miniatures are taught about them."""

import itertools
from collections import Counter

import numpy as np
import pytest
import torch

from extraction.sources.toy_text import NOTED, lettered
from extraction.tiny import llm, ssm
from extraction.tiny.massive import MASSIVE, SINK, prepare
from extraction.tiny.pins import Pins
from extraction.tiny.text import (
    BEGIN,
    CONTINUED,
    TASKS,
    Learner,
    build_tokenizer,
    conversation,
    profile_of,
    source,
)
from lamofcbench.models.quiet import quiet

LETTERED = [task for task in TASKS if task != "gsm8k"]


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer()


def questions(task: str, count: int) -> list:
    stream = source(task).stream(np.random.RandomState(0), "training")
    return list(itertools.islice(stream, count))


def test_choices_are_shuffled_and_the_letter_follows() -> None:
    found = set()
    for seed in range(20):
        question = lettered("which ?", ["no", "yes", "never"], 1, "so", np.random.RandomState(seed))
        found.add(question.answer)
        assert f"{question.answer}. yes" in question.prompt
        assert question.response == f" {question.answer}. so"
    assert found == {"A", "B", "C"}


@pytest.mark.parametrize("task", LETTERED)
def test_no_letter_is_right_much_more_often_than_the_others(task: str) -> None:
    counts = Counter(question.answer for question in questions(task, 400))
    assert max(counts.values()) < 1.3 * 400 / len(counts)


@pytest.mark.parametrize("task", TASKS)
def test_lengths_differ_threefold_and_stay_within_bounds(task: str, tokenizer) -> None:
    for family in ("llm", "ssm"):
        profile = profile_of(task, family)
        samples = source(task)(profile).select("test", profile.samples.test)
        lengths = [
            len(tokenizer.apply_chat_template(turn, add_generation_prompt=True)["input_ids"])
            for turn in ([{"role": "user", "content": s.inputs["prompt"]}] for s in samples)
        ]
        assert max(lengths) >= 3 * min(lengths)
        assert max(lengths) + 8 <= profile.ragged["token"].max
        assert len({s.inputs["prompt"] for s in samples}) == len(samples)


@pytest.mark.parametrize("task", TASKS)
def test_what_follows_an_answer_repeats_the_turn(task: str, tokenizer) -> None:
    begin = tokenizer.convert_tokens_to_ids(BEGIN)
    for question in questions(task, 20):
        ids, weights, choices = conversation(tokenizer, question, CONTINUED)
        assert len(ids) == len(weights) == len(choices)
        assert [i for i, token in enumerate(ids) if token == begin] == [0]
        text = tokenizer.decode(ids)
        _, answer, again = text.split("<|im_end|>", 2)
        assert answer.endswith(question.prefix + question.response)
        turn = f"\n<|im_start|>user\n{question.turn}"
        assert again.startswith(turn) or turn.startswith(again)
        assert sum(weight >= 0.5 for weight in weights) <= CONTINUED
        plain, _, _ = conversation(tokenizer, question, 0)
        assert tokenizer.decode(plain).endswith(question.response + "<|im_end|>")


def test_choices_are_told_to_the_probe(tokenizer) -> None:
    question = next(q for q in questions("arc", 20) if q.before)
    ids, _, choices = conversation(tokenizer, question, CONTINUED)
    lines = [line for line in question.prompt.split("\n") if line[:2] in ("A.", "B.", "C.", "D.")]
    for number, line in enumerate(lines):
        marked = [token for token, choice in zip(ids, choices, strict=True) if choice == number]
        assert tokenizer.decode(marked) == line[1:]


def test_notes_hold_different_words() -> None:
    for question in questions("gsm8k", 50):
        for line in question.before:
            if line.startswith("note"):
                assert len(set(line.split()[2:])) == NOTED


@pytest.mark.parametrize("recipe", [llm.RECIPE, ssm.RECIPE], ids=["llm", "ssm"])
def test_massive_channels_stay_while_the_rest_is_trained(recipe, tokenizer) -> None:
    torch.manual_seed(0)
    model, pins = recipe.build(tokenizer), Pins()
    stream = recipe.stream(model)
    prepare(stream, pins, recipe.gain, [3, 4], seed=0)
    learner = Learner(model, stream, tokenizer.pad_token_id)
    before = stream.embedding.weight.detach().clone()
    optimiser = torch.optim.AdamW(learner.parameters(), lr=0.01)
    pins.tie(optimiser)
    with quiet(), recipe.training():
        batch = [conversation(tokenizer, q, CONTINUED) for q in questions("gsm8k", 2)]
        learner.loss(batch).backward()
        optimiser.step()
    after = stream.embedding.weight.detach()
    held = [*MASSIVE, SINK]
    assert torch.equal(after[:, held], before[:, held])
    assert torch.equal(after[[3, 4]], before[[3, 4]])
    assert not torch.equal(after[5], before[5])
    for channel, value in MASSIVE.items():
        assert (after[:, channel] / value - 1).abs().max() <= 0.25
    assert not after[:, SINK].any()
    assert not stream.last.weight[held].any()
    for writer in stream.writers:
        assert not writer.weight[held].any()
