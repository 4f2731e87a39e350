"""Sums on small numbers: + and - up to 999, products up to 99 times 99, division of small numbers, comparison.

Anything larger is declined in one sentence, unless a calculator tool is offered."""

from .lexicon import FRUITS, NAMES, OBJECTS
from .world import Turn, World, casual, thoughts

TOO_BIG = "Those numbers are too big for me without a calculator tool."

ASK = {
    "+": ("What is {a} + {b}?", "{a} + {b}", "{a}+{b}", "{a} plus {b}?", "What is {a} plus {b}?", "Add {a} and {b}.",
          "How much is {a} plus {b}?", "What's the sum of {a} and {b}?", "Calculate {a} + {b}.", "{a}+{b}=?", "{a} + {b} =",
          "Compute {a} + {b}", "Can you add {a} and {b}?", "what do {a} and {b} make together?", "How much is {a}+{b}?"),
    "-": ("What is {a} - {b}?", "{a} - {b}", "{a}-{b}", "{a} minus {b}?", "What is {a} minus {b}?", "Subtract {b} from {a}.",
          "How much is {a} minus {b}?", "Calculate {a} - {b}.", "{a}-{b}=?", "Take {b} away from {a}.", "{a} - {b} =",
          "What's the difference between {a} and {b}?", "Compute {a} - {b}", "What is {a} less {b}?"),
    "*": ("What is {a} * {b}?", "{a} * {b}", "{a}*{b}", "{a} times {b}?", "What is {a} times {b}?", "Multiply {a} by {b}.",
          "{a} x {b}", "How much is {a} times {b}?", "Calculate {a} * {b}.", "{a}x{b}=?", "What's the product of {a} and {b}?",
          "Compute {a} x {b}", "{a} multiplied by {b}?", "what is {a}x{b}"),
    "/": ("What is {a} / {b}?", "{a} / {b}", "{a}/{b}", "{a} divided by {b}?", "What is {a} divided by {b}?", "Divide {a} by {b}.",
          "How much is {a} divided by {b}?", "Calculate {a} / {b}.", "How often does {b} go into {a}?"),
}


def draw_operands(w: World, op: str) -> tuple:
    if op == "*":
        top = 12 if w.chance(0.3) else 99
        return w.rng.randrange(0, top + 1), w.rng.randrange(0, (12 if w.chance(0.3) else 99) + 1)
    if op == "/":
        b = w.rng.randrange(1, 13)
        a = b * w.rng.randrange(0, 13)
        return (a, b) if w.chance(0.75) else (a + w.rng.randrange(0, b), b)
    top = w.choice((12, 20, 99, 99, 999, 999))
    a, b = w.rng.randrange(0, top + 1), w.rng.randrange(0, (top if w.chance(0.7) else 99) + 1)
    if op == "-" and a < b and w.chance(0.6):
        a, b = b, a
    return a, b


def sum_key(op: str, a: int, b: int) -> tuple:
    return (op,) + ((min(a, b), max(a, b)) if op in "+*" else (a, b))


def places(n: int) -> list:
    """347 -> [300, 40, 7], without zeros."""
    text = str(n)
    parts = [int(d) * 10 ** (len(text) - 1 - i) for i, d in enumerate(text)]
    return [p for p in parts if p] or [0]


def _add_steps(a: int, b: int) -> tuple:
    top = max(places(a)[0], places(b)[0])
    unit = 10 ** (len(str(top)) - 1)
    if unit == 1:
        return f"{a} + {b} = {a + b}.", f"{a} + {b} = {a + b}."
    ah, bh = a // unit * unit, b // unit * unit
    medium = f"{ah} + {bh} = {ah + bh}, {a - ah} + {b - bh} = {a + b - ah - bh}, together {a + b}."
    running, high = 0, []
    while unit:
        pa, pb = a // unit % 10 * unit, b // unit % 10 * unit
        high.append(f"{pa} + {pb} = {pa + pb}")
        running += pa + pb
        high[-1] += f", so far {running}."
        unit //= 10
    return medium, " ".join(high)


def _subtract_steps(a: int, b: int) -> tuple:
    if a < b:
        return (f"{b} is larger. {b} - {a} = {b - a}, so the result is {a - b}.",
                f"{b} is larger than {a}, so the result is negative. {b} - {a} = {b - a}. The result is {a - b}.")
    steps, left = [], a
    for part in places(b):
        steps.append(f"{left} - {part} = {left - part}")
        left -= part
    return ", ".join(steps) + ".", ". ".join(steps) + "."


