"""What the tests of publishing and fetching share."""

import contextlib
import filecmp
import io
import sys
from dataclasses import dataclass
from pathlib import Path

from lamofcbench.cli import main

REPO = "org/features"


@dataclass(frozen=True)
class Done:
    """How a run of the program ended."""

    code: int
    out: str
    err: str


def cli(*arguments: object) -> Done:
    """Run the program in this process, as the console script does."""
    out, err, old = io.StringIO(), io.StringIO(), sys.argv
    sys.argv = ["lamofcbench", *map(str, arguments)]
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            main()
    except SystemExit as error:
        code = int(error.code or 0)
    finally:
        sys.argv = old
    return Done(code, out.getvalue(), err.getvalue())


def succeed(*arguments: object) -> str:
    """Run the program, which must succeed, and return what it printed."""
    done = cli(*arguments)
    assert done.code == 0, done.err
    return done.out


def one_line(done: Done, code: int = 2) -> str:
    """What a failed run says: one line on stderr, and no traceback."""
    assert done.code == code, done
    lines = [line for line in done.err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    assert "Traceback" not in done.err
    return lines[0]


def files(folder: Path) -> dict[str, bytes]:
    """Contents of every file below a folder."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def same_tree(one: Path, other: Path) -> bool:
    """Whether two folders hold the same files with the same contents."""
    names = {path.relative_to(one) for path in one.rglob("*") if path.is_file()}
    if names != {path.relative_to(other) for path in other.rglob("*") if path.is_file()}:
        return False
    return all(filecmp.cmp(one / name, other / name, shallow=False) for name in names)


def push(archive: Path, *options: object) -> str:
    """Publish every store of an archive."""
    return succeed("push", "all", "--repo", REPO, "--archive", archive, *options)
