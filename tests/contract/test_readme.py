"""Every command and every line of Python in the README runs as it stands."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text("utf-8")
# The runs that CI itself consists of; a test cannot run the test suite.
BY_CI = {"make test"}


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def commands() -> list[str]:
    return [line for block in blocks("sh") for line in block.splitlines()]


@pytest.mark.parametrize("command", [c for c in commands() if c not in BY_CI])
def test_commands_run(command: str, real_archive: Path) -> None:
    words = shlex.split(command)
    if words[0] == "make":
        # In the repository, but never into the archive that may already be there.
        words = [word for word in words if not word.startswith("ARCHIVE=")]
        words += (
            [f"ARCHIVE={real_archive}"]
            if len(words) == 3
            else [f"ARCHIVE={real_archive.parent / 'small'}"]
        )
        cwd = ROOT
    else:
        words = [sys.executable, "-m", *words]
        cwd = real_archive.parent
    done = subprocess.run(words, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("code", blocks("python"))
def test_python_runs(code: str, real_archive: Path, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(code, "utf-8")
    done = subprocess.run(
        [sys.executable, script],
        cwd=real_archive.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_ci_runs_the_rest() -> None:
    script = (ROOT / ".ci" / "run").read_text("utf-8")
    assert all(command in script for command in BY_CI)
