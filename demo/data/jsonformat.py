"""JSON answers to a schema: extraction from a sentence, and the other skills' answers as objects."""

from . import countries
from .arithmetic import draw_operands, result_text, sum_key
from .harmony import compact
from .lexicon import ANIMALS, CITIES, COLOURS, FRUITS, MONTHS, NAMES, OBJECTS, WORDS, code, invented
from .world import Turn, World, thoughts

# field family: (key names, schema, draw, phrase)
FIELDS = {
    "name": (("name", "person", "first_name", "who", "customer"), {"type": "string"}, lambda w: w.choice(NAMES) if w.chance(0.7) else invented(w.rng, 4, 8).capitalize(), None),
    "age": (("age", "years", "age_years"), {"type": "integer"}, lambda w: w.rng.randrange(1, 100), "is {v} years old"),
    "city": (("city", "town", "location", "lives_in", "home"), {"type": "string"}, lambda w: w.choice(CITIES), "lives in {v}"),
    "pet": (("pet", "animal"), {"type": "string"}, lambda w: w.choice(ANIMALS), "has a pet {v}"),
    "colour": (("color", "colour", "favorite_color", "favourite_colour"), {"type": "string"}, lambda w: w.choice(COLOURS), "likes the colour {v}"),
    "fruit": (("food", "fruit", "favorite_food"), {"type": "string"}, lambda w: w.choice(FRUITS), "likes to eat {v}"),
    "count": (("count", "quantity", "amount", "number"), {"type": "integer"}, lambda w: w.rng.randrange(1, 500), "buys {v} {item}s"),
    "code": (("code", "id", "order_id", "reference"), {"type": "string"}, lambda w: code(w.rng), "has the code {v}"),
    "month": (("month", "birth_month", "born_in"), {"type": "string"}, lambda w: w.choice(MONTHS), "was born in {v}"),
    "married": (("married", "is_married"), {"type": "boolean"}, lambda w: w.chance(0.5), None),
    "friend": (("friend", "best_friend"), {"type": "string"}, lambda w: w.choice(NAMES), "is a friend of {v}"),
    "price": (("price", "cost", "paid"), {"type": "number"}, lambda w: w.choice((w.rng.randrange(1, 300), round(w.rng.uniform(0.5, 99), 2))), "paid {v} dollars"),
}
ASK = ("{t}", "Extract the data: {t}", "Extract the fields from this text: {t}", "Read this and fill in the form. {t}", "{t} Give me the data as JSON.",
       "Turn this into JSON: {t}", "What does this say? {t}", "Parse: {t}", "Text: {t}", "Get the details from: {t}")
FORMAT_NAMES = ("answer", "person", "record", "data", "result", "response", "output", "extraction", "reply", "item", "schema", "form")


def response_format(w: World, properties: dict) -> dict:
    schema = {"type": "object", "properties": properties, "required": list(properties)}
    if w.chance(0.6):
        schema["additionalProperties"] = False
    spec = {"name": w.choice(FORMAT_NAMES)}
    if w.chance(0.2):
        spec["description"] = w.choice(("The answer.", "What the text says.", "The data.", "One record."))
    if w.chance(0.6):
        spec["strict"] = True
    spec["schema"] = schema
    return {"type": "json_schema", "json_schema": spec}


def _turn(text: str, value: dict, wish: str) -> Turn:
    final = compact(value)
    keys = ", ".join(value)
    return Turn("json", text, final, thoughts(
        f"Fields: {keys}.", f"The format asks for {keys}. {wish}", f"The answer must be JSON with the fields {keys}, in that order. {wish} I write nothing but the JSON object."),
        styled=False, value=value)


def extraction(w: World) -> tuple:
    def draw():
        kinds = ["name"] + w.rng.sample([k for k in FIELDS if k != "name"], w.rng.randrange(1, 5))
        values = {k: FIELDS[k][2](w) for k in kinds}
        return tuple(sorted((k, str(v)) for k, v in values.items())), values

    values = w.pick("extraction", draw=draw)
    order = list(values)
    clauses = []
    for kind in order[1:]:
        value = values[kind]
        if kind == "married":
            clauses.append("is married" if value else "is not married")
        else:
            clauses.append(FIELDS[kind][3].replace("{v}", str(value)).replace("{item}", w.choice(OBJECTS[:40])))
    w.rng.shuffle(clauses)
    joined = clauses[0] if len(clauses) == 1 else ", ".join(clauses[:-1]) + " and " + clauses[-1]
    if w.chance(0.3):
        joined = f". {values['name']} ".join(clauses)
    sentence = f"{values['name']} {joined}."
    asked = [k for k in order if w.chance(0.85)] or order
    w.rng.shuffle(asked)
    properties, value = {}, {}
    for kind in asked:
        key = w.choice(FIELDS[kind][0])
        properties[key] = dict(FIELDS[kind][1])
        value[key] = values[kind]
    wish = "I take each from the text."
    return _turn(w.choice(ASK).replace("{t}", sentence), value, wish), response_format(w, properties)


