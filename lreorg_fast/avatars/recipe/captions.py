"""Captions of avatars, for training the small CLIP model.

A caption mentions a random subset of what is true, in the words of the keyword table (the very
sentences that the losses ask about) or in free variations of them.
"""

from __future__ import annotations

import random
from collections.abc import Mapping

from lreorg_fast.avatars.traits import ATTRIBUTE_NAMES

_COLOURS = ("black", "brown", "red", "blond")


def _colour(look: Mapping[str, float]) -> str:
    if look["gray"] > 0.4:
        return "gray"
    return _COLOURS[min(3, int(look["color"] * 3 + 0.5))]


def _age(look: Mapping[str, float], draw: random.Random) -> str:
    if look["age"] > 0.6:
        return draw.choice(("old", "old", "elderly"))
    if look["age"] < 0.4:
        return "young"
    return "middle-aged"


def _length(look: Mapping[str, float]) -> str:
    return "long" if look["length"] > 0.7 else "short" if look["length"] < 0.5 else "medium"


def contents(look: Mapping[str, float]) -> dict[str, str]:
    """The word for each keyword that is true of one avatar; unclear ones are left out."""
    words = {
        "gender": "female" if look["gender"] > 0.5 else "male",
        "expression": "smiling" if look["expression"] > 0.3 else "not smiling",
        "makeup": "heavy" if look["makeup"] > 0.3 else "no",
    }
    if abs(look["age"] - 0.5) > 0.1:
        words["age"] = "old" if look["age"] > 0.5 else "young"
    if look["length"] > 0.08:
        words["color"] = _colour(look)
        words["curly"] = "curly" if look["curly"] > 0.35 else "straight"
        if _length(look) != "medium":
            words["length"] = _length(look)
    return words


_TEMPLATES = {
    "gender": "a photo of a {}.",
    "age": "a photo of a {} person.",
    "expression": "a photo of a {} person.",
    "makeup": "a photo of a person with {} makeup.",
    "color": "a photo of a person with {} hair.",
    "curly": "a photo of a person with {} hair.",
    "length": "a photo of a person with {} hair.",
}


def _listed(words: Mapping[str, str], draw: random.Random) -> str:
    """``gender: male, age: old``: ties the keywords' own names to their contents."""
    chosen = draw.sample(sorted(words), draw.randint(2, len(words)))
    listed = ", ".join(f"{name}: {words[name]}" for name in chosen)
    return draw.choice(("", "identity: a person, ")) + listed


def _joined(words: Mapping[str, str], draw: random.Random) -> str:
    """One or more template sentences."""
    chosen = draw.sample(sorted(words), min(len(words), draw.choice((1, 2, 3, 4))))
    return " ".join(_TEMPLATES[name].format(words[name]) for name in chosen)


def _free(look: Mapping[str, float], draw: random.Random) -> str:
    noun = draw.choice(
        ("woman", "lady", "female") if look["gender"] > 0.5 else ("man", "guy", "male")
    )
    details = []
    if look["expression"] > 0.3:
        details.append(draw.choice(("smiling", "with a big smile", "looking happy")))
    else:
        details.append(draw.choice(("not smiling", "with a serious face", "looking sad")))
    if look["length"] < 0.08:
        details.append(draw.choice(("bald", "with no hair")))
    else:
        curl = "curly" if look["curly"] > 0.35 else "straight"
        hair = [w for w in (_length(look), curl, _colour(look)) if draw.random() < 0.75]
        details.append("with " + " ".join([*hair, "hair"]))
    if look["makeup"] > 0.3:
        details.append(draw.choice(("wearing makeup", "with heavy makeup", "with red lips")))
    else:
        details.append(draw.choice(("without makeup", "with no makeup")))
    if look["beard"] > 0.25:
        details.append(draw.choice(("with a beard", "bearded")))
    if look["glasses"] > 0.5:
        details.append(draw.choice(("wearing glasses", "with glasses")))
    chosen = draw.sample(details, draw.randint(1, len(details)))
    start = draw.choice(("a photo of a", "a portrait of a", "a face of a"))
    return f"{start} {_age(look, draw)} {noun} {' '.join(chosen)}"


def caption(label: list[float], draw: random.Random) -> str:
    """One caption for attribute values in the order of ``ATTRIBUTE_NAMES``."""
    look = dict(zip(ATTRIBUTE_NAMES, label, strict=True))
    style = draw.random()
    if style < 0.5:
        return _joined(contents(look), draw)
    if style < 0.65:
        return _listed(contents(look), draw)
    return _free(look, draw)
