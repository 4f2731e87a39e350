"""Words and lists: spelling, reversing, counting letters, sorting, copying."""

import string

from .countries import CAPITALS
from .lexicon import ADJECTIVES, ANIMALS, CITIES, COLOURS, FRUITS, NAMES, NOUNS, OBJECTS, VERBS, WORDS, code, invented
from .world import Turn, World, casual, thoughts


def _word(w: World) -> str:
    r = w.rng.random()
    if r < 0.45:
        return w.choice(WORDS)
    if r < 0.55:
        return w.choice(NAMES + CITIES[:90])
    if r < 0.6:
        return w.choice(WORDS).capitalize()
    return invented(w.rng, 3, 11)


SPELL = ("Spell {x}.", "Spell the word {x}.", "How do you spell {x}?", "Can you spell {x}?", "Please spell {x}.", "Spell out {x}.",
         'Spell "{x}".', "How is {x} spelled?", "Write {x} letter by letter.", "Give me the letters of {x}.", "spelling of {x}?",
         "spell {x} for me", "What are the letters in {x}?", "How do I spell '{x}'?")
REVERSE = ("Reverse {x}.", "Spell {x} backwards.", "Write {x} backwards.", "What is {x} backwards?", 'Reverse the word "{x}".',
           "Turn {x} around.", "What is {x} in reverse?", "reverse the letters of {x}")
COUNT = ("How many letters does {x} have?", "How many letters are in {x}?", "Count the letters in {x}.", 'How long is the word "{x}"?',
         "How many letters has the word {x}?", "number of letters in {x}?")
OCCUR = ("How many times does {l} occur in {x}?", "How many {l}'s are in {x}?", "How often is the letter {l} in {x}?",
         "Count the letter {l} in {x}.", 'How many {l} are there in "{x}"?', "How many times is {l} in the word {x}?")
ENDS = ("What is the {end} letter of {x}?", "Which letter does {x} {verb} with?", "{x}: {end} letter?", "Tell me the {end} letter of {x}.")


def spelled(word: str) -> str:
    return "-".join(word)


def spell(w: World) -> Turn:
    def draw():
        word = _word(w)
        return word.lower(), word

    word = w.pick("spell", draw=draw)
    text = casual(w.rng, w.choice(SPELL)).replace("{x}", word)
    letters = spelled(word)
    return Turn("spelling", text, letters, thoughts(
        f"Spell {word}.", f"The word is {word}. Its letters: {letters}.",
        f"The user wants the letters of {word}. One by one: {letters}. That makes {len(word)} letters."), accept=(letters + ".",))


def reverse(w: World) -> Turn:
    def draw():
        word = _word(w)
        return word.lower(), word

    word = w.pick("reverse", draw=draw)
    text = casual(w.rng, w.choice(REVERSE)).replace("{x}", word)
    letters, back = spelled(word), spelled(word[::-1])
    return Turn("spelling", text, back, thoughts(
        f"{letters}.", f"The word is {word}: {letters}. From the end: {back}.",
        f"The user wants {word} backwards. First the letters in order: {letters}. Now from the last to the first: {back}."))


def count(w: World) -> Turn:
    def draw():
        word = _word(w)
        return word.lower(), word

    word = w.pick("count", draw=draw)
    text = casual(w.rng, w.choice(COUNT)).replace("{x}", word)
    numbered = " ".join(f"{ch}{i}" for i, ch in enumerate(word, 1))
    return Turn("spelling", text, f"{word} has {len(word)} letters.", thoughts(
        f"{spelled(word)}.", f"I count: {numbered}.", f"The user wants the length of {word}. I count the letters: {numbered}. The last number is {len(word)}."),
        brief=str(len(word)))


def occurrences(w: World) -> Turn:
    def draw():
        word = _word(w).lower()
        letter = w.choice(word) if w.chance(0.8) else w.choice(string.ascii_lowercase)
        return (word, letter), (word, letter)

    word, letter = w.pick("occurrences", draw=draw)
    text = casual(w.rng, w.choice(OCCUR)).replace("{x}", word).replace("{l}", letter)
    n = word.count(letter)
    marks, seen = [], 0
    for ch in word:
        seen += ch == letter
        marks.append(f"{ch}{seen}" if ch == letter else ch)
    times = "once" if n == 1 else f"{n} times"
    return Turn("spelling", text, f"The letter {letter} occurs {times} in {word}.", thoughts(
        f"{' '.join(marks)}.", f"The letters: {' '.join(marks)}. That is {n}.",
        f"The user wants to know how often {letter} is in {word}. I go through the letters and count each {letter}: {' '.join(marks)}. That is {n}."),
        brief=str(n))


