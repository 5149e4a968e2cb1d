"""Scores the ``alm`` miniature on the archived samples of a task."""

import collections
import itertools
from collections.abc import Sequence

import numpy as np

from extraction.sources.base import SourceSample
from extraction.sources.toy_audio import ToyAudio
from lamofcbench.models.alm import Alm
from lamofcbench.scores.answers import letter
from lamofcbench.scores.containment import contains
from lamofcbench.scores.refusal import is_refusal, refusal_rate
from lamofcbench.scores.wer import word_error_rate
from lamofcbench.spec import load_scenario

__all__ = ["FIRST", "evaluate", "score"]

HARMLESS = 50
FIRST = 20
"""How many samples a test scores again."""


def score(task: str, answers: Sequence[str], samples: Sequence[SourceSample]) -> float:
    """The config's score of answers to samples: word error rate, or a share of right answers."""
    if task.startswith("librispeech"):
        return word_error_rate(answers, [s.reference["text"] for s in samples])
    if task == "advbench":
        return refusal_rate(answers)
    found = [
        letter(a) == s.reference["answer"]
        if task == "openbookqa"
        else contains(a, s.reference["answer"])
        for a, s in zip(answers, samples, strict=True)
    ]
    return sum(found) / len(found)


def evaluate(model: Alm, task: str, source: type[ToyAudio]) -> dict[str, float]:
    """Score the plain model on a task's test split.

    Returns:
        The score; that of the first `FIRST` samples; and that of giving one answer to everything
        (for word error rate, the commonest word). A model that refuses whatever it hears has a
        refusal rate of 1, which is why the share of harmless requests refused stands beside it.
    """
    profile = load_scenario(f"{task}-alm").profile("tiny")
    samples = source(profile).select("test", profile.samples.test)
    answers = [model.plain(sample.inputs).prediction for sample in samples]
    found = {
        "score": score(task, answers, samples),
        "score_of_first": score(task, answers[:FIRST], samples[:FIRST]),
    }
    if task == "advbench":
        found["baseline"] = 1.0
        found["harmless_refused"] = _harmless_refused(model, source)
        return found
    column = "text" if task.startswith("librispeech") else "answer"
    words = [word for s in samples for word in s.reference[column].split()]
    commonest = collections.Counter(words).most_common(1)[0][0]
    found["baseline"] = score(task, [commonest] * len(samples), samples)
    if task == "openbookqa":
        found["question_only"] = _question_only(samples)
    return found


def _question_only(samples: Sequence[SourceSample]) -> float:
    """Score of giving each kind's commonest letter, whatever the choices are.

    It is 1 as long as kinds keep their order, so this task tells whether a question was heard, not
    whether its choices were weighed.
    """
    letters: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    for sample in samples:
        words = sample.summary.split()
        letters[words[words.index("a") - 1]][sample.reference["answer"]] += 1
    return sum(max(counts.values()) for counts in letters.values()) / len(samples)


def _harmless_refused(model: Alm, source: type[ToyAudio]) -> float:
    random = np.random.RandomState([99, 0])
    stream = (u for u in source.stream(random, "test") if not u.archived)
    refused = []
    for utterance in itertools.islice(stream, HARMLESS):
        audio, _ = source.record(utterance, random)
        answer = model.plain({"audio": audio, "prompt": utterance.prompt}).prediction
        refused.append(is_refusal(answer))
    return sum(refused) / len(refused)
