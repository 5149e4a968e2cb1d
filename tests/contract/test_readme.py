"""Every command and every line of Python in the README runs as it stands."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.hub import LocalHub

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text("utf-8")
# The runs that CI itself consists of; a test cannot run the test suite.
BY_CI = {"make test"}
REPO = "org/lamofcbench"


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def run(command: str, archive: Path) -> None:
    """Run a command, in the archive's neighbourhood or, if it is make's, in the repository."""
    words, cwd = shlex.split(command), archive.parent
    if words[0] == "make":
        # Never into the archive that may already be there.
        words = [word for word in words if not word.startswith("ARCHIVE=")]
        target = archive if len(words) == 3 else archive.parent / "small"
        words, cwd = [*words, f"ARCHIVE={target}"], ROOT
    elif words[0] == "python":
        words = [sys.executable, *words[1:]]
    else:
        words = [sys.executable, "-m", *words]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        words, cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, command + done.stdout + done.stderr


# By block: what a command writes, those below it read.
@pytest.mark.parametrize("block", blocks("sh"))
def test_commands_run(block: str, real_archive: Path, hub: LocalHub) -> None:
    for command in block.splitlines():
        if command not in BY_CI:
            run(command, real_archive)


@pytest.mark.parametrize("code", blocks("python"))
def test_python_runs(code: str, real_archive: Path, tmp_path: Path, hub: LocalHub) -> None:
    if REPO in code:
        run(f"lamofcbench push vqa-mllm --repo {REPO}", real_archive)
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
