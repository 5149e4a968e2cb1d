"""In the manner of WinoGrande: which of two things fills the blank."""

from typing import ClassVar

from extraction.sources.toy_text import Question, Random, ToyText, lettered

__all__ = ["ToyWinogrande"]

THINGS = (
    *("cup", "box", "bag", "book", "ball", "lamp", "shoe", "coat", "plate", "clock"),
    *("chair", "table", "basket", "bottle", "drum", "harp", "vase", "stool", "chest", "kettle"),
)
# What is said of X and Y, and which of the two (0 for X) each ending is about.
TEMPLATES = (
    ("the {x} does not fit in the {y} because the _ is too {end} .", {"big": 0, "small": 1}),
    ("the {x} lies on the {y} , so the _ is {end} .", {"above": 0, "below": 1}),
    ("the {x} was sold before the {y} , so the _ went {end} .", {"first": 0, "last": 1}),
)


class ToyWinogrande(ToyText):
    """Twin sentences that differ in one word, which turns the answer; choices in their order."""

    name: ClassVar[str] = "toy-winogrande"

    @classmethod
    def compose(cls, random: Random) -> Question:
        """See `ToyText.compose`."""
        template, endings = TEMPLATES[random.randint(len(TEMPLATES))]
        end = list(endings)[random.randint(2)]
        pair = [THINGS[i] for i in random.permutation(len(THINGS))[:2]]
        sentence = template.format(x=pair[0], y=pair[1], end=end)
        gold = endings[end]
        question = f"{sentence}\nwhat fills the blank ?"
        return lettered(question, pair, gold, f"it is {end}")
