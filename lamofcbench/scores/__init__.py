"""Scores and fidelities, one a file."""

from typing import Any

from lamofcbench.registry import Registry

__all__ = ["FIDELITIES", "SCORES", "load_fidelity", "load_score"]

SCORES = Registry(
    "metric",
    {
        "containment": "lamofcbench.scores.containment:Containment",
        "depth": "lamofcbench.scores.depth:Depth",
        "exact_match_letter": "lamofcbench.scores.exact_match:ExactLetter",
        "exact_match_number": "lamofcbench.scores.exact_match:ExactNumber",
        "fid": "lamofcbench.scores.frechet:Frechet",
        "miou": "lamofcbench.scores.miou:MeanIou",
        "refusal_rate": "lamofcbench.scores.refusal:RefusalRate",
        "top1": "lamofcbench.scores.top1:Top1",
        "vqa_accuracy": "lamofcbench.scores.vqa_accuracy:VqaAccuracy",
        "wer": "lamofcbench.scores.wer:WordErrorRate",
    },
)
"""By the name that a scenario declares as its metric."""

FIDELITIES = Registry(
    "fidelity",
    {
        "classes": "lamofcbench.scores.fidelity_classes:ClassFidelity",
        "depth": "lamofcbench.scores.fidelity_depth:DepthFidelity",
        "images": "lamofcbench.scores.fidelity_images:ImageFidelity",
        "segments": "lamofcbench.scores.fidelity_segments:SegmentFidelity",
        "tokens": "lamofcbench.scores.fidelity_tokens:TokenFidelity",
        "transcripts": "lamofcbench.scores.fidelity_tokens:TranscriptFidelity",
    },
)

_FIDELITY_OF = {
    "top1": "classes",
    "depth": "depth",
    "fid": "images",
    "miou": "segments",
    "wer": "transcripts",
}


def load_score(metric: str, config: str, profile: str) -> Any:
    """Make the score that a scenario declares; see `lamofcbench.scores.base.Score`."""
    return SCORES.load(metric)(config, profile)


def load_fidelity(metric: str) -> Any:
    """Make the fidelity that goes with a metric; see `lamofcbench.scores.base.Fidelity`."""
    return FIDELITIES.load(_FIDELITY_OF.get(metric, "tokens"))()
