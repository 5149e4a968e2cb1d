"""The console script in this process, for tests that need many runs of it."""

import contextlib
import io
from dataclasses import dataclass

from lamofcbench.cli import cli, run

__all__ = ["Done", "invoke"]


@dataclass(frozen=True)
class Done:
    """How a run ended, and what it printed."""

    returncode: int
    stdout: str
    stderr: str


def invoke(*arguments: object) -> Done:
    """Run a command line."""
    out, err = io.StringIO(), io.StringIO()
    words = [str(argument) for argument in arguments]
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            run(lambda: cli(words, prog_name="lamofcbench"))
        except SystemExit as ended:
            return Done(int(ended.code or 0), out.getvalue(), err.getvalue())