def capital_object(w: World) -> tuple:
    template = ("What is the capital of {x}?", "Capital of {x}?", "{x}", "Tell me about the capital of {x}.", "Name the capital of {x}.")

    def draw():
        country, text = w.choice(list(countries.CONTINENTS)), w.choice(template)
        return (country, text), (country, text)

    country, text = w.pick("capital_object", draw=draw)
    options = {"country": country, "capital": countries.CAPITALS[country], "continent": countries.CONTINENTS[country]}
    keys = ["capital"] + [k for k in ("country", "continent") if w.chance(0.5)]
    w.rng.shuffle(keys)
    value = {k: options[k] for k in keys}
    place = countries.named(country)
    return (_turn(text.replace("{x}", place), value, f"The capital of {place} is {options['capital']}."),
            response_format(w, {k: {"type": "string"} for k in keys}))


def sum_object(w: World) -> tuple:
    def draw():
        op = w.choice("+-*")
        a, b = draw_operands(w, op)
        return sum_key(op, a, b), (op, a, b)

    op, a, b = w.pick("sum", draw=draw)
    key = w.choice(("result", "answer", "value", "sum" if op == "+" else "result"))
    text = w.choice(("What is {a} {op} {b}?", "{a} {op} {b}", "Calculate {a} {op} {b}.", "{a} {op} {b} = ?")).replace("{a}", str(a)).replace("{b}", str(b)).replace("{op}", op)
    value = result_text(op, a, b)
    from_tens = f"{a} * {b // 10 * 10} = {a * (b // 10 * 10)}, {a} * {b % 10} = {a * (b % 10)}, together {value}." if op == "*" and b > 9 else f"{a} {op} {b} = {value}."
    turn = _turn(text, {key: int(value)}, from_tens)
    turn.analysis["low"], turn.topic = from_tens, "worked"
    return turn, response_format(w, {key: {"type": w.choice(("integer", "number"))}})


def list_object(w: World) -> tuple:
    def draw():
        numbers = w.chance(0.5)
        items = [w.rng.randrange(100) for _ in range(w.rng.randrange(2, 6))] if numbers else w.rng.sample(WORDS, w.rng.randrange(2, 6))
        return tuple(sorted(items)), (numbers, items)

    numbers, items = w.pick("list_object", draw=draw)
    key = w.choice(("items", "sorted", "list", "values", "result"))
    text = w.choice(("Sort {x}", "Sort these: {x}", "Put in order: {x}", "Order {x}")).replace("{x}", ", ".join(map(str, items)))
    turn = _turn(text, {key: sorted(items)}, f"In order: {', '.join(map(str, sorted(items)))}.")
    turn.analysis["low"], turn.topic = f"In order: {', '.join(map(str, sorted(items)))}.", "worked"
    return turn, response_format(w, {key: {"type": "array", "items": {"type": "integer" if numbers else "string"}}})


def compare_object(w: World) -> tuple:
    def draw():
        a, b = w.rng.randrange(1000), w.rng.randrange(1000)
        larger = w.chance(0.5)
        return (a, b, larger), (a, b, larger)

    a, b, larger = w.pick("compare_object", draw=draw)
    key = w.choice(("answer", "result", "is_true", "correct"))
    word = "larger" if larger else "smaller"
    truth = a > b if larger else a < b
    return (_turn(f"Is {a} {word} than {b}?", {key: truth}, f"{a} is {'' if truth else 'not '}{word} than {b}."), response_format(w, {key: {"type": "boolean"}}))


def any_json(w: World) -> tuple:
    """Returns (turn, response_format)."""
    r = w.rng.random()
    return (extraction(w) if r < 0.6 else capital_object(w) if r < 0.72 else sum_object(w) if r < 0.82 else list_object(w) if r < 0.92 else compare_object(w))
