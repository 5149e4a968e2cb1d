"""Putting together what scoring one config needs: model, score, fidelity."""

import math
from dataclasses import dataclass

import torch

from lamofcbench.bench.scoring import Inspector, Runner
from lamofcbench.bench.unscored import FeatureFidelity, NoModel
from lamofcbench.dataset import FeatureDataset
from lamofcbench.errors import ModelError, SampleError
from lamofcbench.interop.imported import check_scorable, missing_parts
from lamofcbench.models import FAMILIES, load_family
from lamofcbench.models.base import Family
from lamofcbench.scores import load_fidelity, load_score
from lamofcbench.scores.base import Answer, Fidelity, Score
from lamofcbench.spec import ProfileSpec, load_scenario

__all__ = ["Setup", "set_up"]


NO_INCEPTION = (
    "the Fréchet distance needs Inception's weights, which no package ships: images are compared "
    "by their fidelity alone"
)


@dataclass(frozen=True)
class Setup:
    """What scoring one config in one mode takes.

    Attributes:
        family: the model.
        mode: its name.
        keys: the mode's.
        score: against references; None where it cannot be had.
        no_score: why, then.
        fidelity: against the uncoded answers.
        inspector: what the score needs of an answer besides; see `Inspector`.
    """

    family: Family
    mode: str
    keys: tuple[str, ...]
    score: Score | None
    no_score: str
    fidelity: Fidelity
    inspector: Inspector | None

    def runner(self, dataset: FeatureDataset) -> Runner:
        """Make what runs points on these samples."""
        return Runner(dataset, self.family, self.mode, self.score, self.fidelity, self.inspector)

    def chance(self, dataset: FeatureDataset) -> float:
        """The score of an answer that never looks at the input, on these samples.

        Not a number where nothing scores by guessing, or where there is no score.
        """
        if self.score is None:
            return math.nan
        try:
            return self.score.chance([(item["reference"], item["context"]) for item in dataset])
        except SampleError as error:
            raise SampleError(f"{dataset.config}: a sample {error}") from None


def set_up(
    dataset: FeatureDataset,
    mode: str | None = None,
    device: str = "cpu",
    *,
    unscored: bool = False,
) -> Setup:
    """Load the model that a store's features come from, and its config's metric.

    Args:
        dataset: samples of a store.
        mode: which keys are injected; the default mode without one.
        device: where the model runs.
        unscored: whether features that lack what scoring needs are measured without a model:
            `NoModel`.

    Raises:
        UnknownNameError: no such mode.
        SampleError: the features lack what scoring needs.
        ModelError: the model is missing, or it isn't the one that made these features.
    """
    if dataset.profile == "tiny":
        # Products this small take longer when they are shared out than when they aren't.
        torch.set_num_threads(1)
    manifest = dataset.manifest
    profile = manifest.declaration
    spec = profile.mode(mode)
    name = mode or next(iter(profile.modes))
    if not unscored:
        check_scorable(dataset.config, profile)
    elif missing := missing_parts(profile):
        return Setup(
            family=NoModel(profile),
            mode=name,
            keys=spec.keys,
            score=None,
            no_score=f"the features were imported, and lack {missing}",
            fidelity=FeatureFidelity(),
            inspector=None,
        )
    scenario = load_scenario(dataset.config)
    family = load_family(scenario.family, profile, device=device, half="back", mode=name)
    if _revision(scenario.family, profile) not in (None, manifest.model.revision):
        raise ModelError(
            f"{profile.model.id}: not the weights that made {dataset.store}; "
            f"extract it again: make extract SCENARIO={dataset.config}"
        )
    images = scenario.metric == "fid"
    no_score = NO_INCEPTION if images and dataset.profile != "tiny" else ""
    return Setup(
        family=family,
        mode=name,
        keys=spec.keys,
        score=None if no_score else load_score(scenario.metric, dataset.config, dataset.profile),
        no_score=no_score,
        fidelity=load_fidelity(scenario.metric),
        inspector=_image_inspector() if images and not no_score else None,
    )


def _revision(family: str, profile: ProfileSpec) -> str | None:
    """What pins the front half's weights, if they are here: the back half may be here alone."""
    try:
        revision: str = FAMILIES.load(family).revision_of(profile)
    except ModelError:
        return None
    return revision


def _image_inspector() -> Inspector:
    """Look at images through the bundled classifier of digits, which is what miniatures draw."""
    classifier = load_family("vit", load_scenario("in1k-vit").profile("tiny"))

    def look(image: torch.Tensor) -> torch.Tensor:
        seen: torch.Tensor = classifier.embedding({"image": image.numpy()})
        return seen

    def inspect(uncoded: Answer, coded: Answer) -> Answer:
        pair = torch.stack([look(answer.prediction) for answer in (uncoded, coded)])
        return Answer(coded.prediction, pair)

    return inspect
