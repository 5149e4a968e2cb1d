"""The console script ``lamofcbench``: one module a verb."""

import sys
import warnings
from collections.abc import Callable
from typing import NoReturn

import click

from lamofcbench import __version__
from lamofcbench.errors import BitstreamError, IntegrityError, LamofcError
from lamofcbench.registry import Registry

__all__ = ["FINDING", "MISTAKE", "cli", "main", "run"]

FINDING = 1
MISTAKE = 2

VERBS = Registry(
    "command",
    {
        "bench": "lamofcbench.cli.bench:bench",
        "calibrate": "lamofcbench.cli.calibrate:calibrate",
        "card": "lamofcbench.cli.card:card",
        "check": "lamofcbench.cli.check:check",
        "compare": "lamofcbench.cli.compare:compare",
        "decode": "lamofcbench.cli.decode:decode",
        "encode": "lamofcbench.cli.encode:encode",
        "export": "lamofcbench.cli.export:export",
        "import": "lamofcbench.cli.import_:import_",
        "info": "lamofcbench.cli.info:info",
        "list": "lamofcbench.cli.list:list_",
        "plot": "lamofcbench.cli.plot:plot",
        "pull": "lamofcbench.cli.pull:pull",
        "push": "lamofcbench.cli.push:push",
        "reproduce": "lamofcbench.cli.reproduce:reproduce",
        "score": "lamofcbench.cli.score:score",
        "train": "lamofcbench.cli.train:train",
        "verify": "lamofcbench.cli.verify:verify",
    },
)


class _Verbs(click.Group):
    """A group that imports a verb's module when it is needed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        command: click.Command = VERBS.load(name)
        return command


@click.group(cls=_Verbs)
@click.version_option(__version__, prog_name="lamofcbench")
def cli() -> None:
    """Intermediate features of large models: fetch, verify and score an archive of them."""


def run(command: Callable[..., object]) -> NoReturn:
    """Run a click command as a program: one line for a known error, and the right exit status."""
    warnings.formatwarning = lambda message, *_, **__: f"warning: {message}\n"
    try:
        command()
    except (BitstreamError, IntegrityError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(FINDING)
    except LamofcError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(MISTAKE)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    sys.exit(0)


def main() -> NoReturn:
    """Entry point."""
    run(cli)
