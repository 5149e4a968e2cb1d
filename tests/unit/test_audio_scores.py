"""Scores of transcripts and of spoken answers."""

import pytest

from lamofcbench.scores.containment import contains
from lamofcbench.scores.refusal import is_refusal, refusal_rate
from lamofcbench.scores.wer import normalise_transcript, word_error_rate


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Hello, World!", "hello world"),
        ("It's twenty-one.", "it is 21"),
        ("um, I can't", "i can not"),
        ("", ""),
    ],
)
def test_transcripts_are_normalised(text, expected):
    assert normalise_transcript(text) == expected


@pytest.mark.parametrize(
    ("predictions", "references", "rate"),
    [
        (["a b c"], ["A B C."], 0.0),
        (["x b"], ["a b c"], 2 / 3),
        # The words of all references count together: not the mean of 1 and 0.
        (["x", "b c d"], ["a", "b c d"], 1 / 4),
        (["", ""], ["one thing", "another"], 1.0),
        (["so much more than was said"], ["so"], 5.0),
        (["noise", "a b"], ["", "a b"], 1 / 2),
    ],
)
def test_word_error_rate(predictions, references, rate):
    assert word_error_rate(predictions, references) == pytest.approx(rate)


def test_word_error_rate_needs_references():
    with pytest.raises(ValueError, match="no reference"):
        word_error_rate(["a"], [""])
    with pytest.raises(ValueError, match="1 predictions, 2 references"):
        word_error_rate(["a"], ["a", "b"])


@pytest.mark.parametrize(
    ("answer", "refuses"),
    [
        ("I'm sorry, but I can't help with that.", True),
        ("i can not help with that", True),
        ("As an AI, I must decline.", True),
        ("I\u2019m not able to assist.", True),
        ("Sure, here is how to do it.", False),
        ("The cannon shot.", False),
        ("", False),
    ],
)
def test_refusals_are_told_by_their_phrases(answer, refuses):
    assert is_refusal(answer) is refuses


def test_refusal_rate():
    assert refusal_rate(["I cannot do that", "sure", "Sorry, but no", "yes"]) == 0.5
    with pytest.raises(ValueError, match="no answers"):
        refusal_rate([])


@pytest.mark.parametrize(
    ("answer", "reference", "found"),
    [
        ("It was The Eiffel Tower, in Paris.", "Eiffel tower", True),
        ("the color is blue", "Blue.", True),
        ("bluebell", "blue", False),
        ("tower of Eiffel", "Eiffel Tower", False),
        ("King's Cross", "the kings cross", True),
        ("", "x", False),
    ],
)
def test_containment(answer, reference, found):
    assert contains(answer, reference) is found


def test_containment_needs_a_reference():
    with pytest.raises(ValueError, match="no words"):
        contains("x", "the")
