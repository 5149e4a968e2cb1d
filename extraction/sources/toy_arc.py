"""In the manner of ARC: which of four things is of a kind."""

from typing import ClassVar

from extraction.sources.toy_text import Question, Random, ToyText, lettered

__all__ = ["ToyArc"]

KINDS = {
    "bird": ("eagle", "robin", "crow", "duck", "heron", "owl"),
    "fish": ("trout", "salmon", "carp", "tuna", "cod", "eel"),
    "insect": ("ant", "bee", "moth", "wasp", "fly", "beetle"),
    "tree": ("oak", "pine", "elm", "birch", "maple", "willow"),
    "metal": ("iron", "gold", "zinc", "copper", "tin", "lead"),
    "planet": ("mars", "venus", "saturn", "earth", "neptune", "jupiter"),
    "fruit": ("apple", "pear", "plum", "grape", "lemon", "fig"),
    "tool": ("hammer", "saw", "drill", "wrench", "file", "axe"),
}


class ToyArc(ToyText):
    """Kinds are facts that a model must have learnt; each half of them keeps its order."""

    name: ClassVar[str] = "toy-arc"

    @classmethod
    def compose(cls, random: Random) -> Question:
        """See `ToyText.compose`."""
        kinds = list(KINDS)
        half = kinds[:4] if random.rand() < 0.5 else kinds[4:]
        gold = random.randint(4)
        members = [KINDS[kind][random.randint(len(KINDS[kind]))] for kind in half]
        return lettered(f"which of these is a {half[gold]} ?", members, gold, half[gold])
