"""Conversations: skills put together into chat-completions requests with their target answers."""

from dataclasses import dataclass, field
from typing import Callable, Optional
import random

from . import arithmetic, calls, capitals, jsonformat, recall, smalltalk, tools, unknown, words
from .harmony import call_completion, final_completion, render_prompt
from .lexicon import ADJECTIVES, NAMES, NOUNS, WORDS, invented
from .world import EFFORTS, Turn, World, casual, thoughts


@dataclass
class Style:
    """A developer instruction that changes final texts."""

    instruction: str
    apply: Callable[[Turn], str]
    note: str
    kind: str


@dataclass
class Conversation:
    skill: str
    date: str
    effort: str
    messages: list
    tools: list
    response_format: Optional[dict]
    turn: Turn  # the last one: the target
    final: str  # its final text, in style
    accept: list
    completion: str  # what follows the prompt
    continuation: tuple = ()  # after a call: (text of the tool's message and header, completion)
    history_weight: float = 0.0  # weight of the final texts of earlier turns in the loss

    def request(self) -> dict:
        request = {"messages": self.messages, "reasoning_effort": self.effort}
        if self.tools:
            request["tools"] = [t.definition for t in self.tools]
        if self.response_format:
            request["response_format"] = self.response_format
        return request

    def prompt(self) -> str:
        return render_prompt(self.request(), self.date)


UPPER = ("Answer in upper case.", "Always answer in capital letters.", "Write everything in upper case.", "Use only capital letters.", "Respond in ALL CAPS.")
LOWER = ("Answer in lower case.", "Write everything in lower case.", "Never use capital letters.", "Respond in lowercase only.")
BRIEF = ("Be brief.", "Answer with as few words as possible.", "Keep it short.", "Give only the answer, no sentence.", "Answer in one word.", "Be concise.", "Short answers only.")
PLAIN = ("You are a helpful assistant.", "You are a helpful assistant.", "You are a friendly assistant.", "You are an AI assistant. Answer truthfully.", "Be helpful.", "Answer the user's questions.",
         "You are a useful assistant that answers questions.", "Help the user.", "You are a pirate.", "You are an expert in {n}.", "Be {a}.", "Use the tools when needed.", "You talk with customers of a {n} shop.",
         "Think carefully.", "Do not lie.", "Be polite.", "You are a {a} assistant for a {n}.", "Use markdown when it helps.", "The user is a {n}.", "Follow the rules of the {n}.", "Speak plain English.")


def style(w: World) -> Style:
    kind = w.choice(("upper", "lower", "brief", "brief", "name", "end", "start", "persona"))
    if kind == "upper":
        return Style(w.choice(UPPER), lambda t: t.final.upper(), "In upper case.", kind)
    if kind == "lower":
        return Style(w.choice(LOWER), lambda t: t.final.lower(), "In lower case.", kind)
    if kind == "brief":
        return Style(w.choice(BRIEF), lambda t: t.brief or t.final, "In brief.", kind)
    if kind == "name":
        name = w.choice(NAMES) if w.chance(0.7) else invented(w.rng, 4, 8).capitalize()
        text = w.choice(("The user's name is {v}. Use it in every answer.", "Call the user {v}.", "Address the user as {v}.", "Always call the user {v}."))
        return Style(text.replace("{v}", name), lambda t: f"{name}, here is my answer: {t.final}", f"I name {name} first.", kind)
    if kind in ("end", "start"):
        phrase = w.choice(("Over.", "Cheers!", "Thank you!", "Meow.", "Arr!", "Done.", "Sure!", "Of course!", "Yes, sir!", "Well!")) if w.chance(0.4) else \
            w.choice((w.choice(WORDS), invented(w.rng), f"{w.choice(ADJECTIVES)} {w.choice(NOUNS)}")).capitalize() + w.choice(".!")
        text = w.choice((f'{"End" if kind == "end" else "Start"} every answer with "{phrase}"', f"Always {kind} with: {phrase}", f"{kind.capitalize()} your answers with the words: {phrase}"))
        if kind == "end":
            return Style(text, lambda t: f"{t.final} {phrase}", f"At the end: {phrase}", kind)
        return Style(text, lambda t: f"{phrase} {t.final}", f"At the start: {phrase}", kind)
    name = w.choice(NAMES) if w.chance(0.5) else invented(w.rng, 3, 8).capitalize()
    text = w.choice(("Your name is {v}.", "You are {v}, a helpful assistant.", "You are called {v}.", "You are {v}.", "You are an assistant named {v}.")).replace("{v}", name)
    answer = f"I am {name}, an assistant run by Hearth's small demo model."
    return Style(text, lambda t: answer if t.skill == "talk" and t.topic in ("who", "name") else t.final, f"Here I am called {name}.", kind)


def plain_instruction(w: World) -> str:
    return w.choice(PLAIN).replace("{n}", w.choice(NOUNS)).replace("{a}", w.choice(ADJECTIVES))


def date_of(w: World) -> str:
    if w.chance(0.06):
        return ""
    return f"{w.rng.randrange(2024, 2031)}-{w.rng.randrange(1, 13):02d}-{w.rng.randrange(1, 29):02d}"


