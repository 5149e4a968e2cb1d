"""The words that toy audio is made of, and what is true of the things they name."""

__all__ = [
    "FACTS",
    "FILLERS",
    "HARMFUL",
    "HARMLESS",
    "KINDS",
    "LETTERS",
    "OBJECTS",
    "READ",
    "VOCABULARY",
]

READ = (
    *("river", "stone", "cloud", "window", "garden", "winter", "summer", "morning", "evening"),
    *("letter", "story", "music", "bridge", "forest", "island", "market", "mountain", "shadow"),
    *("silver", "candle"),
)
"""Words of the passages that are read aloud."""
FILLERS = ("please", "now", "friend", "quickly", "today", "well", "so")
HARMFUL = ("steal", "burn", "smash")
HARMLESS = ("clean", "paint", "sell")
OBJECTS = ("car", "boat", "house", "phone", "lamp", "clock", "bike", "door")
LETTERS = ("a", "b", "c", "d", "e")
KINDS = {
    "bird": ("eagle", "robin", "duck", "owl"),
    "fish": ("trout", "carp", "tuna", "eel"),
    "tree": ("oak", "elm", "pine", "birch"),
    "metal": ("iron", "gold", "zinc", "tin"),
    "fruit": ("apple", "pear", "plum", "fig"),
}
FACTS = {
    "crow": {"color": "black", "size": "small", "home": "nest"},
    "swan": {"color": "white", "size": "large", "home": "lake"},
    "frog": {"color": "green", "size": "tiny", "home": "pond"},
    "fox": {"color": "red", "size": "medium", "home": "den"},
    "whale": {"color": "blue", "size": "huge", "home": "ocean"},
    "ant": {"color": "brown", "size": "tiny", "home": "hill"},
    "bear": {"color": "brown", "size": "large", "home": "cave"},
    "bee": {"color": "yellow", "size": "tiny", "home": "hive"},
    "mouse": {"color": "grey", "size": "small", "home": "hole"},
    "shark": {"color": "grey", "size": "huge", "home": "ocean"},
}
VOCABULARY = (
    *READ,
    *FILLERS,
    *("how", "what"),
    *HARMFUL,
    *HARMLESS,
    *OBJECTS,
    *LETTERS,
    *KINDS,
    *(member for members in KINDS.values() for member in members),
    *("color", "size", "home"),
    *FACTS,
)
"""All words that are spoken; a word's place decides how it sounds."""
