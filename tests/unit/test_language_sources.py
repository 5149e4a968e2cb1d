"""The five language data sets in their official layouts, written small by the test."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from extraction.sources import SOURCES
from lamofcbench.errors import SourceError
from lamofcbench.spec import ProfileSpec
from tests import stores

GSM8K = Path(__file__).parents[2].parent / "shared" / "data" / "gsm8k"


def profile(name: str, split: str, calibration: str, seed: int = 0) -> ProfileSpec:
    whole = stores.profile()
    source = whole.source.model_copy(
        update={"name": name, "split": split, "calibration_split": calibration, "seed": seed}
    )
    samples = whole.samples.model_copy(update={"calibration": 2, "test": 4, "train": 0})
    return whole.model_copy(update={"source": source, "samples": samples})


def lines(path: Path, records: list[Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(record) + "\n" for record in records), "utf-8")


def parquet(path: Path, records: list[Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(records), path)


def arc_record(i: int) -> dict[str, Any]:
    choices = {"text": ["ice", "fire", f"thing {i}"], "label": ["1", "2", "3"]}
    return {"id": f"Q{i}", "question": f"What is {i}?", "choices": choices, "answerKey": "2"}


def arc_release(i: int) -> dict[str, Any]:
    flat = arc_record(i)
    choices = [
        {"text": text, "label": label}
        for text, label in zip(*flat["choices"].values(), strict=True)
    ]
    stem = {"stem": flat["question"], "choices": choices}
    return {"id": flat["id"], "question": stem, "answerKey": "2"}


def gsm8k_record(i: int) -> dict[str, Any]:
    return {"question": f"{i} apples and one?", "answer": f"That is\n#### 1,{i:03}"}


def hellaswag_record(i: int) -> dict[str, Any]:
    return {
        "ind": i,
        "activity_label": "Running",
        "ctx": f"{i} people run",
        "endings": ["and stop", "and fly", "and sink", "and sing"],
        "label": str(i % 4),
        "source_id": f"activitynet~{i}",
    }


def truthfulqa_record(i: int) -> dict[str, Any]:
    return {"question": f"Is {i} odd?", "mc1_targets": {"true one": 1, "false": 0, "maybe": 0}}


def truthfulqa_flat(i: int) -> dict[str, Any]:
    targets = {"choices": ["true one", "false", "maybe"], "labels": [1, 0, 0]}
    return {"question": f"Is {i} odd?", "mc1_targets": targets}


def winogrande_record(i: int) -> dict[str, Any]:
    sentence = f"The cup and the box {i}: the _ is big."
    return {"qID": f"q{i}", "sentence": sentence, "option1": "cup", "option2": "box", "answer": "2"}


Writer = Callable[[Path], None]


def both(
    write: Callable[[Path, list[Any]], None], make: Callable[[int], Any], test: str, train: str
) -> Writer:
    def layout(folder: Path) -> None:
        write(folder / test, [make(i) for i in range(10)])
        write(folder / train, [make(i + 50) for i in range(5)])

    return layout


def truthfulqa_json(folder: Path) -> None:
    (folder / "mc_task.json").write_text(json.dumps([truthfulqa_record(i) for i in range(10)]))


CASES = {
    "arc-parquet": (
        both(
            parquet,
            arc_record,
            "ARC-Challenge/test-00000-of-00001.parquet",
            "ARC-Challenge/train-00000-of-00001.parquet",
        ),
        "Answer with the letter",
        {"B"},
    ),
    "arc-release": (
        both(lines, arc_release, "ARC-Challenge-Test.jsonl", "ARC-Challenge-Train.jsonl"),
        "B. fire",
        {"B"},
    ),
    "gsm8k-lines": (both(lines, gsm8k_record, "test.jsonl", "train.jsonl"), "apples", None),
    "gsm8k-parquet": (
        both(
            parquet,
            gsm8k_record,
            "main/test-00000-of-00001.parquet",
            "main/train-00000-of-00001.parquet",
        ),
        "apples",
        None,
    ),
    "hellaswag-lines": (
        both(lines, hellaswag_record, "hellaswag_val.jsonl", "hellaswag_train.jsonl"),
        "Which ending follows?",
        set("ABCD"),
    ),
    "truthfulqa-json": (truthfulqa_json, "true one", set("ABC")),
    "truthfulqa-parquet": (
        lambda folder: parquet(
            folder / "multiple_choice/validation-00000-of-00001.parquet",
            [truthfulqa_flat(i) for i in range(10)],
        ),
        "true one",
        set("ABC"),
    ),
    "winogrande-lines": (
        both(lines, winogrande_record, "dev.jsonl", "train_xl.jsonl"),
        "What fills the blank?",
        {"B"},
    ),
}
SPLITS = {
    "arc": ("test", "train"),
    "gsm8k": ("test", "train"),
    "hellaswag": ("validation", "train"),
    "truthfulqa": ("validation", "validation"),
    "winogrande": ("validation", "train"),
}


@pytest.mark.parametrize("case", CASES)
def test_official_layouts_are_read(case: str, tmp_path: Path) -> None:
    write, says, answers = CASES[case]
    write(tmp_path)
    name = case.partition("-")[0]
    source = SOURCES.load(name)(profile(name, *SPLITS[name]), tmp_path)
    test, calibration = source.select("test", 4), source.select("calibration", 2)
    assert [s.id for s in source.select("test", 2)] == [s.id for s in test[:2]]
    assert len({s.id for s in [*test, *calibration]}) == 6
    for sample in test:
        assert says in sample.inputs["prompt"]
        assert sample.inputs["prefix"] == ("" if name == "gsm8k" else "The best answer is")
        assert answers is None or sample.reference["answer"] in answers
        assert len(sample.sha256) == 64
    again = SOURCES.load(name)(profile(name, *SPLITS[name]), tmp_path).select("test", 4)
    assert again == test
    other = SOURCES.load(name)(profile(name, *SPLITS[name], seed=1), tmp_path).select("test", 4)
    assert [s.id for s in other] != [s.id for s in test]


def test_both_layouts_of_arc_give_the_same_samples(tmp_path: Path) -> None:
    made = []
    for case in ("arc-parquet", "arc-release"):
        CASES[case][0](tmp_path / case)
        source = SOURCES.load("arc")(profile("arc", "test", "train"), tmp_path / case)
        made.append([(s.id, s.inputs, s.reference) for s in source.select("test", 4)])
    assert made[0] == made[1]


def test_truthful_answers_are_not_always_the_first(tmp_path: Path) -> None:
    truthfulqa_json(tmp_path)
    source = SOURCES.load("truthfulqa")(profile("truthfulqa", *SPLITS["truthfulqa"]), tmp_path)
    samples = source.select("test", 8)
    assert {s.reference["answer"] for s in samples} == {"A", "B", "C"}
    for sample in samples:
        assert f"{sample.reference['answer']}. true one" in sample.inputs["prompt"]


def test_numbers_lose_their_commas(tmp_path: Path) -> None:
    CASES["gsm8k-lines"][0](tmp_path)
    source = SOURCES.load("gsm8k")(profile("gsm8k", "test", "train"), tmp_path)
    assert {s.reference["answer"] for s in source.select("test", 10)} == {
        f"1{i:03}" for i in range(10)
    }


def test_a_copy_without_a_train_split_gives_calibration_from_its_end(tmp_path: Path) -> None:
    lines(tmp_path / "test.jsonl", [gsm8k_record(i) for i in range(10)])
    whole = profile("gsm8k", "test", "train")
    fitted = SOURCES.load("gsm8k").fitted(whole, tmp_path)
    assert fitted.source.calibration_split == "test"
    assert "calibration from its end" in fitted.source.selection
    source = SOURCES.load("gsm8k")(fitted, tmp_path)
    chosen = [*source.select("test", 8), *source.select("calibration", 2)]
    assert len({sample.id for sample in chosen}) == 10
    lines(tmp_path / "train.jsonl", [gsm8k_record(i) for i in range(10)])
    assert SOURCES.load("gsm8k").fitted(whole, tmp_path) == whole


@pytest.mark.parametrize("name", SPLITS)
def test_a_folder_of_something_else_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / "readme.txt").write_text("hello")
    source = SOURCES.load(name)(profile(name, *SPLITS[name]), tmp_path)
    with pytest.raises(SourceError, match=r"SOURCE=.*expected ") as caught:
        source.select("test", 4)
    assert "\n" not in str(caught.value)
    with pytest.raises(SourceError, match="no such folder"):
        SOURCES.load(name)(profile(name, *SPLITS[name]), tmp_path / "nothing")


@pytest.mark.parametrize("name", SPLITS)
@pytest.mark.parametrize(
    "text", ['{"question": 3}\n', "not json\n", "[1]\n", "", '{"ctx": "x", "sentence": "y"}\n']
)
def test_a_malformed_file_is_refused(name: str, text: str, tmp_path: Path) -> None:
    source_class = SOURCES.load(name)
    for pattern in source_class.files[SPLITS[name][0]]:
        path = tmp_path / pattern.replace("**/", "").replace("*", "00000-of-00001")
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_text(text * 12, "utf-8")
    with pytest.raises(SourceError) as caught:
        source_class(profile(name, *SPLITS[name]), tmp_path).select("test", 4)
    assert "\n" not in str(caught.value)


def test_too_many_samples_are_refused(tmp_path: Path) -> None:
    truthfulqa_json(tmp_path)
    source = SOURCES.load("truthfulqa")(profile("truthfulqa", *SPLITS["truthfulqa"]), tmp_path)
    with pytest.raises(SourceError, match="8 samples for test, 9 were asked for"):
        source.select("test", 9)


@pytest.mark.skipif(not GSM8K.is_dir(), reason="the real file is not beside the checkout")
def test_the_real_gsm8k_is_read() -> None:
    whole = profile("gsm8k", "test", "test")
    source = SOURCES.load("gsm8k")(whole, GSM8K)
    samples = source.select("test", 1317)
    assert len({s.id for s in samples}) == 1317
    assert all(float(s.reference["answer"]) == float(s.reference["answer"]) for s in samples)
