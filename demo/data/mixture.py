"""The mixture: which conversations are made, how often, and how long."""

import random

from . import arithmetic, calls, capitals, jsonformat, recall, smalltalk, tools, unknown, words
from .conversation import Conversation, an_effort, build, date_of, free_turn, plain_instruction, style
from .world import NoItem, Turn, World

SINGLE = {  # skills of one question, and what makes it
    "talk": lambda w, date, last: smalltalk.talk(w) if w.chance(0.8) else smalltalk.tell_name(w) if w.chance(0.5) else
            smalltalk.today(w, date) if w.chance(0.6) else smalltalk.feelings(w),
    "capitals": lambda w, date, last: capitals.any_capital(w),
    "arithmetic": lambda w, date, last: arithmetic.any_sum(w),
    "spelling": lambda w, date, last: words.any_spelling(w),
    "sorting": lambda w, date, last: words.any_sorting(w),
    "copying": lambda w, date, last: words.any_copying(w),
    "unknown": lambda w, date, last: unknown.outside(w),
}


def some_instruction(w: World) -> str:
    return plain_instruction(w) if w.chance(0.25) else ""


def single(w: World, skill: str) -> Conversation:
    date = date_of(w)
    none = 0.04 if skill not in ("arithmetic", "spelling", "sorting") else 0.0
    return build(w, skill, an_effort(w, none), lambda last: SINGLE[skill](w, date, last), date=date, instruction=some_instruction(w))


def _training_side(w: World) -> World:
    """Earlier turns of a held-out conversation come from the training side; only its last turn is held out."""
    return World(w.rng, False, w.told)


def chat(w: World) -> Conversation:
    """Several turns, of one or of many skills, sometimes with tools on offer."""
    date, past = date_of(w), _training_side(w)
    offered = tools.toolbox(w, w.rng.randrange(1, 4)) if w.chance(0.2) else []
    s = style(w) if w.chance(0.12) else None
    earlier = []
    for _ in range(w.choice((1, 1, 1, 2, 2, 3, 4, 5, 6, 7))):
        earlier.append(free_turn(past, date, offered, earlier[-1] if earlier else None))
    return build(w, "chat", an_effort(w, 0.0), lambda last: free_turn(w, date, offered, last), date=date, offered=offered, earlier=earlier, s=s,
                 instruction="" if s else some_instruction(w))


def instructions(w: World) -> Conversation:
    date, s = date_of(w), style(w)
    earlier = [free_turn(_training_side(w), date, [], None)] if w.chance(0.2) else []

    def target(last) -> Turn:
        if s.kind == "persona" and w.chance(0.7):
            while True:
                turn = smalltalk.talk(w)
                if turn.topic in ("who", "name"):
                    return turn
        while True:
            turn = free_turn(w, date, [], last)
            if turn.styled and not (s.kind in ("upper", "lower") and turn.skill == "spelling") and not (s.kind == "brief" and not turn.brief and w.chance(0.8)):
                return turn

    return build(w, "instructions", an_effort(w, 0.0), target, date=date, earlier=earlier, s=s)


def tool_call(w: World) -> Conversation:
    date = date_of(w)
    offered = tools.toolbox(w, w.choice((1, 1, 2, 2, 3, 4)))
    earlier = [free_turn(_training_side(w), date, offered, None)] if w.chance(0.2) else []
    return build(w, "tools", an_effort(w, 0.0), lambda last: calls.call_turn(w, w.choice(offered)), date=date, offered=offered, earlier=earlier,
                 instruction=some_instruction(w), answer_stage=w.held_out and w.chance(0.5) or w.chance(0.1))


def no_tool(w: World) -> Conversation:
    date = date_of(w)
    offered = tools.toolbox(w, w.choice((1, 2, 2, 3, 4))) if w.chance(0.8) else []

    def target(last) -> Turn:
        r = w.rng.random()
        if w.held_out or r < 0.5:
            return calls.no_tool_turn(w, offered)
        return unknown.outside(w, bool(offered)) if r < 0.75 else free_turn(w, date, offered, last)

    return build(w, "no_tool", an_effort(w, 0.02), target, date=date, offered=offered, instruction=some_instruction(w))


def json_answer(w: World) -> Conversation:
    date = date_of(w)
    turn, response_format = jsonformat.any_json(w)
    return build(w, "json", an_effort(w, 0.0 if turn.topic == "worked" else 0.02), lambda last: turn, date=date, response_format=response_format, instruction=some_instruction(w))


