"""Recall of facts given earlier: a few tokens back, past one window of 128 tokens, or several thousand tokens back."""

from .lexicon import (ADJECTIVES, ANIMALS, CITIES, COLOURS, FRUITS, MONTHS, NAMES, NOUNS, OBJECTS, VERBS, code, invented)
from .world import Turn, World, thoughts

# attribute: (statement, question, answer, how to draw the value). {p} is the person, {v} the value.
FACTS = {
    "colour": ("{p}'s favourite colour is {v}.", "What is {p}'s favourite colour?", "{p}'s favourite colour is {v}.", lambda w: w.choice(COLOURS)),
    "city": ("{p} lives in {v}.", "Where does {p} live?", "{p} lives in {v}.", lambda w: w.choice(CITIES)),
    "pet": ("{p} has a pet {v}.", "Which pet does {p} have?", "{p} has a pet {v}.", lambda w: w.choice(ANIMALS)),
    "fruit": ("{p} likes to eat {v}.", "What does {p} like to eat?", "{p} likes to eat {v}.", lambda w: w.choice(FRUITS)),
    "locker": ("The locker code of {p} is {v}.", "What is the locker code of {p}?", "The locker code of {p} is {v}.", lambda w: code(w.rng)),
    "room": ("{p} stays in room {v}.", "In which room does {p} stay?", "{p} stays in room {v}.", lambda w: str(w.rng.randrange(1, 1000))),
    "phone": ("The phone number of {p} is {v}.", "What is the phone number of {p}?", "The phone number of {p} is {v}.",
              lambda w: f"{w.rng.randrange(100, 1000)}-{w.rng.randrange(1000, 10000)}"),
    "month": ("{p} was born in {v}.", "In which month was {p} born?", "{p} was born in {v}.", lambda w: w.choice(MONTHS)),
    "seat": ("{p} has seat {v}.", "Which seat does {p} have?", "{p} has seat {v}.", lambda w: f"{w.rng.randrange(1, 60)}{w.choice('ABCDEF')}"),
    "password": ("The password of {p} is {v}.", "What is the password of {p}?", "The password of {p} is {v}.",
                 lambda w: invented(w.rng, 5, 9) if w.chance(0.6) else code(w.rng)),
    "item": ("{p} lost a {v}.", "What did {p} lose?", "{p} lost a {v}.", lambda w: w.choice(OBJECTS)),
    "job": ("{p} has to {v} the {n}.", None, None, None),
    "age": ("{p} is {v} years old.", "How old is {p}?", "{p} is {v} years old.", lambda w: str(w.rng.randrange(2, 100))),
    "friend": ("{p}'s best friend is {v}.", "Who is {p}'s best friend?", "{p}'s best friend is {v}.", lambda w: w.choice(NAMES)),
}
del FACTS["job"]

OTHER_WAYS = {
    "colour": ("Which colour does {p} like best?", "{p}'s favourite colour?"),
    "city": ("In which city does {p} live?", "Which city does {p} live in?"),
    "pet": ("What pet does {p} have?", "What animal does {p} have?"),
    "locker": ("Tell me {p}'s locker code.", "What is {p}'s locker code?"),
    "room": ("Which room is {p} in?", "What is {p}'s room?"),
    "phone": ("What is {p}'s phone number?", "How can I call {p}?"),
    "month": ("When was {p} born?", "{p} was born in which month?"),
    "seat": ("What is {p}'s seat?", "Where does {p} sit?"),
    "password": ("Tell me the password of {p}.", "What is {p}'s password?"),
    "item": ("What has {p} lost?", "Which thing did {p} lose?"),
    "age": ("What is {p}'s age?", "Tell me {p}'s age."),
    "friend": ("{p}'s best friend is who?", "Name {p}'s best friend."),
    "fruit": ("Which food does {p} like?", "What does {p} eat?"),
}

