"""World: a seeded source of choices that keeps training and held-out items apart."""

import hashlib
import random
from dataclasses import dataclass, field
from typing import Callable, Optional

EFFORTS = ("low", "medium", "high")

# One item in HELD_OUT_EVERY belongs to the held-out side. The side is a property of the item's key
# (its values, facts and phrasing), never of the random seed, so no training run can meet it.
HELD_OUT_EVERY = 16


def is_held_out(key: tuple) -> bool:
    digest = hashlib.blake2b(repr(key).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") % HELD_OUT_EVERY == 0


class NoItem(Exception):
    """What was drawn so far leaves no item on the wanted side of the split: draw the conversation again."""


@dataclass
class Call:
    """One tool call of a turn, with what the tool answered."""

    name: str
    arguments: str  # JSON text
    result: str
    analysis: dict  # effort -> text


@dataclass
class Turn:
    """One question and its target answer."""

    skill: str
    user: str
    final: str
    analysis: dict  # effort -> text
    accept: tuple = ()  # further final texts that are right
    brief: Optional[str] = None  # the answer when asked to be brief
    styled: bool = True  # whether a style instruction applies to the final text
    call: Optional[Call] = None
    value: object = None  # for JSON answers: the parsed value
    topic: object = None  # what a follow-up may refer to


@dataclass
class World:
    rng: random.Random
    held_out: bool = False
    # Facts of this conversation, told by the user: name, city and so on.
    told: dict = field(default_factory=dict)

    def pick(self, *key_prefix, draw: Callable[[], tuple]):
        """Returns draw()'s item once its key lies on this world's side of the split.

        draw returns (key, item). Raises NoItem when this side seems empty."""
        for _ in range(500):
            key, item = draw()
            if is_held_out(key_prefix + (key,)) == self.held_out:
                return item
        raise NoItem(f"no {'held-out' if self.held_out else 'training'} item for {key_prefix}")

    def choice(self, options):
        return self.rng.choice(options)

    def chance(self, p: float) -> bool:
        return self.rng.random() < p


def thoughts(low: str, medium: str, high: str) -> dict:
    return {"low": low, "medium": medium, "high": high}


def casual(rng: random.Random, template: str) -> str:
    """Varies a question's template as people type: case, final mark, courtesy.

    Runs before values are put in, so that names and codes keep their case."""
    text = template
    r = rng.random()
    if r < 0.25:
        text = lower_outside_braces(text)
    if rng.random() < 0.25 and text[-1:] in "?.!":
        text = text[:-1]
    r = rng.random()
    if r < 0.05:
        text = "Please " + lower_first(text)
    elif r < 0.08 and text[-1] in "?.!":
        text = text[:-1] + ", please" + text[-1]
    elif r < 0.12:
        text = rng.choice(["Hi! ", "Hello, ", "Hey, ", "Hi, ", "Ok, ", "So, ", "Thanks! ", "Quick question: "]) + text
    return text


def lower_first(text: str) -> str:
    if text[:2] in ("I ", "I'"):
        return text
    return text[:1].lower() + text[1:]


def lower_outside_braces(text: str) -> str:
    out, depth = [], 0
    for ch in text:
        depth += (ch == "{") - (ch == "}")
        out.append(ch if depth else ch.lower())
    return "".join(out)