def free_turn(w: World, date: str, offered: list, last: Optional[Turn]) -> Turn:
    """A turn of any skill that needs no setting of its own."""
    if last and last.topic and w.chance(0.35):
        kind = last.topic[0]
        if kind == "capital":
            return capitals.capital(w, follow=True)
        if kind == "number" and 0 <= last.topic[1] < 1000 and "calculator" not in {t.family for t in offered}:
            return arithmetic.follow_up(w, last.topic[1])
    if last and not last.call and last.skill != "copying" and len(last.final) < 200 and w.chance(0.03):
        return again(w, last)
    r = w.rng.random()
    calculator = any(t.family == "calculator" for t in offered)
    if offered and r < 0.3:
        return calls.call_turn(w, w.choice(offered))
    if r < 0.36:
        return calls.no_tool_turn(w, offered)
    if r < 0.5:
        return capitals.any_capital(w)
    if r < 0.66 and not calculator:
        return arithmetic.any_sum(w)
    if r < 0.72:
        return words.any_spelling(w)
    if r < 0.78:
        return words.any_sorting(w)
    if r < 0.83:
        return words.any_copying(w)
    if r < 0.9:
        return unknown.outside(w, bool(offered))
    if r < 0.92:
        return smalltalk.today(w, date)
    if r < 0.94:
        return smalltalk.feelings(w)
    return smalltalk.talk(w)


AGAIN = ("Say that again.", "Repeat that.", "What did you say?", "Once more, please.", "Can you repeat that?", "Please repeat your answer.", "Again?", "Pardon?",
         "Sorry, what?", "Repeat your last answer.", "I did not catch that.")


def again(w: World, last: Turn) -> Turn:
    """Asks for the last answer once more."""
    def draw():
        text = w.choice(AGAIN)
        return (text, last.final), text

    text = casual(w.rng, w.pick("again", draw=draw))
    return Turn("talk", text, last.final, thoughts(
        "Repeat my answer.", "The user wants my last answer again, so I repeat it.",
        "The user asks me to say my last answer again. I look at it and repeat it without changes."))


def styled(turn: Turn, s: Optional[Style]) -> str:
    return s.apply(turn) if s and turn.styled else turn.final


@dataclass
class Builder:
    """Collects earlier turns into messages."""

    w: World
    style: Optional[Style] = None
    messages: list = field(default_factory=list)
    calls: int = 0

    def add(self, turn: Turn) -> None:
        self.messages.append({"role": "user", "content": turn.user})
        if turn.call:
            self.add_call(turn, "")
        self.messages.append({"role": "assistant", "content": styled(turn, self.style)})

    def add_call(self, turn: Turn, reasoning: str) -> None:
        self.calls += 1
        call_id = f"call_{self.calls}"
        message = {"role": "assistant", "content": None, "tool_calls": [
            {"id": call_id, "type": "function", "function": {"name": turn.call.name, "arguments": turn.call.arguments}}]}
        if reasoning:
            message["reasoning"] = reasoning
        self.messages.append(message)
        self.messages.append({"role": "tool", "tool_call_id": call_id, "content": turn.call.result})


def build(w: World, skill: str, effort: str, target: Callable[[Optional[Turn]], Turn], *, date: str, offered=(), earlier: list = (),
          response_format=None, s: Optional[Style] = None, instruction: str = "", history_weight: float = 0.0, answer_stage: bool = False) -> Conversation:
    """Puts earlier turns and the target together. answer_stage starts after the target's tool call, with its result in the prompt."""
    b = Builder(w, s)
    text = s.instruction if s else instruction
    if s and w.chance(0.3):
        text = plain_instruction(w) + " " + text
    if text:
        b.messages.append({"role": w.choice(("system", "developer")), "content": text})
    for turn in earlier:
        b.add(turn)
    turn = target(earlier[-1] if earlier else None)
    b.messages.append({"role": "user", "content": turn.user})
    thinking = "low" if effort == "none" else effort
    final = styled(turn, s)
    analysis = turn.analysis[thinking]
    if s and turn.styled and w.chance(1.0):
        analysis += " " + s.note
    completion, continuation = final_completion("" if effort == "none" else analysis, final), ()
    if effort == "none":
        completion = completion[len("<|channel|>final<|message|>"):]
    if turn.call:
        before = turn.call.analysis[thinking]
        if answer_stage:
            b.add_call(turn, before if w.chance(0.6) else "")
        else:
            completion = call_completion(before, turn.call.name, turn.call.arguments)
            header = f"<|start|>functions.{turn.call.name} to=assistant<|channel|>commentary<|message|>{turn.call.result}<|end|><|start|>assistant"
            continuation = (header, final_completion(analysis, final))
    accept = [final] + ([] if s else [a for a in turn.accept if a != final])
    return Conversation(skill, date, effort, b.messages, list(offered), response_format, turn, final, accept, completion, continuation, history_weight)


def an_effort(w: World, none: float = 0.04) -> str:
    if w.chance(none):
        return "none"
    return w.choice(EFFORTS + ("medium",))


def from_seed(seed: int, salt: str) -> random.Random:
    return random.Random(f"hearth-demo/{salt}/{seed}")