# Facts about the user: (statement, question, answer, value).
ABOUT_ME = {
    "name": ("My name is {v}.", ("What is my name?", "What's my name?", "Do you remember my name?", "Who am I?", "Tell me my name.", "whats my name"),
             "Your name is {v}.", lambda w: w.choice(NAMES) if w.chance(0.7) else invented(w.rng, 3, 8).capitalize()),
    "city": ("I live in {v}.", ("Where do I live?", "Which city do I live in?", "Do you remember where I live?", "In which city do I live?"),
             "You live in {v}.", lambda w: w.choice(CITIES)),
    "pet": ("My {a} is called {v}.", ("What is my {a} called?", "What's the name of my {a}?", "How is my {a} called?", "Do you remember my {a}'s name?"),
            "Your {a} is called {v}.", lambda w: w.choice(NAMES) if w.chance(0.6) else invented(w.rng, 3, 7).capitalize()),
    "code": ("The code is {v}.", ("What is the code?", "What was the code?", "Tell me the code.", "Do you remember the code?", "Which code did I give you?"),
             "The code is {v}.", lambda w: code(w.rng)),
    "colour": ("My favourite colour is {v}.", ("What is my favourite colour?", "Which colour do I like best?", "What's my favourite colour?"),
               "Your favourite colour is {v}.", lambda w: w.choice(COLOURS)),
    "age": ("I am {v} years old.", ("How old am I?", "What is my age?", "Do you remember how old I am?"), "You are {v} years old.",
            lambda w: str(w.rng.randrange(5, 100))),
    "number": ("My lucky number is {v}.", ("What is my lucky number?", "What's my lucky number?", "Which is my lucky number?"),
               "Your lucky number is {v}.", lambda w: str(w.rng.randrange(1, 1000))),
    "word": ("The secret word is {v}.", ("What is the secret word?", "What was the secret word?", "Tell me the secret word.", "secret word?"),
             "The secret word is {v}.", lambda w: w.choice(OBJECTS) if w.chance(0.5) else invented(w.rng, 4, 9)),
    "key": ("I put the {a} in the {b}.", ("Where is the {a}?", "Where did I put the {a}?", "Do you know where the {a} is?"),
            "You put the {a} in the {b}.", None),
}
NOTED = ("I will remember that.", "All right, I will remember that.", "Noted.")
LEAD = ("", "", "", "Remember: ", "Please remember this: ", "Keep in mind: ", "Note: ", "For later: ")


def noted(text: str) -> Turn:
    return Turn("recall", text, NOTED[0], thoughts(
        "Note this.", "The user tells me something to remember. I confirm it.",
        "The user gives me a fact for later and asks nothing yet. I keep it in mind and confirm it in one short sentence."), accept=NOTED)


def about_me(w: World) -> tuple:
    """A statement turn and the turn that asks for it later."""
    def draw():
        kind = w.choice(list(ABOUT_ME))
        statement, questions, answer, value = ABOUT_ME[kind]
        a, b = w.choice(ANIMALS if kind == "pet" else OBJECTS[:40]), w.choice(OBJECTS[40:])
        v = value(w) if value else ""
        question = w.choice(questions)
        fill = lambda t: t.replace("{a}", a).replace("{b}", b).replace("{v}", v)
        return (kind, a if kind in ("pet", "key") else "", b if kind == "key" else v, question), (kind, fill(statement), fill(question), fill(answer))

    kind, statement, question, answer = w.pick("about_me", draw=draw)
    lead = w.choice(LEAD)
    text = lead + statement
    if not lead and w.chance(0.2):
        text = w.choice(("Hi! ", "Hello. ", "By the way: ", "You should know: ")) + text
    if not lead and kind == "name":
        first = Turn("talk", text, "Nice to meet you, " + answer[len("Your name is "):], thoughts(
            "A name.", "The user tells me their name. I greet them by name.",
            "The user tells me a name. I greet them by that name and remember it for later."))
    else:
        first = noted(text)
    asked = Turn("recall", question, answer, thoughts(
        f"{answer}", f"Earlier the user said: {statement} So the answer is clear.",
        f"The user asks for something told before. I look back. They said: {statement} I answer with that."))
    return first, asked


def not_told(w: World) -> Turn:
    """A question about the user that nothing before answers."""
    def draw():
        kind = w.choice([k for k in ABOUT_ME if k != "key"])
        a = w.choice(ANIMALS)
        q = w.choice(ABOUT_ME[kind][1]).replace("{a}", a)
        return (kind, q, w.rng.randrange(40)), (kind, q)

    _, question = w.pick("not_told", draw=draw)
    return Turn("recall", question, "You have not told me that yet.", thoughts(
        "Not told.", "I look back, but the user has not told me this.",
        "The user asks for something about themselves. I look through what was said. There is nothing about it, so I say so."))