def end_letter(w: World) -> Turn:
    def draw():
        word, end = _word(w).lower(), w.choice(("first", "last"))
        return (word, end), (word, end)

    word, end = w.pick("end_letter", draw=draw)
    verb = "start" if end == "first" else "end"
    text = casual(w.rng, w.choice(ENDS)).replace("{x}", word).replace("{end}", end).replace("{verb}", verb)
    letter = word[0] if end == "first" else word[-1]
    return Turn("spelling", text, f"The {end} letter of {word} is {letter}.", thoughts(
        f"{spelled(word)}.", f"The letters are {spelled(word)}, so the {end} one is {letter}.",
        f"The user wants the {end} letter of {word}. The letters are {spelled(word)}. The {end} one is {letter}."), brief=letter)


def any_spelling(w: World) -> Turn:
    r = w.rng.random()
    return (spell(w) if r < 0.5 else reverse(w) if r < 0.68 else count(w) if r < 0.8 else occurrences(w) if r < 0.92 else end_letter(w))


SORT_WORDS = ("Sort these words: {x}", "Sort alphabetically: {x}", "Put these words in alphabetical order: {x}", "Sort {x}",
              "Order these words from a to z: {x}", "Please sort the list {x}", "Arrange alphabetically: {x}", "Sort the words {x}.",
              "Can you sort {x}?", "alphabetical order: {x}", "Bring these in order: {x}")
SORT_UP = ("Sort these numbers: {x}", "Sort ascending: {x}", "Put these numbers in order: {x}", "Sort {x}", "Sort {x} from small to large.",
           "Order these numbers from smallest to largest: {x}", "Arrange the numbers {x}.", "sort the numbers {x}", "Can you sort {x}?")
SORT_DOWN = ("Sort descending: {x}", "Sort these numbers from large to small: {x}", "Put {x} in descending order.", "Sort {x} in reverse.",
             "Order from largest to smallest: {x}", "sort in descending order: {x}")
EXTREME = ("What is the {e} of {x}?", "Which is the {e} number: {x}?", "Find the {e} of {x}.", "{e} of {x}?", "Which of {x} is the {e}?")

_GROUPS = (ANIMALS, FRUITS, COLOURS, OBJECTS, VERBS, ADJECTIVES, NOUNS, NAMES, CITIES[:90], WORDS)


def _joined(w: World, items: list) -> str:
    if w.chance(0.7):
        return ", ".join(items)
    return " ".join(items) if w.chance(0.5) else ", ".join(items[:-1]) + " and " + items[-1]


def _list_size(w: World) -> int:
    return w.choice((2, 3, 3, 4, 4, 5, 5, 6, 7))


def sort_words(w: World) -> Turn:
    def draw():
        items = w.rng.sample(w.choice(_GROUPS), _list_size(w))
        return tuple(sorted(items)), items

    items = w.pick("sort_words", draw=draw)
    w.rng.shuffle(items)
    text = casual(w.rng, w.choice(SORT_WORDS)).replace("{x}", _joined(w, items))
    ordered = sorted(items, key=str.lower)
    final = ", ".join(ordered)
    marked = ", ".join(f"{i[0].lower()} {i}" for i in ordered)
    return Turn("sorting", text, final, thoughts(
        "Sort by letters.", f"In alphabetical order: {marked}.",
        f"The user gives {len(items)} words: {', '.join(items)}. By their first letters: {marked}. I list them in that order."),
        accept=(final + ".", "\n".join(ordered)), topic=("list", ordered))


def sort_numbers(w: World) -> Turn:
    def draw():
        top = w.choice((10, 100, 100, 1000))
        items = [w.rng.randrange(top) for _ in range(_list_size(w))]
        down = w.chance(0.3)
        return (tuple(sorted(items)), down), (items, down)

    items, down = w.pick("sort_numbers", draw=draw)
    w.rng.shuffle(items)
    shown = _joined(w, [str(i) for i in items])
    text = casual(w.rng, w.choice(SORT_DOWN if down else SORT_UP)).replace("{x}", shown)
    ordered = [str(i) for i in sorted(items, reverse=down)]
    final = ", ".join(ordered)
    order = "largest first" if down else "smallest first"
    return Turn("sorting", text, final, thoughts(
        f"Sort, {order}.", f"There are {len(items)} numbers. With the {order}: {final}.",
        f"The user gives {len(items)} numbers: {', '.join(map(str, items))}. They want the {order}. In that order: {final}. That is {len(items)} numbers again."),
        accept=(final + ".", "\n".join(ordered)), topic=("list", ordered))