def _small_turn(w: World, date: str) -> Turn:
    while True:
        turn = free_turn(w, date, [], None)
        if len(turn.user) + len(turn.final) < 300:
            return turn


def recall_chat(w: World, turns: int) -> Conversation:
    """A fact about the user, other turns, then the question for it."""
    date, past = date_of(w), _training_side(w)
    first, asked = recall.about_me(w)
    earlier = [first] + [_small_turn(past, date) for _ in range(turns)]
    if w.chance(0.1):
        earlier, asked = earlier[1:], recall.not_told(w)
    return build(w, "recall", an_effort(w, 0.03), lambda last: asked, date=date, earlier=earlier, instruction=some_instruction(w))


def recall_notes(w: World, facts: int, fillers: int, questions: int, skill: str = "recall") -> Conversation:
    """A page of facts and filler, then questions on it. Earlier answers count in the loss: each is a look-up of its own."""
    date, past = date_of(w), _training_side(w)
    lines, known = recall.notes(w, facts, fillers)
    text = recall.page(w, lines)
    if w.chance(0.2):  # a fact about the user before the page, asked for after it
        first, asked = recall.about_me(w)
        return build(w, skill, an_effort(w, 0.03), lambda last: asked, date=date, earlier=[first, recall.noted(text)],
                     instruction=some_instruction(w), history_weight=0.0)
    together = w.chance(0.5)

    def ask(side: World) -> Turn:
        turn = recall.missing_fact(side, known) if side.chance(0.16) else recall.ask_fact(side, known)
        return turn

    earlier = [] if together else [recall.noted(text)]
    earlier += [ask(past) for _ in range(questions - 1)]
    target = ask(w)
    if together:
        first = earlier[0] if earlier else target
        first.user = text + w.choice(("\n\n", "\n", " ")) + first.user
    return build(w, skill, an_effort(w, 0.03), lambda last: target, date=date, earlier=earlier, instruction=some_instruction(w), history_weight=1.0)


def recall_short(w: World) -> Conversation:
    r = w.rng.random()
    if r < 0.35:
        return recall_chat(w, w.choice((0, 0, 1, 1, 2, 3, 4, 6)))
    facts = w.rng.randrange(1, 9)
    return recall_notes(w, facts, w.rng.randrange(0, 8), 1 if w.held_out else min(facts, w.rng.randrange(1, 4)))


def recall_middle(w: World) -> Conversation:
    """150 to 1,200 tokens back."""
    return recall_notes(w, w.rng.randrange(6, 25), w.rng.randrange(10, 70), 1 if w.held_out else w.rng.randrange(2, 6), "recall-window")


def recall_long(w: World) -> Conversation:
    """About 1,500 to 3,800 tokens."""
    return recall_notes(w, w.rng.randrange(20, 80), w.rng.randrange(90, 250), 1 if w.held_out else w.rng.randrange(4, 9), "recall-long")


# conversation kind: (how to make it, share of conversations)
MIXTURE = {
    "talk": (lambda w: single(w, "talk"), 9.0),
    "capitals": (lambda w: single(w, "capitals"), 8.0),
    "arithmetic": (lambda w: single(w, "arithmetic"), 12.0),
    "spelling": (lambda w: single(w, "spelling"), 10.0),
    "sorting": (lambda w: single(w, "sorting"), 10.0),
    "copying": (lambda w: single(w, "copying"), 6.0),
    "unknown": (lambda w: single(w, "unknown"), 7.0),
    "chat": (chat, 9.0),
    "instructions": (instructions, 6.0),
    "tools": (tool_call, 12.0),
    "no_tool": (no_tool, 4.0),
    "json": (json_answer, 7.0),
    "recall": (recall_short, 6.0),
    "recall-window": (recall_middle, 2.5),
    "recall-long": (recall_long, 0.8),
}


def of_kind(kind: str, rng: random.Random, held_out: bool = False) -> Conversation:
    while True:
        try:
            return MIXTURE[kind][0](World(rng, held_out))
        except NoItem:
            continue


def conversation(rng: random.Random) -> Conversation:
    """One training conversation."""
    kinds = list(MIXTURE)
    return of_kind(rng.choices(kinds, weights=[MIXTURE[k][1] for k in kinds])[0], rng)
