"""File names of the reference's release, and the sample ids in them."""

import re
import urllib.parse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lamofcbench.errors import SourceError
from lamofcbench.spec import ScenarioSpec

__all__ = ["GROUPS", "SUFFIX", "Naming", "find_files", "naming", "sample_file"]

SUFFIX = ".zst"
GROUPS = {
    "in1k-vit": "cls_in1kval",
    "in1ka-vit": "cls_in1ka",
    "in1kr-vit": "cls_in1kr",
    "ade20k-vit": "ade20k_val",
    "nyuv2-vit": "nyudv2_test",
    "librispeech-clean-alm": "librispeech-test-clean",
    "librispeech-other-alm": "librispeech-test-other",
    "advbench-alm": "advbench",
    "openbookqa-alm": "openbookqa",
    "sdqa-alm": "sd-qa",
    "canny-t2i": "sd35cond",
    **{
        f"{task}-{family}": f"fc_{name}"
        for family in ("llm", "ssm")
        for task, name in {
            "arc": "arc_challenge",
            "gsm8k": "gsm8k",
            "hellaswag": "hellaswag",
            "truthfulqa": "truthfulqa_mc1",
            "winogrande": "winogrande",
        }.items()
    },
}
"""The folder that a config's files lie in."""
AROUND = {"segmentation": ("", "-stackedpatches"), "depth": ("", "-wflip")}
UNSAFE = re.compile(r"[%/\\\x00-\x1f\x7f]|^\.")


@dataclass(frozen=True)
class Naming:
    """How a config's files are named.

    Attributes:
        group: their folder.
        before: what stands before a sample's id.
        after: what stands behind it.
    """

    group: str
    before: str
    after: str

    def path(self, sample: str) -> str:
        """A sample's file, relative to the release."""
        return f"{self.group}/{self.before}{_quoted(sample)}{self.after}{SUFFIX}"

    def sample(self, path: Path) -> str:
        """The sample that a file is of; the inverse of `path`.

        Raises:
            SourceError: it is not named as the config's files are.
        """
        name = path.name.removesuffix(SUFFIX)
        long_enough = len(name) > len(self.before) + len(self.after)
        if not (long_enough and name.startswith(self.before) and name.endswith(self.after)):
            raise SourceError(
                f"{path}: expected a name like {self.before}<sample>{self.after}{SUFFIX}"
            )
        quoted = name[len(self.before) : len(name) - len(self.after)]
        plain = urllib.parse.unquote(quoted)
        return plain if _quoted(plain) == quoted else quoted


def naming(scenario: ScenarioSpec, keys: Sequence[str]) -> Naming:
    """How the reference names the files of a config.

    Raises:
        SourceError: it has no such files.
    """
    if scenario.config not in GROUPS:
        raise SourceError(f"the reference has no files of {scenario.config}")
    before, after = AROUND.get(scenario.task, ("", ""))
    if scenario.family in ("llm", "ssm"):
        last = max(int(key.split(".")[1]) for key in keys)
        before, after = "sample", f"-layer{last}-item1"
    return Naming(GROUPS[scenario.config], before, after)


def find_files(folder: Path, group: str) -> list[Path]:
    """A config's files in a release: those in its folder if there is one, else all.

    Returns:
        Paths, numbers in their names in the order of numbers.

    Raises:
        SourceError: there are none.
    """
    inside = [path for path in sorted(folder.rglob(group)) if path.is_dir()]
    places = inside or [folder]
    paths = sorted({p for place in places for p in place.rglob(f"*{SUFFIX}")}, key=_natural)
    # What an interrupted download or export left.
    paths = [path for path in paths if not path.name.startswith(".")]
    if not paths:
        raise SourceError(f"{folder}: no {SUFFIX} files here, nor in a folder {group}")
    return paths


def sample_file(sample: str, suffix: str) -> str:
    """The name of a file of one sample, percent-encoded as decoded features are."""
    return f"{urllib.parse.quote(sample, safe='')}{suffix}"


def _natural(path: Path) -> list[tuple[int, str]]:
    parts = re.split(r"(\d+)", str(path))
    return [(int(part), part) if part.isdecimal() else (0, part) for part in parts]


def _quoted(sample: str) -> str:
    return UNSAFE.sub(lambda found: f"%{ord(found[0]):02X}", sample)