def extreme(w: World) -> Turn:
    def draw():
        items = [w.rng.randrange(w.choice((10, 100, 1000))) for _ in range(_list_size(w))]
        e = w.choice(("largest", "smallest", "biggest", "maximum", "minimum", "highest", "lowest"))
        return (tuple(items), e), (items, e)

    items, e = w.pick("extreme", draw=draw)
    text = casual(w.rng, w.choice(EXTREME)).replace("{x}", _joined(w, [str(i) for i in items])).replace("{e}", e)
    best = (max if e in ("largest", "biggest", "maximum", "highest") else min)(items)
    return Turn("sorting", text, f"The {e} is {best}.", thoughts(
        f"{best}.", f"Of {', '.join(map(str, items))} the {e} is {best}.",
        f"The user wants the {e} of {', '.join(map(str, items))}. I compare them one by one. The {e} is {best}."), brief=str(best))


def any_sorting(w: World) -> Turn:
    r = w.rng.random()
    return sort_words(w) if r < 0.5 else sort_numbers(w) if r < 0.84 else extreme(w)


COPY = ("Repeat after me: {x}", "Say exactly: {x}", "Copy this text: {x}", "Repeat: {x}", "Write this again: {x}", "Copy exactly:\n{x}",
        "Repeat the following: {x}", "Please repeat this word for word: {x}", 'Say "{x}"', "Echo: {x}", "Copy: {x}", "Reproduce: {x}",
        "Repeat this code: {x}", "Type the following exactly: {x}", "Write down exactly this: {x}", "echo {x}", "just say {x}")


def passage(w: World) -> str:
    """A line to copy: words, codes, numbers, names and marks in any order."""
    kind = w.rng.randrange(5)
    if kind == 0:
        return " ".join(w.choice(WORDS) for _ in range(w.rng.randrange(1, 12)))
    if kind == 1:
        return " ".join(code(w.rng) for _ in range(w.rng.randrange(1, 5)))
    if kind == 2:
        return (f"{w.choice(NAMES)} and {w.choice(NAMES)} {w.choice(VERBS)} to the {w.choice(ADJECTIVES)} {w.choice(NOUNS)}"
                f"{w.choice(('', ', but the ' + w.choice(OBJECTS) + ' is ' + w.choice(ADJECTIVES)))}{w.choice('.!?')}")
    if kind == 3:
        return " ".join(invented(w.rng) if w.chance(0.6) else w.choice(WORDS) for _ in range(w.rng.randrange(1, 9)))
    bits = []
    for _ in range(w.rng.randrange(2, 9)):
        r = w.rng.random()
        bits.append(w.choice(WORDS) if r < 0.35 else str(w.rng.randrange(10 ** w.rng.randrange(1, 6))) if r < 0.55
                    else w.choice(NAMES) if r < 0.65 else code(w.rng) if r < 0.8 else w.choice(("-", "+", "/", "&", "=", "->", "*", "#", "(ok)", "@"))
                    if r < 0.9 else invented(w.rng))
    return w.choice((" ", " ", ", ", "; ")).join(bits)


def copy(w: World) -> Turn:
    def draw():
        x = passage(w)
        return x, x

    x = w.pick("copy", draw=draw)
    text = casual(w.rng, w.choice(COPY)).replace("{x}", x)
    return Turn("copying", text, x, thoughts(
        "Copy the text.", "The user wants the text repeated exactly, so I copy it without changes.",
        f"The user wants an exact copy. The text is: {x} I repeat it without adding or leaving out anything."), styled=False)


CASE = ("Write {x} in {c} case.", "{x} in {c} case", "Change to {c} case: {x}", "Convert {x} to {c} case.", "Put this in {c} case: {x}", 'Write "{x}" in {c} case.')


def change_case(w: World) -> Turn:
    def draw():
        kind = w.rng.randrange(4)
        x = (" ".join(w.choice(WORDS) for _ in range(w.rng.randrange(1, 6))) if kind == 0 else invented(w.rng, 3, 10) if kind == 1 else
             w.choice(NAMES + CITIES + list(CAPITALS) + list(CAPITALS.values())) if kind == 2 else
             f"The {w.choice(ADJECTIVES)} {w.choice(ANIMALS)} is in {w.choice(CITIES)}.")
        upper = w.chance(0.75)
        return (x, upper), (x, upper)

    x, upper = w.pick("change_case", draw=draw)
    name = "upper" if upper else "lower"
    text = casual(w.rng, w.choice(CASE)).replace("{x}", x).replace("{c}", name)
    return Turn("copying", text, x.upper() if upper else x.lower(), thoughts(
        f"In {name} case.", f"The user wants the text in {name} case. I change each letter.",
        f"The user wants {x} in {name} case. I change each letter and keep the rest as it is."), styled=False)


def any_copying(w: World) -> Turn:
    return copy(w) if w.chance(0.7) else change_case(w)
