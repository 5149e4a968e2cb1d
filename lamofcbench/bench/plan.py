"""What a board runs: the points that a request of one config and mode asks for."""

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lamofcbench.bench.fits import FITTED_ON, fit_codec
from lamofcbench.bench.input_codec import is_input
from lamofcbench.bench.input_point import input_point
from lamofcbench.bench.points import Point, Uncoded
from lamofcbench.bench.rates import CodedPoint, held
from lamofcbench.bench.reference import reference_account
from lamofcbench.bench.setup import Setup
from lamofcbench.bench.targets import Target, divergence, mean_rate, parse_target, reach
from lamofcbench.codecs import load_codec, parse_codec, split_codec
from lamofcbench.codecs.artefact import Artefact
from lamofcbench.codecs.base import Codec
from lamofcbench.dataset import FeatureDataset, load_dataset
from lamofcbench.spec import load_scenario

__all__ = ["BenchRequest", "Plan", "Planned"]

CHOSEN_ON = 16
"""Calibration samples that a setting is chosen on."""


@dataclass(frozen=True)
class BenchRequest:
    """One config and mode of the board.

    Attributes:
        config: its name.
        codecs: as for `parse_codec`.
        fits: for codecs that are fitted, to what: see `fit_codec`.
        mode: whose keys are coded; the first without one.
        archive: as for `load_dataset`.
        profile: as for `load_dataset`.
        samples: as for `load_dataset`.
        seed: of the bootstrap.
        device: where the model runs.
        targets: as for `parse_target`; lossy codecs are then run at settings that reach them.
        timed: whether to time codecs, too.
        inputs: a folder of raw inputs, which the anchor and timing the front half need; see
            `InputFolder`.
        tolerant: whether a codec that can't code a config's features is left out.
    """

    config: str
    codecs: tuple[str, ...]
    fits: tuple[str, ...]
    mode: str | None
    archive: str
    profile: str | None
    samples: str | None
    seed: int
    device: str
    targets: tuple[str, ...] = ()
    timed: bool = False
    inputs: Path | None = None
    tolerant: bool = False


@dataclass(frozen=True)
class Planned:
    """A point that a request asks for.

    Attributes:
        label: its name in results.
        coded: whether it goes through a codec.
        make: makes it, and the columns that say what it is: fitting and choosing take time.
    """

    label: str
    coded: bool
    make: Callable[[], tuple[Point, dict[str, Any]]]


class Plan:
    """Makes the points of a request."""

    def __init__(
        self, request: BenchRequest, setup: Setup, dataset: FeatureDataset, ids: Sequence[str]
    ) -> None:
        """Plan a request.

        Args:
            request: what to run.
            setup: the config's.
            dataset: its samples.
            ids: theirs, in order.
        """
        self.request = request
        self.setup = setup
        self.dataset = dataset
        self.ids = ids
        self.common = held(dataset, setup.keys)

    def __iter__(self) -> Iterator[Planned]:
        """The uncoded point, then those of all codecs, in the order that was asked for."""
        yield Planned("uncoded", False, lambda: (Uncoded(), {"codec": "uncoded"}))
        targets: list[Target | None] = [parse_target(text) for text in self.request.targets]
        for text in self.request.codecs:
            if is_input(text):
                yield Planned(text, False, functools.partial(self._input, text))
                continue
            codec, artefact = load_codec(text)
            if artefact is not None:
                made = functools.partial(self._held, text, codec, artefact)
                yield Planned(_artefact_label(text, artefact), True, made)
                continue
            aims = [None] if codec.lossless or not targets else targets
            for fit in self.request.fits if codec.fitted else ("none",):
                for target in aims:
                    label = text if fit == "none" else f"{text}@{fit}"
                    label += f" {target}" if target else ""
                    make = functools.partial(self._make, text, fit, target, label)
                    yield Planned(label, True, make)

    def _input(self, text: str) -> tuple[Point, dict[str, Any]]:
        """The anchor: the input coded, then the whole model."""
        request = self.request
        name, _, parameters = text.partition(":")
        point = input_point(text, request.inputs, self.dataset, self.common, request.device)
        return point, self._columns(name, parameters, "none", None, None)

    def _held(self, text: str, codec: Codec, artefact: Artefact) -> tuple[Point, dict[str, Any]]:
        """A codec that was given with its artefact."""
        name, _, parameters = text.partition("@")[0].partition(":")
        columns = self._columns(name, parameters, self._fit_of(artefact), None, artefact)
        label, size = _artefact_label(text, artefact), len(artefact.data)
        account = reference_account(self.dataset, self.ids, codec)
        return CodedPoint(codec, self.common, label, size, account), columns

    def _fit_of(self, artefact: Artefact) -> str:
        """What an artefact was fitted or trained to, as far as it says so."""
        config = artefact.about.get("trained_on")
        if config == self.request.config:
            return "own"
        if config == FITTED_ON[load_scenario(self.request.config).family]:
            return "family"
        return artefact.about.get("fit", "other")

    @staticmethod
    def _columns(
        name: str, parameters: str, fit: str, target: Target | None, artefact: Artefact | None
    ) -> dict[str, Any]:
        return {
            "codec": name,
            "params": parameters,
            "fit": fit,
            "target": None if target is None else str(target),
            "artefact_sha256": None if artefact is None else artefact.sha256.hex(),
        }

    def _make(
        self, text: str, fit: str, target: Target | None, label: str
    ) -> tuple[Point, dict[str, Any]]:
        if target is not None:
            text = self._chosen(text, fit, target)
        codec, artefact = self._codec(text, fit)
        name, _, parameters = text.partition(":")
        columns = self._columns(name, parameters, fit, target, artefact)
        size = 0 if artefact is None else len(artefact.data)
        return CodedPoint(codec, self.common, label, size), columns

    def _codec(self, text: str, fit: str) -> tuple[Codec, Artefact | None]:
        codec = parse_codec(text)
        if fit == "none":
            return codec, None
        request = self.request
        where = (request.archive, request.config, request.profile, request.mode)
        artefact = fit_codec(codec, fit, *where)
        return parse_codec(text, artefact), artefact

    def _chosen(self, text: str, fit: str, target: Target) -> str:
        """A codec's setting that reaches a target on calibration samples."""
        request = self.request
        dataset = load_dataset(
            request.archive,
            request.config,
            profile=request.profile,
            split="calibration",
            samples=range(CHOSEN_ON),
        )
        name, parameters = split_codec(text)
        if target.figure == "kl":
            runner = replace(self.setup, score=None).runner(dataset)

            def price(setting: str) -> float:
                return divergence(runner, CodedPoint(self._codec(setting, fit)[0], self.common))
        else:
            samples = [{k: item["features"][k] for k in self.setup.keys} for item in dataset]

            def price(setting: str) -> float:
                codec = self._codec(setting, fit)[0]
                axes = self.common.axes
                return mean_rate(lambda part: codec.encode(part, axes), samples, self.common)

        return reach(target, name, parameters, price)


def _artefact_label(text: str, artefact: Artefact) -> str:
    """Files of one name are told apart by their content."""
    spec, _, path = text.partition("@")
    return f"{spec}@{Path(path).stem}#{artefact.sha256.hex()[:8]}"
