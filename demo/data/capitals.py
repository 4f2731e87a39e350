"""Capitals and continents of about 190 countries."""

from . import countries as c
from .lexicon import invented
from .world import Turn, World, casual, thoughts

FORWARD = ("What is the capital of {x}?", "What's the capital of {x}?", "Capital of {x}?", "Name the capital of {x}.",
           "Tell me the capital of {x}.", "Which city is the capital of {x}?", "What is {x}'s capital?",
           "Do you know the capital of {x}?", "Can you tell me the capital of {x}?", "What is the capital city of {x}?",
           "I need the capital of {x}.", "{x} has which capital?", "What city is the capital of {x}?", "the capital of {x}",
           "Which is the capital of {x}?", "{x}: capital?", "Give me the capital of {x}.", "capital city of {x}?",
           "I forgot the capital of {x}. What is it?", "What would be the capital of {x}?", "whats the capital of {x}")
BACKWARD = ("Which country has the capital {x}?", "{x} is the capital of which country?", "Of which country is {x} the capital?",
            "What country is {x} the capital of?", "{x} is the capital of what?", "Which country's capital is {x}?",
            "In which country is {x} the capital?", "Name the country whose capital is {x}.")
CONTINENT = ("On which continent is {x}?", "Which continent is {x} on?", "What continent is {x} in?", "Where is {x}?",
             "In which part of the world is {x}?", "Tell me the continent of {x}.", "{x} is on which continent?", "where is {x} located?")
YES_NO = ("Is {y} the capital of {x}?", "Is the capital of {x} {y}?", "Is it true that {y} is the capital of {x}?",
          "{y} is the capital of {x}, right?", "The capital of {x} is {y}, correct?")
FOLLOW = ("And of {x}?", "And {x}?", "And the capital of {x}?", "What about {x}?", "And what about {x}?", "How about {x}?",
          "And for {x}?", "And {x}'s?", "Same for {x}?", "now {x}", "And that of {x}?")

_BY_CAPITAL = {capital: country for country, capital in c.CAPITALS.items() if capital != country}


def _capital_turn(text: str, place: str, capital: str) -> Turn:
    return Turn("capitals", text, f"The capital of {place} is {capital}.", thoughts(
        f"{place}: {capital}.",
        f"The user asks for the capital of {place}. It is {capital}.",
        f"The user asks for the capital of {place}. I recall the country {place}. Its capital is {capital}. I answer in one sentence."),
        accept=(f"{capital}.", capital), brief=capital, topic=("capital", place))


def _unknown_turn(text: str, place: str) -> Turn:
    return Turn("capitals", text, f"I do not know a country called {place}.", thoughts(
        f"{place}: no such country.", f"The user asks about {place}. I know no country with that name.",
        f"The user asks about {place}. I go through the countries that I know. None is called {place}. I say so."),
        topic=("capital", place))


def _place(w: World):
    """Draws (key, shown name, kind, payload)."""
    r = w.rng.random()
    if r < 0.84:
        country = w.choice(list(c.CAPITALS))
        shown = c.named(country)
        if shown != country and w.chance(0.3):
            shown = country
        return country, shown, "known", (c.named(country), c.CAPITALS[country])
    if r < 0.88:
        country = w.choice(list(c.SPECIAL))
        return country, country, "special", c.SPECIAL[country]
    if r < 0.92:
        alias = w.choice(list(c.ALIASES))
        return alias, alias, "known", (c.ALIASES[alias], c.ALIAS_CAPITAL[c.ALIASES[alias]])
    if r < 0.95:
        place = w.choice(c.NOT_COUNTRIES)
    else:
        place = invented(w.rng, 4, 10).capitalize()
    return place, place, "unknown", place


def capital(w: World, follow: bool = False) -> Turn:
    def draw():
        template = w.choice(FOLLOW if follow else FORWARD)
        key, shown, kind, payload = _place(w)
        return (key, template), (template, shown, kind, payload)

    template, shown, kind, payload = w.pick("capital", draw=draw)
    lowered = kind != "unknown" and w.chance(0.15)
    text = casual(w.rng, template).replace("{x}", shown.lower() if lowered else shown)
    text = text[:1].upper() + text[1:] if w.chance(0.5) else text
    if kind == "special":
        return Turn("capitals", text, payload, thoughts(
            f"{shown}: a special case.", f"The capital of {shown} is a special case, so I word it with care.",
            f"The user asks for the capital of {shown}. This one is a special case. I word the answer with care."),
            topic=("capital", shown))
    if kind == "unknown":
        return _unknown_turn(text, payload)
    return _capital_turn(text, *payload)


def country_of(w: World) -> Turn:
    def draw():
        template, city = w.choice(BACKWARD), w.choice(list(_BY_CAPITAL))
        return (city, template), (template, city)

    template, city = w.pick("country_of", draw=draw)
    place = c.named(_BY_CAPITAL[city])
    text = casual(w.rng, template).replace("{x}", city)
    return Turn("capitals", text, f"{city} is the capital of {place}.", thoughts(
        f"{city}: {place}.", f"The user asks which country has the capital {city}. It is {place}.",
        f"The user names the capital {city} and asks for its country. {city} is the capital of {place}. I answer in one sentence."),
        brief=_BY_CAPITAL[city])


def continent(w: World) -> Turn:
    def draw():
        template, country = w.choice(CONTINENT), w.choice(list(c.CONTINENTS))
        return (country, template), (template, country)

    template, country = w.pick("continent", draw=draw)
    place, where = c.named(country), c.CONTINENTS[country]
    shown = place[:1].upper() + place[1:]
    verb = "is"
    text = casual(w.rng, template).replace("{x}", place)
    return Turn("capitals", text, f"{shown} {verb} in {where}.", thoughts(
        f"{place}: {where}.", f"The user asks where {place} is. It is in {where}.",
        f"The user asks for the continent of {place}. I recall the map. {shown} {verb} in {where}. I answer in one sentence."),
        brief=where)


def is_capital(w: World) -> Turn:
    def draw():
        template, country = w.choice(YES_NO), w.choice(list(c.CAPITALS))
        right = w.chance(0.5)
        city = c.CAPITALS[country] if right else w.choice(list(_BY_CAPITAL))
        return (country, city, template), (template, country, city)

    template, country, city = w.pick("is_capital", draw=draw)
    place, true = c.named(country), c.CAPITALS[country]
    text = casual(w.rng, template).replace("{x}", place).replace("{y}", city)
    final = f"Yes, the capital of {place} is {true}." if city == true else f"No, the capital of {place} is {true}."
    verdict = f"Asked: {city}. " + ("The same, so yes." if city == true else "Not the same, so no.")
    return Turn("capitals", text, final, thoughts(
        f"{place}: {true}. {verdict}", f"The capital of {place} is {true}. {verdict}",
        f"The user asks whether {city} is the capital of {place}. The capital of {place} is {true}. {verdict} I name the capital."),
        brief="Yes" if city == true else "No")


def any_capital(w: World) -> Turn:
    r = w.rng.random()
    if r < 0.7:
        return capital(w)
    return country_of(w) if r < 0.8 else continent(w) if r < 0.87 else is_capital(w)
