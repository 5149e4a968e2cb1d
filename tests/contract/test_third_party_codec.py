"""A codec of another package, found by its entry point alone."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

MODULE = '''
import os
import time
from lamofcbench.codecs.raw import Raw


class Mirrored(Raw):
    """Bytes in reverse; says what it does, and takes its time, if the environment asks."""

    name = "mirrored"

    def _encode(self, array):
        if "MIRRORED_LOG" in os.environ:
            with open(os.environ["MIRRORED_LOG"], "a") as log:
                log.write("x")
            time.sleep(float(os.environ.get("MIRRORED_SLEEP", "0")))
        return super()._encode(array)[::-1]

    def _decode(self, payload, dtype, count):
        return super()._decode(payload[::-1], dtype, count)


class Other(Mirrored):
    name = "mirrored-twice"
'''


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for the path that holds a package with two codecs."""
    folder = tmp_path_factory.mktemp("package")
    (folder / "toy_mirrored.py").write_text(MODULE)
    about = folder / "toy_mirrored-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: toy-mirrored\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(
        "[lamofcbench.codecs]\n"
        "mirrored = toy_mirrored:Mirrored\nmirrored-twice = toy_mirrored:Other\n"
    )
    return folder


def environment(package: Path, **more: str) -> dict[str, str]:
    path = os.pathsep.join([str(package), os.environ.get("PYTHONPATH", "")])
    return {**os.environ, "PYTHONPATH": path, **more}


def test_it_passes_the_contract_suite(package: Path) -> None:
    suite = Path(__file__).with_name("test_codecs.py")
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-k", "mirrored", suite]
    done = subprocess.run(
        command, env=environment(package), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
    assert "skipped" not in done.stdout


def test_a_killed_board_goes_on_without_repeating_what_was_finished(
    package: Path, real_archive: Path, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    samples, keys = 3, 11
    command = [
        *(sys.executable, "-m", "lamofcbench", "bench", "arc-llm", "--archive", real_archive),
        *("--codec", "mirrored", "--codec", "mirrored-twice", "--samples", f"0:{samples}"),
        *("--out", tmp_path / "r.json", "--workers", "1"),
    ]
    slow = environment(package, MIRRORED_LOG=str(log), MIRRORED_SLEEP="0.02")
    # What every decoder holds is left out, then everything is coded: two encodings a sample.
    once = 2 * samples * keys

    def count() -> int:
        return len(log.read_text()) if log.is_file() else 0

    process = subprocess.Popen(command, env=slow, start_new_session=True)
    part = tmp_path / "r.parts" / "arc-llm.default.json"

    def finished() -> list[str]:
        rows = json.loads(part.read_text("utf-8"))["rows"] if part.is_file() else []
        return [row["point"] for row in rows]

    while "mirrored" not in finished() and process.poll() is None:
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert finished() == ["uncoded", "mirrored"]
    before = count()
    assert once <= before < 2 * once

    fast = environment(package, MIRRORED_LOG=str(log))
    subprocess.run(command, env=fast, check=True, capture_output=True)
    assert count() - before == once
    rows = json.loads((tmp_path / "r.json").read_text("utf-8"))["rows"]
    assert [row["codec"] for row in rows] == ["uncoded", "mirrored", "mirrored-twice"]
    # The longer name is in every bitstream; the rest is the same.
    assert rows[2]["bpfp"] == pytest.approx(rows[1]["bpfp"], rel=1e-3)
    assert rows[1]["agree_rest"] == 1

    # A finished board is taken over whole, and grows.
    subprocess.run([*command, "--codec", "raw"], env=fast, check=True, capture_output=True)
    assert count() - before == once
    grown = json.loads((tmp_path / "r.json").read_text("utf-8"))["rows"]
    assert grown[:3] == rows
    assert grown[3]["codec"] == "raw"
