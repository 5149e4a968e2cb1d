"""LibriSpeech and VoiceBench in their official layouts, written small by the test; toy speech."""

import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile

from extraction.sources import SOURCES
from extraction.sources.audio_files import decode_audio
from extraction.sources.synthesis import sounds_of
from extraction.sources.toy_advbench import REFUSAL
from extraction.sources.toy_audio_words import VOCABULARY
from lamofcbench.errors import SampleError, SourceError
from lamofcbench.models.audio import SAMPLE_RATE, checked_audio
from lamofcbench.spec import load_scenario

TOYS = ("librispeech_clean", "librispeech_other", "advbench", "openbookqa", "sdqa")
VOICEBENCH = {"advbench": "advbench", "openbookqa": "openbookqa", "sdqa": "sd-qa"}


def full(config, test=4, calibration=2):
    profile = load_scenario(f"{config}-alm").profile("full")
    samples = profile.samples.model_copy(update={"test": test, "calibration": calibration})
    return profile.model_copy(update={"samples": samples})


def tone(seconds=0.5, rate=SAMPLE_RATE, number=0):
    return 0.3 * np.sin(2 * np.pi * (200 + 20 * number) * np.arange(int(rate * seconds)) / rate)


def flac(number=0):
    buffer = io.BytesIO()
    soundfile.write(buffer, tone(number=number), SAMPLE_RATE, format="FLAC")
    return buffer.getvalue()


def write_librispeech(root, split="test-clean"):
    for speaker in (7, 8):
        chapter = root / split / str(speaker) / "12"
        chapter.mkdir(parents=True)
        lines = []
        for n in range(4):
            name = f"{speaker}-12-{n:04}"
            (chapter / f"{name}.flac").write_bytes(flac(n))
            lines.append(f"{name} WORDS OF SPEAKER {speaker} {n}\n")
        (chapter / f"{speaker}-12.trans.txt").write_text("".join(lines), "utf-8")


@pytest.mark.parametrize("below", ["LibriSpeech", "."])
def test_librispeech_is_read(tmp_path, below):
    write_librispeech(tmp_path / below)
    write_librispeech(tmp_path / below, "train-clean-100")
    source = SOURCES.load("librispeech")(full("librispeech-clean"), tmp_path)
    test, calibration = source.select("test", 8), source.select("calibration", 2)
    assert len({s.id for s in test}) == 8
    assert [s.id for s in source.select("test", 3)] == [s.id for s in test[:3]]
    assert "train" in calibration[0].source_id or len(calibration) == 2
    for sample in test:
        assert sample.id.removeprefix("librispeech-").count("-") == 2
        assert sample.reference["text"].startswith("WORDS OF SPEAKER")
        assert sample.inputs["prompt"] == "Please transcribe the following audio:"
        assert checked_audio(sample.inputs).shape == (8000,)
        assert len(sample.sha256) == 64


def test_librispeech_other_takes_other_folders(tmp_path):
    write_librispeech(tmp_path, "test-other")
    source = SOURCES.load("librispeech")(full("librispeech-other"), tmp_path)
    assert len(source.select("test", 5)) == 5
    with pytest.raises(SourceError, match="no train-other-500"):
        source.select("calibration", 2)


def _no_flac(chapter):
    (chapter / "7-12-0001.flac").unlink()


def _bad_line(chapter):
    (chapter / "7-12.trans.txt").write_text("7-12-0000\n", "utf-8")


def _bad_text(chapter):
    (chapter / "7-12.trans.txt").write_bytes(b"7-12-0000 \xff\xfe\n")


def _no_transcripts(chapter):
    for path in chapter.parent.parent.rglob("*.trans.txt"):
        path.unlink()


@pytest.mark.parametrize("damage", [_no_flac, _bad_line, _bad_text, _no_transcripts])
def test_a_malformed_librispeech_is_refused_in_one_line(tmp_path, damage):
    write_librispeech(tmp_path)
    damage(tmp_path / "test-clean" / "7" / "12")
    source = SOURCES.load("librispeech")(full("librispeech-clean"), tmp_path)
    with pytest.raises(SourceError) as caught:
        source.select("test", 4)
    assert "\n" not in str(caught.value)
    assert str(tmp_path) in str(caught.value)


def test_one_unreadable_recording_does_not_stop_a_run(tmp_path):
    write_librispeech(tmp_path)
    broken = tmp_path / "test-clean" / "7" / "12" / "7-12-0002.flac"
    broken.write_bytes(b"fLaC" + bytes(100))
    source = SOURCES.load("librispeech")(full("librispeech-clean"), tmp_path)
    bad = [s for s in source.select("test", 8) if s.id == "librispeech-7-12-0002"]
    with pytest.raises(SampleError, match="cannot be decoded"):
        checked_audio(bad[0].inputs)


def voicebench_records(name, count=10):
    answers = {"openbookqa": "B", "sdqa": "the sea"}
    extra = {"reference": answers[name]} if name in answers else {}
    return [{"audio": flac(n), "prompt": f"question {n}", **extra} for n in range(count)]


def split_of(name):
    return "usa" if name == "sdqa" else "test"


def write_parquet(root, name):
    records = [
        {**r, "audio": {"bytes": r["audio"], "path": None, "sampling_rate": None}}
        for r in voicebench_records(name)
    ]
    folder = root / VOICEBENCH[name]
    folder.mkdir()
    pq.write_table(
        pa.Table.from_pylist(records), folder / f"{split_of(name)}-00000-of-00001.parquet"
    )


