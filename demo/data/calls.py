"""Call turns: a question that one of the offered tools answers, and questions that none does."""

from .harmony import compact
from .tools import NO_TOOL, Tool, any_tool
from .world import Call, Turn, World, thoughts

# What people expect a computer to do, and what no other answer of this world covers.
DECLINED = {"weather", "time", "units", "stock", "music", "timer", "message", "lights", "order", "news", "remind", "search"}
FAILURES = ("not found", "service unavailable", "timeout", "internal error", "rate limit reached", "access denied")


def call_turn(w: World, tool: Tool) -> Turn:
    def draw():
        ask = tool.ask(w)
        return (tool.family, compact(ask.arguments), ask.user), ask

    ask = w.pick("call", draw=draw)
    name, arguments = tool.function["name"], compact(ask.arguments)
    result, final = ask.result, ask.final
    if w.chance(0.05):
        failure = w.choice(FAILURES)
        result = w.choice((compact({"error": failure}), "error: " + failure, "Error: " + failure))
        final = f"The tool reports an error: {failure}."
    before = thoughts(f"Call {name}.", f"The user wants {ask.wish}. I call {name}.",
                      f"The user wants {ask.wish}. I cannot know that myself. The tool {name} can answer it. The arguments are {arguments}. I call it now.")
    after = thoughts("Pass on the result.", f"The tool answered. I pass on the result.",
                     f"The tool {name} answered: {result} I tell the user in one sentence.")
    return Turn("tools", ask.user, final, after, call=Call(name, arguments, result, before), styled=False)


def no_tool_turn(w: World, tools: list) -> Turn:
    """Asks for something that a tool could do, but none of these."""
    families = {t.family for t in tools}

    def draw():
        other = any_tool(w)
        while other.family in families or other.family not in DECLINED:
            other = any_tool(w)
        ask = other.ask(w)
        return (other.family, ask.user, bool(tools)), ask

    ask = w.pick("no_tool", draw=draw)
    medium = f"The user wants {ask.wish}. None of my tools can do that." if tools else f"The user wants {ask.wish}. I have no tools."
    return Turn("no_tool", ask.user, NO_TOOL, thoughts(
        "No tool fits.", medium, f"{medium} I go through what is offered: {', '.join(t.function['name'] for t in tools) or 'nothing'}. I say that I have no tool for it."))