def _people(w: World, n: int) -> list:
    people = list(NAMES)
    w.rng.shuffle(people)
    while len(people) < n:
        name = invented(w.rng, 4, 8).capitalize()
        if name not in people:
            people.append(name)
    return people[:n]


def filler(w: World) -> str:
    r = w.rng.random()
    if r < 0.4:
        return f"The {w.choice(ADJECTIVES)} {w.choice(ANIMALS)} {w.choice(('sat by', 'ran to', 'slept near', 'looked at', 'walked past'))} the {w.choice(ADJECTIVES)} {w.choice(NOUNS)}."
    if r < 0.7:
        return f"Then they {w.choice(VERBS)} and {w.choice(VERBS)} until the {w.choice(NOUNS)} is {w.choice(ADJECTIVES)}."
    return f"On {w.choice(('Monday', 'Tuesday', 'Wednesday', 'Thursday', 'Friday', 'Saturday', 'Sunday'))} the {w.choice(NOUNS)} was {w.choice(ADJECTIVES)}."


def notes(w: World, facts: int, fillers: int) -> tuple:
    """A page of facts about people between filler sentences: (lines, [(attribute, person, value)])."""
    people = _people(w, max(2, facts * 2 // 3))
    attributes = w.rng.sample(list(FACTS), min(len(FACTS), w.rng.randrange(2, 8)))
    known, told = [], set()
    while len(known) < facts:
        attribute, person = w.choice(attributes), w.choice(people)
        if (attribute, person) in told:
            if len(told) >= len(attributes) * len(people):
                break
            continue
        told.add((attribute, person))
        known.append((attribute, person, FACTS[attribute][3](w)))
    lines = [FACTS[a][0].replace("{p}", p).replace("{v}", v) for a, p, v in known]
    lines += [filler(w) for _ in range(fillers)]
    w.rng.shuffle(lines)
    return lines, known


def ask_fact(w: World, known: list) -> Turn:
    def draw():
        attribute, person, value = w.choice(known)
        question = w.choice((FACTS[attribute][1],) + OTHER_WAYS[attribute]).replace("{p}", person)
        return (question, value), (attribute, person, value, question)

    attribute, person, value, question = w.pick("fact", draw=draw)
    statement = FACTS[attribute][0].replace("{p}", person).replace("{v}", value)
    answer = FACTS[attribute][2].replace("{p}", person).replace("{v}", value)
    return Turn("recall", question, answer, thoughts(
        f"{statement}", f"The text says: {statement}",
        f"The user asks about {person}. I search the text for {person}. It says: {statement} I answer with that."), brief=value, topic=(person, attribute))


def missing_fact(w: World, known: list) -> Turn:
    """Asks for a person whom the text does not name."""
    people = {p for _, p, _ in known}

    def draw():
        person = w.choice(NAMES) if w.chance(0.7) else invented(w.rng, 4, 8).capitalize()
        attribute = w.choice([a for a, _, _ in known])
        return (person, attribute, person in people), (person, attribute)

    while True:
        person, attribute = w.pick("missing_fact", draw=draw)
        if person not in people:
            break
    question = w.choice((FACTS[attribute][1],) + OTHER_WAYS[attribute]).replace("{p}", person)
    return Turn("recall", question, f"The text says nothing about {person}.", thoughts(
        f"{person} is not there.", f"I look for {person}, but the text does not name them.",
        f"The user asks about {person}. I search the text for {person}. The name is not there, so I say so."))


INTRO = ("Here are my notes:\n{t}", "Read this:\n{t}", "Some facts:\n{t}", "Remember the following.\n{t}", "{t}", "Keep this in mind: {t}",
         "This is the text:\n\n{t}", "Notes:\n{t}", "I will ask about this text.\n{t}")


def page(w: World, lines: list) -> str:
    body = (" " if w.chance(0.6) else "\n").join(lines)
    return w.choice(INTRO).replace("{t}", body)