def _multiply_steps(a: int, b: int) -> tuple:
    if a < 10 and b < 10 or a == 0 or b == 0:
        return f"{a} * {b} = {a * b}.", f"{a} * {b} = {a * b}."
    if b < 10:  # split the longer one
        x, y = b, a
    else:
        x, y = a, b
    parts = places(y)
    products = [x * p for p in parts]
    text = ", ".join(f"{x} * {p} = {q}" for p, q in zip(parts, products))
    medium = text + (f", {products[0]} + {products[1]} = {a * b}." if len(parts) > 1 else ".")
    high = f"I split {y} into " + " and ".join(map(str, parts)) + f". {text}."
    if len(parts) > 1:
        high += f" {products[0]} + {products[1]} = {a * b}."
    return medium, high


def _divide_steps(a: int, b: int) -> tuple:
    q, r = divmod(a, b)
    text = f"{b} * {q} = {b * q}, and {a} - {b * q} = {r}."
    return text, f"I look for the largest multiple of {b} up to {a}. {text}"


def sum_thoughts(op: str, a: int, b: int) -> dict:
    value = result_text(op, a, b)
    steps = {"+": _add_steps, "-": _subtract_steps, "*": _multiply_steps, "/": _divide_steps}[op]
    medium, high = steps(a, b)
    direct = op in "+-" and max(a, b) < 100
    low = f"{a} {op} {b} = {value}." if direct else medium
    check = {"+": lambda: f"Check: {a + b} - {b} = {a}.", "-": lambda: f"Check: {a - b} + {b} = {a}.",
             "*": lambda: f"So {a} * {b} = {a * b}.", "/": lambda: f"So {a} / {b} = {value}."}[op]()
    return thoughts(low, f"{a} {op} {b}: {medium}", f"The user wants {a} {op} {b}. {high} {check}")


def result_text(op: str, a: int, b: int) -> str:
    if op == "/":
        q, r = divmod(a, b)
        return str(q) if r == 0 else f"{q} remainder {r}"
    return str({"+": a + b, "-": a - b, "*": a * b}[op])


