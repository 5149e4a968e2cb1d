import numpy as np
import pytest

from extraction.sources.digits_vqa import (
    MAX_COLUMNS,
    MAX_ROWS,
    WORDS,
    DigitsVqa,
    compose,
    kind_of,
    pools,
    question_only_answers,
)
from lamofcbench.errors import SourceError
from lamofcbench.spec import load_scenario

COUNTS = {"calibration": 32, "test": 100, "train": 256}


@pytest.fixture(scope="module")
def source():
    return DigitsVqa(load_scenario("vqa-mllm").profile("tiny"))


@pytest.fixture(scope="module")
def selected(source):
    return {split: source.select(split, count) for split, count in COUNTS.items()}


def digits_of(samples):
    return {int(g) for s in samples for g in s.source_id.partition(":")[2].split(",")}


def test_splits_share_neither_questions_nor_digits(selected):
    for left in COUNTS:
        for right in COUNTS:
            if left < right:
                ours, theirs = selected[left], selected[right]
                assert not {s.sha256 for s in ours} & {s.sha256 for s in theirs}
                assert not {s.id for s in ours} & {s.id for s in theirs}
                assert not digits_of(ours) & digits_of(theirs)


def test_digits_come_from_the_pool_of_the_split(selected):
    for split, glyphs in pools().items():
        assert digits_of(selected[split]) <= set(glyphs.index.tolist())


def test_no_image_and_question_twice(selected):
    for samples in selected.values():
        assert len({s.sha256 for s in samples}) == len(samples)
        assert len({(s.inputs["image"].tobytes(), s.inputs["question"]) for s in samples}) == len(
            samples
        )


def test_a_shorter_selection_begins_a_longer_one_and_repeats(source, selected):
    for split, samples in selected.items():
        again = source.select(split, 20)
        assert [s.sha256 for s in again] == [s.sha256 for s in samples[:20]]
        assert [s.id for s in again] == [s.id for s in samples[:20]]
        for a, b in zip(again, samples, strict=False):
            np.testing.assert_array_equal(a.inputs["image"], b.inputs["image"])
            assert a.inputs["question"] == b.inputs["question"]
            assert a.reference == b.reference


def test_samples_have_the_declared_form(selected):
    for sample in selected["test"]:
        image = sample.inputs["image"]
        assert image.dtype == np.uint8
        assert image.shape[0] in range(16, 16 * MAX_ROWS + 1, 16)
        assert image.shape[1] in range(16, 16 * MAX_COLUMNS + 1, 16)
        answers = sample.reference["answers"]
        assert len(answers) == 10
        assert len(set(answers)) == 1
        assert answers[0] in WORDS
        assert "\n" not in sample.summary


def test_answers_are_read_off_the_labels():
    rng = np.random.default_rng(5)
    glyphs = pools()["test"]
    kinds = set()
    for _ in range(400):
        puzzle = compose(rng, glyphs)
        kinds.add(puzzle.kind)
        assert kind_of(puzzle.question) == puzzle.kind
        if puzzle.kind == "cell":
            row, column = (int(w) for w in puzzle.question.rstrip("?").split() if w.isdigit())
            assert puzzle.answer == WORDS[puzzle.labels[row - 1, column - 1]]
        elif puzzle.kind == "rows":
            assert puzzle.answer == WORDS[puzzle.labels.shape[0]]
        elif puzzle.kind == "last":
            assert puzzle.answer == WORDS[puzzle.labels[-1, -1]]
    assert len(kinds) == 7


def test_pools_are_disjoint_and_hold_all_classes():
    parts = pools()
    sizes = {name: len(glyphs.index) for name, glyphs in parts.items()}
    assert sizes["train"] == 1409
    assert sizes["test"] + sizes["calibration"] == 388
    assert len(set(np.concatenate([g.index for g in parts.values()]).tolist())) == 1797
    assert all(set(g.labels.tolist()) == set(range(10)) for g in parts.values())


def test_baseline_gives_the_most_frequent_answer_of_a_kind():
    pairs = [("first digit?", "two"), ("first digit?", "one"), ("first digit?", "two")]
    assert question_only_answers([*pairs, ("how many rows?", "one")]) == {
        "first": "two",
        "rows": "one",
    }


def test_strange_requests_are_refused(source):
    with pytest.raises(SourceError, match="no split"):
        source.select("validation", 1)
    with pytest.raises(SourceError, match="worded"):
        kind_of("who is in the picture?")
