"""The anchor: the coded input, then the whole model. No features are sent at all."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from lamofcbench.bench.input_codec import InputCodec
from lamofcbench.bench.input_files import InputFolder
from lamofcbench.bench.points import Features
from lamofcbench.bench.rates import Held, distortions, held, rate_numbers
from lamofcbench.bench.timing import median_seconds
from lamofcbench.dataset import FeatureDataset
from lamofcbench.errors import SampleError
from lamofcbench.models import load_family
from lamofcbench.models.base import Family
from lamofcbench.spec import load_scenario

__all__ = ["InputPoint", "front_seconds", "input_point"]

SEED = "seed"
"""Context that is drawn for a sample, not made of its input: it stays as it was."""


@dataclass
class InputPoint:
    """The front half's features of an input that was coded and decoded.

    Its rate is over the same elements as that of codecs.

    Attributes:
        name: in tables.
        codec: of inputs.
        inputs: raw ones.
        sources: sha256 of each sample's source, by id.
        seeds: of samples that have one.
        family: the model, with its front half.
        held: what codecs need not code.
    """

    name: str
    codec: InputCodec
    inputs: InputFolder
    sources: Mapping[str, str]
    seeds: Mapping[str, int]
    family: Family
    held: Held
    _numbers: dict[str, list[float]] = field(default_factory=dict)
    _context: dict[str, torch.Tensor] = field(default_factory=dict)

    def __call__(self, sample: str, features: Features) -> Features:
        """See `Point`."""
        parts = self.inputs.parts(sample, self.sources[sample])
        constant = self.inputs.constant
        sent = {name: value for name, value in parts.items() if name not in constant}
        data = self.codec.encode(sent)
        if not data:
            raise SampleError("its input is the same in all samples, so nothing would be sent")
        received: dict[str, Any] = {**constant, **self.codec.decode(data)}
        if sample in self.seeds:
            received[SEED] = self.seeds[sample]
        capture = self.family.front(received)
        self._context = capture.context
        decoded = {key: capture.features[key] for key in features}
        for key, stored in features.items():
            if decoded[key].shape != stored.shape:
                raise SampleError(
                    f"{key} of the decoded input is {list(decoded[key].shape)}; "
                    f"stored is {list(stored.shape)}"
                )
        part = self.held.without(features)
        self._numbers = {
            **rate_numbers(part, features, len(data), len(self.codec.encode(parts))),
            **distortions(part, self.held.without(decoded)),
        }
        return decoded

    def numbers(self) -> Mapping[str, Sequence[float]]:
        """See `Counting`."""
        return self._numbers

    def context(self) -> Mapping[str, torch.Tensor]:
        """See `Contextual`."""
        return self._context


def input_point(
    text: str, folder: Path | None, dataset: FeatureDataset, common: Held, device: str
) -> InputPoint:
    """Make the anchor for the samples of a store.

    Args:
        text: as for `InputCodec.parse`.
        folder: of raw inputs.
        dataset: the samples.
        common: what codecs need not code.
        device: where the front half runs.

    Raises:
        SampleError: there are no raw inputs; the message has the command that makes them.
        ModelError: the front half's weights are missing.
    """
    codec = InputCodec.parse(text)
    if folder is None:
        raise SampleError(
            f"{text} needs raw inputs, which no archive keeps: name them with --inputs DIR, after "
            f"python -m extraction.inputs {dataset.config} --out DIR"
        )
    inputs = InputFolder.open(folder, dataset.config, dataset.profile)
    scenario = load_scenario(dataset.config)
    family = load_family(scenario.family, dataset.manifest.declaration, device=device, half="front")
    sources, seeds = {}, {}
    for position, item in enumerate(dataset):
        sources[item["id"]] = dataset.source_sha256(position)
        if SEED in item["context"]:
            seeds[item["id"]] = int(item["context"][SEED])
    return InputPoint(text, codec, inputs, sources, seeds, family, common)


def front_seconds(folder: Path, dataset: FeatureDataset, device: str) -> float:
    """Median time of the front half on the input of the first sample.

    Args:
        folder: as for `input_point`, as the rest.
        dataset: the samples.
        device: where the front half runs.
    """
    keys = dataset.manifest.declaration.mode(None).keys
    point = input_point("input:format=raw", folder, dataset, held(dataset, keys), device)
    item = dataset[0]
    inputs = dict(point.inputs.parts(item["id"], point.sources[item["id"]]))
    if item["id"] in point.seeds:
        inputs[SEED] = point.seeds[item["id"]]
    return median_seconds(lambda: point.family.front(inputs), device)