def calculation(w: World) -> Turn:
    def draw():
        op = w.choice("++--**/")
        a, b = draw_operands(w, op)
        return sum_key(op, a, b), (op, a, b)

    op, a, b = w.pick("sum", draw=draw)
    template = w.choice(ASK[op])
    text = casual(w.rng, template).replace("{a}", str(a)).replace("{b}", str(b))
    if op == "-" and "difference" in template and a < b:
        text = f"{a} - {b}"
    value = result_text(op, a, b)
    return Turn("arithmetic", text, f"{a} {op} {b} = {value}.", sum_thoughts(op, a, b), accept=(value, value + "."), brief=value,
                topic=("number", a + b if op == "+" else a - b if op == "-" else a * b if op == "*" else a // b))


def follow_up(w: World, last: int) -> Turn:
    """"And plus 5?" on the result of the turn before."""
    def draw():
        op = w.choice("+-*") if 0 <= last <= 99 else w.choice("+-")
        b = w.rng.randrange(0, 13) if op == "*" else w.rng.randrange(0, 100)
        return sum_key(op, last, b), (op, b)

    op, b = w.pick("sum", draw=draw)
    template = w.choice({"+": ("And plus {b}?", "Add {b} to that.", "Now add {b}.", "plus {b}?", "And {b} more?"),
                         "-": ("And minus {b}?", "Subtract {b} from that.", "Now take away {b}.", "minus {b}?", "And {b} less?"),
                         "*": ("And times {b}?", "Multiply that by {b}.", "Now times {b}.", "times {b}?")}[op])
    value = result_text(op, last, b)
    return Turn("arithmetic", template.replace("{b}", str(b)), f"{last} {op} {b} = {value}.", sum_thoughts(op, last, b), brief=value,
                topic=("number", {"+": last + b, "-": last - b, "*": last * b}[op]))


def story(w: World) -> Turn:
    def draw():
        op = w.choice("+-*")
        a, b = draw_operands(w, op)
        if op == "-" and a < b:
            a, b = b, a
        a, b = a + 2, b + 2
        return sum_key(op, a, b), (op, a, b)

    op, a, b = w.pick("sum", draw=draw)
    name, thing = w.choice(NAMES), w.choice(FRUITS[:30] + OBJECTS[:60]) + "s"
    if thing.endswith("ys") or thing.endswith(("shs", "chs", "xs", "ss", "os", "fs", "fes")):
        thing = "coins"
    if op == "+":
        text = w.choice((
            (f"{name} has {a} {thing} and gets {b} more. How many {thing} does {name} have now?", f"{name} has"),
            (f"There are {a} {thing} in one box and {b} in another. How many {thing} are there?", "There are"),
            (f"{name} buys {a} {thing} on Monday and {b} on Tuesday. How many {thing} is that?", "That is")))
    elif op == "-":
        text = w.choice((
            (f"{name} has {a} {thing} and gives away {b}. How many {thing} are left?", f"{name} has"),
            (f"There are {a} {thing}. {name} takes {b} of them. How many {thing} remain?", "There are"),
            (f"{name} had {a} {thing} and lost {b}. How many {thing} does {name} have now?", f"{name} has")))
    else:
        text = w.choice((
            (f"{name} has {a} boxes with {b} {thing} each. How many {thing} is that?", "That is"),
            (f"One bag holds {b} {thing}. How many {thing} are in {a} bags?", "There are"),
            (f"Every day {name} finds {b} {thing}. How many {thing} is that in {a} days?", "That is")))
    question, opening = text
    value = result_text(op, a, b)
    steps = sum_thoughts(op, a, b)
    return Turn("arithmetic", question, f"{opening} {value} {thing}.", thoughts(
        steps["low"], "This is " + steps["medium"], steps["high"].replace("The user wants", "The story asks for")), brief=value)


def compare(w: World) -> Turn:
    def draw():
        top = w.choice((20, 100, 1000, 1000))
        a, b = w.rng.randrange(top), w.rng.randrange(top)
        return (a, b), (a, b)

    a, b = w.pick("compare", draw=draw)
    if a == b:
        b += 1
    larger = w.chance(0.6)
    word = "larger" if larger else "smaller"
    question = w.choice(("Which is {w}, {a} or {b}?", "What is {w}: {a} or {b}?", "Which number is {w}, {a} or {b}?", "{a} or {b}, which one is {w}?"))
    if larger and w.chance(0.4):
        question = question.replace("{w}", w.choice(("bigger", "greater")))
    text = casual(w.rng, question).replace("{w}", word).replace("{a}", str(a)).replace("{b}", str(b))
    win, lose = (max(a, b), min(a, b)) if larger else (min(a, b), max(a, b))
    return Turn("arithmetic", text, f"{win} is {word} than {lose}.", thoughts(
        f"{win}.", f"Compare {a} and {b}: {win} is {word}.",
        f"The user asks which of {a} and {b} is {word}. {max(a, b)} is above {min(a, b)}. So {win} is {word} than {lose}."), brief=str(win))


def big_operands(w: World) -> tuple:
    op = w.choice("+-*/")
    if op in "*/":
        a, b = w.rng.randrange(100, 10 ** w.rng.randrange(3, 6)), w.rng.randrange(13, 10 ** w.rng.randrange(2, 5))
    else:
        a, b = w.rng.randrange(1000, 10 ** w.rng.randrange(4, 7)), w.rng.randrange(1, 10 ** w.rng.randrange(3, 7))
    return op, a, b


def too_big(w: World) -> Turn:
    def draw():
        op, a, b = big_operands(w)
        return (op, a, b), (op, a, b)

    op, a, b = w.pick("too_big", draw=draw)
    if op == "/":
        a = max(a, 1000)
    text = casual(w.rng, w.choice([t for t in ASK[op] if "go into" not in t])).replace("{a}", str(a)).replace("{b}", str(b))
    return Turn("arithmetic", text, TOO_BIG, thoughts(
        f"{a} {op} {b}: too big.", f"{a} {op} {b} is outside my range, and I have no calculator tool.",
        f"The user wants {a} {op} {b}. I can add and subtract up to 999 and multiply up to 99. These numbers are larger, and I have no calculator tool, so I decline."))


def any_sum(w: World) -> Turn:
    r = w.rng.random()
    return calculation(w) if r < 0.72 else story(w) if r < 0.84 else compare(w) if r < 0.92 else too_big(w)
