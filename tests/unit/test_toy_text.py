"""The generated language questions, and what the miniatures are taught about them."""

import itertools
import math
from collections import Counter

import numpy as np
import pytest
import torch

from extraction.sources.toy_text import NOTED
from extraction.tiny import llm, ssm
from extraction.tiny.pins import Pins
from extraction.tiny.stream import MASSIVE, SINK, prepare
from extraction.tiny.text import (
    BEGIN,
    CONTINUED,
    TASKS,
    build_tokenizer,
    conversation,
    loss_of,
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
        ids, weights = conversation(tokenizer, question)
        assert len(ids) == len(weights)
        assert [i for i, token in enumerate(ids) if token == begin] == [0]
        text = tokenizer.decode(ids)
        _, answer, again = text.split("<|im_end|>", 2)
        assert answer.endswith(question.prefix + question.response)
        turn = f"\n<|im_start|>user\n{question.again}"
        assert again.startswith(turn) or turn.startswith(again)
        assert sum(weight >= 0.5 for weight in weights) == CONTINUED


def test_notes_hold_different_words_by_number() -> None:
    notes = [q.note for q in questions("gsm8k", 50) if q.note]
    assert 25 <= len(notes) < 50
    for note in notes:
        numbers, words = zip(*(item.split() for item in note), strict=True)
        assert list(numbers) == [str(i + 1) for i in range(NOTED)]
        assert len(set(words)) == NOTED


def test_notes_come_in_other_orders_when_asked(tokenizer) -> None:
    question = next(q for q in questions("gsm8k", 50) if q.note)
    random = np.random.RandomState(0)
    orders = {question.reordered(random) for _ in range(200)}
    assert len(orders) == math.factorial(NOTED)
    for text in orders:
        assert sorted(text.split()) == sorted(question.again.split())
    same, _ = conversation(tokenizer, question)
    other, _ = conversation(tokenizer, question, random)
    prompt = tokenizer.decode(same).split("<|im_end|>", 2)[0]
    assert tokenizer.decode(other).startswith(prompt)
    assert other != same


@pytest.mark.parametrize("recipe", [llm.RECIPE, ssm.RECIPE], ids=["llm", "ssm"])
def test_massive_channels_stay_while_the_rest_is_trained(recipe, tokenizer) -> None:
    torch.manual_seed(0)
    model, pins = recipe.build(tokenizer), Pins()
    stream = recipe.stream(model)
    prepare(stream, pins, recipe.gain, seed=0)
    before = stream.embedding.weight.detach().clone()
    optimiser = torch.optim.AdamW(model.parameters(), lr=0.01)
    pins.tie(optimiser)
    with quiet(), recipe.training():
        batch = [conversation(tokenizer, q) for q in questions("gsm8k", 2)]
        loss_of(model, batch, tokenizer.pad_token_id).backward()
        optimiser.step()
    after = stream.embedding.weight.detach()
    held = [*MASSIVE, SINK]
    assert torch.equal(after[:, held], before[:, held])
    assert not torch.equal(after[5], before[5])
    for channel, value in MASSIVE.items():
        assert (after[:, channel] / value - 1).abs().max() <= 0.25
    assert not after[:, SINK].any()
    assert not stream.last.weight[held].any()
    for writer in stream.writers:
        assert not writer.weight[held].any()