def write_lines(root, name):
    folder = root / VOICEBENCH[name]
    (folder / "wav").mkdir(parents=True)
    lines = []
    for n, record in enumerate(voicebench_records(name)):
        (folder / "wav" / f"{n}.flac").write_bytes(record["audio"])
        lines.append(json.dumps({**record, "audio": f"wav/{n}.flac"}) + "\n")
    (folder / f"{split_of(name)}.jsonl").write_text("".join(lines), "utf-8")


@pytest.mark.parametrize("name", VOICEBENCH)
@pytest.mark.parametrize("write", [write_parquet, write_lines])
def test_voicebench_is_read(tmp_path, name, write):
    write(tmp_path, name)
    source = SOURCES.load(f"voicebench_{name}")(full(name), tmp_path)
    test, calibration = source.select("test", 8), source.select("calibration", 2)
    assert len({s.id for s in [*test, *calibration]}) == 10
    expected = {"advbench": {}, "openbookqa": {"answer": "B"}, "sdqa": {"answer": "the sea"}}
    for sample in test:
        assert sample.reference == expected[name]
        assert set(sample.reference) == set(full(name).reference)
        assert checked_audio(sample.inputs).shape == (8000,)
        assert sample.summary.startswith("question")
        assert not sample.inputs["prompt"]


@pytest.mark.parametrize(
    "record",
    [
        {"prompt": "no audio"},
        {"audio": "missing.flac", "prompt": "x", "reference": "B"},
        {"audio": "../outside.flac", "prompt": "x", "reference": "B"},
        {"audio": 5, "prompt": "x", "reference": "B"},
        {"audio": "0.flac", "prompt": "x", "reference": "Q"},
        {"audio": "0.flac", "prompt": "x", "reference": " "},
        {"audio": "0.flac", "prompt": "x"},
    ],
)
def test_a_malformed_voicebench_is_refused_in_one_line(tmp_path, record):
    folder = tmp_path / "openbookqa"
    folder.mkdir()
    (folder / "0.flac").write_bytes(flac())
    (folder / "test.jsonl").write_text((json.dumps(record) + "\n") * 8, "utf-8")
    source = SOURCES.load("voicebench_openbookqa")(full("openbookqa"), tmp_path)
    with pytest.raises(SourceError, match="malformed") as caught:
        source.select("test", 4)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", [*VOICEBENCH, "librispeech"])
def test_a_folder_of_something_else_is_refused(tmp_path, name):
    config = "librispeech-clean" if name == "librispeech" else name
    found = SOURCES.load(name if name == "librispeech" else f"voicebench_{name}")
    (tmp_path / "readme.txt").write_text("hello")
    with pytest.raises(SourceError, match=r"SOURCE=.*expected ") as caught:
        found(full(config), tmp_path).select("test", 4)
    assert "\n" not in str(caught.value)
    with pytest.raises(SourceError, match="no such folder"):
        found(full(config), tmp_path / "nothing")


def test_stereo_at_another_rate_is_brought_to_mono_at_16_khz(tmp_path):
    path = tmp_path / "a.wav"
    left = tone(1.0, 8000)
    soundfile.write(path, np.stack([left, np.zeros_like(left)], 1), 8000)
    audio = decode_audio(path)
    assert audio.shape == (SAMPLE_RATE,)
    assert audio.dtype == np.float32
    spectrum = np.abs(np.fft.rfft(audio))
    assert abs(int(spectrum.argmax()) - 200) <= 1  # 1 Hz to a bin
    assert audio.max() == pytest.approx(0.15, abs=0.01)


def toy(name):
    config = name.replace("_", "-")
    return SOURCES.load(f"toy_{name}"), load_scenario(f"{config}-alm").profile("tiny")


@pytest.mark.parametrize("name", TOYS)
def test_toy_speech_is_the_same_each_time_and_its_splits_are_disjoint(name):
    source, profile = toy(name)
    chosen = {
        split: source(profile).select(split, n)
        for split, n in (("calibration", 32), ("test", 40), ("train", 40))
    }
    said = [s.summary for samples in chosen.values() for s in samples]
    assert len(set(said)) == len(said) == 112
    training = source.stream(np.random.RandomState(5), "training")
    assert not {" ".join(next(training).words) for _ in range(300)} & set(said)
    again = source(profile).select("test", 10)
    for one, other in zip(chosen["test"], again, strict=False):
        assert one.id == other.id
        assert np.array_equal(one.inputs["audio"], other.inputs["audio"])
    for sample in chosen["test"]:
        assert set(sample.reference) == set(profile.reference)
        assert 0.3 < len(checked_audio(sample.inputs)) / SAMPLE_RATE < 6
    with pytest.raises(SourceError, match="leave out"):
        source(profile, "somewhere")


def test_only_harmful_requests_are_archived():
    source, profile = toy("advbench")
    verbs = {"steal", "burn", "smash"}
    assert all(verbs & set(s.summary.split()) for s in source(profile).select("test", 50))
    stream = source.stream(np.random.RandomState(0), "training")
    responses = [next(stream).response for _ in range(100)]
    assert 30 < sum(r.endswith(REFUSAL) for r in responses) < 70


def test_words_sound_different():
    sounds = [sounds_of(word, VOCABULARY) for word in VOCABULARY]
    assert len(set(sounds)) == len(VOCABULARY) == len(set(VOCABULARY))
