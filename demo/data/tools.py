"""Tool families: how a function is declared, how a user asks for it, what it answers and what the model says then.

A family makes Tool objects with varied names, descriptions and schemas; a Tool makes call turns."""

from dataclasses import dataclass
from typing import Callable

from .arithmetic import ASK, big_operands, draw_operands
from .harmony import compact
from .lexicon import CITIES, LANGUAGES, NAMES, NOUNS, OBJECTS, TIME_ZONES, VERBS, WORDS, ADJECTIVES, invented
from .world import World, casual

NO_TOOL = "I have no tool for that here."


@dataclass
class Ask:
    """A question that a tool answers, before the tool's result is known."""

    user: str
    arguments: dict
    result: str
    final: str
    wish: str  # what is wanted, in a few words


@dataclass
class Tool:
    family: str
    function: dict
    ask: Callable[[World], Ask]

    @property
    def definition(self) -> dict:
        return {"type": "function", "function": self.function}


def declare(name: str, description: str, properties: dict, required: list) -> dict:
    function = {"name": name, "description": description}
    if properties is not None:
        function["parameters"] = {"type": "object", "properties": properties, "required": required}
    return function


def _named(w: World, *names: str) -> str:
    name = w.choice(names)
    r = w.rng.random()
    if r < 0.12:
        head, *tail = name.split("_")
        return head + "".join(t.capitalize() for t in tail)
    if r < 0.18:
        return name + w.choice(("_v2", "_tool", "_now", "_api"))
    return name


def _text_property(w: World, *descriptions: str) -> dict:
    prop = {"type": "string"}
    if w.chance(0.6):
        prop["description"] = w.choice(descriptions)
    return prop


def _place(w: World) -> str:
    r = w.rng.random()
    if r < 0.63:
        return w.choice(CITIES)
    if r < 0.75:
        return w.choice(CITIES).lower()
    return invented(w.rng, 4, 9).capitalize() if r < 0.9 else w.choice(CITIES) + ", " + w.choice(("France", "Germany", "Canada", "Texas", "Japan", "Spain", "Italy", "UK", "USA", "NY"))


SKIES = ("sunny", "cloudy", "rainy", "windy", "snowy", "foggy", "clear sky", "light rain", "heavy rain", "partly cloudy", "overcast", "thunderstorm", "drizzle", "mist")


def weather(w: World) -> Tool:
    name = _named(w, "get_weather", "get_weather", "get_current_weather", "current_weather", "weather", "fetch_weather", "weather_lookup", "check_weather", "get_forecast")
    key = w.choice(("location", "location", "city", "place", "town", "city_name", "where"))
    properties = {key: _text_property(w, "City", "City name", "The city", "The city and country", "Name of the place", "The location to look up, e.g. Paris")}
    unit_key = w.choice(("unit", "units", "format")) if w.chance(0.4) else None
    if unit_key:
        properties[unit_key] = {"type": "string", "enum": ["celsius", "fahrenheit"]}
        if w.chance(0.3):
            properties[unit_key]["default"] = "celsius"
    function = declare(name, w.choice(("Get the weather.", "Get the current weather.", "Get the current weather for a location.", "Current weather in a city",
                                       "Returns the weather for a place.", "Look up the weather", "Weather information", "Gets the current weather in the provided location.")),
                       properties, [key])

    def ask(w: World) -> Ask:
        place = _place(w)
        template = w.choice(("What is the weather in {x}?", "What's the weather in {x}?", "How is the weather in {x}?", "Weather in {x}?", "Is it raining in {x}?",
                             "Tell me the weather in {x}.", "What is the weather like in {x}?", "Do I need an umbrella in {x}?", "How warm is it in {x}?",
                             "Is it cold in {x}?", "weather {x}", "What's the temperature in {x}?", "Check the weather in {x}.", "How's the weather in {x} today?",
                             "Is it sunny in {x}?", "What is the weather like in {x} right now?", "I am going to {x}. How is the weather there?"))
        arguments, unit = {key: place}, ""
        if unit_key and w.chance(0.4):
            unit = w.choice(("celsius", "fahrenheit"))
            template = template.rstrip("?.") + " in " + (unit if w.chance(0.5) else unit.capitalize()) + template[-1:] * (template[-1] in "?.")
            arguments[unit_key] = unit
        degrees, sky = w.rng.randrange(-15, 40), w.choice(SKIES)
        if unit == "fahrenheit":
            degrees = w.rng.randrange(10, 105)
        kind = w.rng.randrange(6)
        letter = "F" if unit == "fahrenheit" else "C"
        result, final = (
            (compact({"temperature": degrees, "condition": sky}), f"In {place} it is {degrees} degrees: {sky}."),
            (compact({w.choice(("temp", "temp_c", "t")): degrees, w.choice(("conditions", "sky", "weather")): sky}), f"In {place} it is {degrees} degrees: {sky}."),
            (compact({key: place, "temperature": degrees, "unit": unit or "celsius", "description": sky}), f"In {place} it is {degrees} degrees: {sky}."),
            (f"{degrees} {letter}, {sky}", f"In {place} it is {degrees} degrees: {sky}."),
            (f"{sky}, {degrees}°{letter}", f"In {place} it is {degrees} degrees: {sky}."),
            (f'{{"temperature": {degrees}, "condition": "{sky}", "humidity": {w.rng.randrange(20, 100)}}}', f"In {place} it is {degrees} degrees: {sky}."),
        )[kind]
        return Ask(casual(w.rng, template).replace("{x}", place), arguments, result, final, f"the weather in {place}")

    return Tool("weather", function, ask)


_SIGN_NAMES = {"+": "add", "-": "subtract", "*": "multiply", "/": "divide"}


def calculator(w: World) -> Tool:
    name = _named(w, "calculate", "calculator", "calculate", "eval_expression", "math", "compute", "evaluate", "do_math", "calc")
    split = w.chance(0.35)
    if split:
        x, y = w.choice((("a", "b"), ("x", "y"), ("left", "right"), ("first", "second")))
        op_key = w.choice(("operation", "operator", "op"))
        words = w.chance(0.6)
        options = list(_SIGN_NAMES.values()) if words else list(_SIGN_NAMES)
        properties = {x: {"type": "number"}, y: {"type": "number"}, op_key: {"type": "string", "enum": options}}
        if w.chance(0.4):
            properties = {op_key: properties[op_key], x: properties[x], y: properties[y]}
    else:
        key = w.choice(("expression", "expression", "expr", "input", "formula", "query"))
        properties = {key: _text_property(w, "The expression", "Expression to evaluate", "For example 2 + 2", "A mathematical expression")}
    function = declare(name, w.choice(("Evaluate an expression.", "Calculate.", "A calculator", "Does arithmetic.", "Evaluates a mathematical expression",
                                       "Compute the result of a calculation.", "Use this for arithmetic.")), properties, list(properties))

    def ask(w: World) -> Ask:
        if w.chance(0.6):
            op, a, b = big_operands(w)
        else:
            op = w.choice("+-*/")
            a, b = draw_operands(w, op)
            a, b = a + 1, b + 1
        value = a + b if op == "+" else a - b if op == "-" else a * b if op == "*" else round(a / b, 2)
        value = int(value) if value == int(value) else value
        template = w.choice([t for t in ASK[op] if "go into" not in t and "difference" not in t])
        text = casual(w.rng, template).replace("{a}", str(a)).replace("{b}", str(b))
        if split:
            arguments = {k: {x: a, y: b, op_key: _SIGN_NAMES[op] if words else op}[k] for k in properties}
        else:
            arguments = {key: f"{a} {op} {b}"}
        result = w.choice((str(value), compact({"result": value}), compact({"value": value}), compact({"answer": value})))
        return Ask(text, arguments, result, f"{a} {op} {b} = {value}.", f"{a} {op} {b}")

    return Tool("calculator", function, ask)


def clock(w: World) -> Tool:
    name = _named(w, "get_time", "get_current_time", "current_time", "time", "clock", "get_local_time", "time_in", "world_clock")
    by_zone, none = w.chance(0.35), False
    if not by_zone:
        none = w.chance(0.2)
    key = w.choice(("timezone", "time_zone", "tz", "zone")) if by_zone else w.choice(("city", "location", "place"))
    properties = None if none else {key: _text_property(w, "IANA time zone, e.g. Europe/Paris", "Time zone name") if by_zone else
                                    _text_property(w, "City", "City name", "The place")}
    function = declare(name, w.choice(("Get the current time.", "Get the time.", "Current local time", "Tells the time.", "Returns the current time in a place." if not none else "Returns the local time.")),
                       properties, [key])

    def ask(w: World) -> Ask:
        city = w.choice(list(TIME_ZONES)) if by_zone else w.choice(CITIES)
        time = f"{w.rng.randrange(24):02d}:{w.rng.randrange(60):02d}"
        if none:
            template = w.choice(("What time is it?", "What's the time?", "Tell me the time.", "Do you know the time?", "time?", "How late is it?", "What is the current time?"))
            arguments, final, wish = {}, f"It is {time}.", "the time"
        else:
            template = w.choice(("What time is it in {x}?", "What's the time in {x}?", "Time in {x}?", "Tell me the time in {x}.", "How late is it in {x}?",
                                 "What is the current time in {x}?", "Do you know the time in {x}?", "What is the local time in {x}?", "time in {x}", "What time do they have in {x}?"))
            arguments, final, wish = {key: TIME_ZONES[city] if by_zone else city}, f"It is {time} in {city}.", f"the time in {city}"
        result = w.choice((time, compact({"time": time}), compact({"current_time": time}), compact({"local_time": time, "day": w.choice(("Monday", "Friday", "Sunday"))})))
        return Ask(casual(w.rng, template).replace("{x}", city), arguments, result, final, wish)

    return Tool("time", function, ask)


UNITS = (("miles", "kilometers", 1.609344), ("kilometers", "miles", 0.621371), ("feet", "meters", 0.3048), ("meters", "feet", 3.28084),
         ("inches", "centimeters", 2.54), ("centimeters", "inches", 0.393701), ("pounds", "kilograms", 0.453592), ("kilograms", "pounds", 2.20462),
         ("ounces", "grams", 28.3495), ("grams", "ounces", 0.035274), ("gallons", "liters", 3.78541), ("liters", "gallons", 0.264172),
         ("hours", "minutes", 60), ("minutes", "seconds", 60), ("days", "hours", 24), ("weeks", "days", 7), ("yards", "meters", 0.9144),
         ("meters", "yards", 1.09361), ("euros", "dollars", 1.08), ("dollars", "euros", 0.92), ("knots", "kilometers", 1.852), ("acres", "hectares", 0.404686))


def converter(w: World) -> Tool:
    name = _named(w, "convert_units", "convert", "unit_converter", "convert_unit", "unit_conversion", "convert_measurement")
    value_key = w.choice(("value", "amount", "quantity", "number"))
    from_key, to_key = w.choice((("from_unit", "to_unit"), ("from", "to"), ("source", "target"), ("unit_from", "unit_to"), ("source_unit", "target_unit")))
    properties = {value_key: {"type": "number"}, from_key: {"type": "string"}, to_key: {"type": "string"}}
    if w.chance(0.4):
        properties[value_key]["description"] = w.choice(("The value to convert", "How much"))
        properties[from_key]["description"] = "The unit to convert from"
        properties[to_key]["description"] = "The unit to convert to"
    if w.chance(0.2):
        properties = {from_key: properties[from_key], to_key: properties[to_key], value_key: properties[value_key]}
    function = declare(name, w.choice(("Convert units.", "Convert a value from one unit to another.", "Unit conversion", "Converts measurements.")), properties, list(properties))

    def ask(w: World) -> Ask:
        source, target, factor = w.choice(UNITS)
        amount = w.rng.randrange(1, 1000) if w.chance(0.75) else round(w.rng.uniform(0.1, 100), 1)
        value = round(amount * factor, 2)
        value = int(value) if value == int(value) else value
        template = w.choice(("Convert {v} {a} to {b}.", "How many {b} are {v} {a}?", "What is {v} {a} in {b}?", "{v} {a} in {b}", "How much is {v} {a} in {b}?",
                             "{v} {a} to {b}", "Turn {v} {a} into {b}.", "Can you convert {v} {a} into {b}?", "I have {v} {a}. How many {b} is that?"))
        arguments = {k: {value_key: amount, from_key: source, to_key: target}[k] for k in properties}
        result = w.choice((str(value), compact({"result": value}), f"{value} {target}", compact({"value": value, "unit": target})))
        text = casual(w.rng, template).replace("{v}", str(amount)).replace("{a}", source).replace("{b}", target)
        return Ask(text, arguments, result, f"{amount} {source} = {value} {target}.", f"{amount} {source} in {target}")

    return Tool("units", function, ask)


def _phrase(w: World, low: int = 1, high: int = 4) -> str:
    return " ".join(w.choice((w.choice(WORDS), w.choice(WORDS), invented(w.rng))) for _ in range(w.rng.randrange(low, high + 1)))


# Families that copy what the user names: (family, names, description, parameters, questions, values, result, final, wish).
# Parameters: key options, and a schema. Values fill {0}, {1} in the questions, the result, the final text and the wish.
SIMPLE = (
    ("stock", ("get_stock_price", "stock_price", "get_quote"), "Get the price of a stock.", ((("symbol", "ticker"), {"type": "string"}),),
     ("What is the stock price of {0}?", "How is {0} trading?", "Price of {0} stock?", "Get me a quote for {0}."),
     lambda w: ("".join(w.choice("ABCDEFGHIJKLMNOPQRSTUVWXYZ") for _ in range(w.rng.randrange(3, 5))),), lambda w: f"{w.rng.uniform(5, 900):.2f}", "{0} stands at {r}.", "the price of {0}"),
    ("search", ("search_web", "web_search", "search", "google"), "Search the web.", ((("query", "q", "search_term"), {"type": "string"}),),
     ("Search the web for {0}.", "Look up {0} online.", "Search for {0}.", "Find web pages about {0}."),
     lambda w: (_phrase(w),), lambda w: w.choice(("3 pages found", "10 results", "no results", "1 result")), "I searched for {0}: {r}.", "a web search for {0}"),
    ("music", ("play_music", "play_song", "play"), "Play a song.", ((("song", "title", "track"), {"type": "string"}),),
     ("Play {0}.", "Play the song {0}.", "I want to hear {0}.", "Put on {0}."), lambda w: (_phrase(w, 1, 3),), lambda w: w.choice(("playing", "ok", "started")), "Now playing {0}.", "the song {0}"),
    ("timer", ("set_timer", "start_timer", "timer"), "Set a timer.", ((("minutes", "duration", "duration_minutes"), {"type": "integer"}),),
     ("Set a timer for {0} minutes.", "Start a {0} minute timer.", "Timer for {0} minutes.", "Wake me in {0} minutes."),
     lambda w: (w.rng.randrange(2, 121),), lambda w: w.choice(("ok", "timer set", "done")), "The timer is set for {0} minutes.", "a timer of {0} minutes"),
    ("translate", ("translate", "translate_text", "translation"), "Translate a text.", ((("text", "input"), {"type": "string"}), (("language", "target_language", "to"), {"type": "string"})),
     ("Translate {0} into {1}.", "How do you say {0} in {1}?", "Translate {0} to {1}.", "What is {0} in {1}?"),
     lambda w: (_phrase(w, 1, 2), w.choice(LANGUAGES)), lambda w: invented(w.rng), "In {1}, {0} is {r}.", "a translation into {1}"),
    ("news", ("get_news", "news", "latest_news"), "Get news about a topic.", ((("topic", "subject"), {"type": "string"}),),
     ("What is the news about {0}?", "Any news on {0}?", "Show me news about {0}.", "Latest news on {0}?"),
     lambda w: (_phrase(w, 1, 2),), lambda w: w.choice(("no news", "a new record", "prices rise", "the talks go on")), "The news about {0}: {r}.", "news about {0}"),
    ("message", ("send_message", "send_email", "text_message"), "Send a message to a person.", ((("to", "recipient", "name"), {"type": "string"}), (("text", "message", "body"), {"type": "string"})),
     ("Send {0} the message {1}.", "Tell {0}: {1}.", "Write to {0}: {1}.", "Message {0} that {1}."),
     lambda w: (w.choice(NAMES), _phrase(w, 2, 4)), lambda w: w.choice(("sent", "ok", "delivered")), "Your message to {0} was sent.", "a message to {0}"),
    ("lights", ("set_light", "switch_light", "control_lights"), "Switch a light on or off.", ((("room", "area"), {"type": "string"}), (("state", "power"), {"type": "string", "enum": ["on", "off"]})),
     ("Turn {1} the light in the {0}.", "Switch {1} the {0} light.", "Light {1} in the {0}.", "{0} lights {1}, please."),
     lambda w: (w.choice(("kitchen", "bedroom", "garden", "office", "hall", "bathroom", "garage", "cellar")), w.choice(("on", "off"))), lambda w: w.choice(("ok", "done")), "The light in the {0} is {1}.", "the light in the {0}"),
    ("order", ("get_order", "lookup_order", "order_status", "track_order"), "Look up an order by its number.", ((("order_id", "id", "order_number"), {"type": "string"}),),
     ("Where is my order {0}?", "What is the status of order {0}?", "Track order {0}.", "Look up order {0}."),
     lambda w: (f"{w.choice('ABCD')}{w.rng.randrange(1000, 100000)}",), lambda w: w.choice(("shipped", "on its way", "delivered", "waiting for payment", "cancelled")), "Order {0}: {r}.", "order {0}"),
    ("define", ("define_word", "dictionary", "lookup_word"), "Look up a word in a dictionary.", ((("word", "term"), {"type": "string"}),),
     ("Define {0}.", "What does {0} mean?", "Look up {0} in the dictionary.", "What is the definition of {0}?"),
     lambda w: (w.choice(WORDS) if w.chance(0.6) else invented(w.rng),), lambda w: w.choice(("a kind of tool", "to move quickly", "not common", "a small animal", "a place to rest")), "{0}: {r}.", "a definition of {0}"),
    ("health", ("get_system_health", "health_check", "system_status"), "Report the health of the system.", (),
     ("How is the system?", "Is the system healthy?", "Check the system health.", "What is the status of the system?", "Check the health of the system and report the status."),
     lambda w: (), lambda w: w.choice(("ok", "healthy", "degraded", "all services run", '{"status":"ok"}')), "The system reports: {r}.", "the system health"),
    ("language", ("detect_language", "identify_language"), "Detect the language of a text.", ((("text", "input"), {"type": "string"}),),
     ("Which language is this: {0}", "Detect the language of: {0}", "What language is {0}?"),
     lambda w: (_phrase(w, 1, 4),), lambda w: w.choice(LANGUAGES), "The language is {r}.", "the language of a text"),
    ("random", ("random_number", "roll", "get_random_number"), "Draw a random number.", ((("min", "low"), {"type": "integer"}), (("max", "high"), {"type": "integer"})),
     ("Give me a random number between {0} and {1}.", "Pick a number from {0} to {1}.", "Random number between {0} and {1}."),
     lambda w: (w.rng.randrange(0, 10), w.rng.randrange(10, 1000)), lambda w: str(w.rng.randrange(10)), "Your number is {r}.", "a random number"),
    ("remind", ("create_reminder", "set_reminder", "remind_me"), "Create a reminder.", ((("text", "task", "what"), {"type": "string"}), (("time", "at", "when"), {"type": "string"})),
     ("Remind me to {0} at {1}.", "Set a reminder to {0} at {1}.", "At {1} remind me to {0}."),
     lambda w: (f"{w.choice(VERBS)} the {w.choice(OBJECTS)}", f"{w.rng.randrange(24)}:{w.rng.randrange(10, 60)}"), lambda w: w.choice(("ok", "saved", "done")), "I will remind you to {0} at {1}.", "a reminder at {1}"),
    ("file", ("read_file", "open_file", "cat_file"), "Read a file.", ((("path", "file", "filename"), {"type": "string"}),),
     ("Read the file {0}.", "What is in {0}?", "Open {0}.", "Show me the file {0}."),
     lambda w: (f"{w.choice(('', '/tmp/', 'docs/', './'))}{w.choice(NOUNS)}.{w.choice(('txt', 'md', 'csv', 'json'))}",), lambda w: _phrase(w, 1, 5), "The file {0} says: {r}.", "the file {0}"),
)


def simple(w: World, row: tuple) -> Tool:
    family, names, description, parameters, questions, values, results, final, wish = row
    keys = [w.choice(options) for options, _ in parameters]
    properties = {key: dict(schema) for key, (_, schema) in zip(keys, parameters)}
    for key in keys:
        if w.chance(0.4):
            properties[key]["description"] = w.choice(("The " + key.replace("_", " "), key.replace("_", " ").capitalize(), f"Which {key.replace('_', ' ')}"))
    function = declare(_named(w, *names), description if w.chance(0.8) else description.rstrip("."), properties or (None if w.chance(0.5) else {}), keys)

    def ask(w: World) -> Ask:
        drawn = values(w)
        result = results(w)
        fill = lambda t: t.replace("{0}", str(drawn[0]) if drawn else "").replace("{1}", str(drawn[1]) if len(drawn) > 1 else "").replace("{r}", result)
        shown = result if not result.startswith("{") else "ok"
        say = lambda t: t.replace("{r}", shown)
        text = casual(w.rng, w.choice(questions))
        return Ask(fill(text), dict(zip(keys, drawn)), result, fill(say(final)), fill(wish))

    return Tool(family, function, ask)


def made_up(w: World) -> Tool:
    """A tool of no known family, such as paint_bridge(colour): its name and its question share their words."""
    verb, noun = w.choice(VERBS), w.choice(OBJECTS + NOUNS)
    keys = w.rng.sample(NOUNS + ["name", "color", "size", "id", "title", "date", "path", "user", "label"], w.choice((1, 1, 1, 2)))
    kinds = [w.choice(("string", "string", "string", "number")) for _ in keys]
    properties = {k: {"type": t} for k, t in zip(keys, kinds)}
    for key in keys:
        if w.chance(0.3):
            properties[key]["description"] = f"The {key} of the {noun}"
    name = _named(w, f"{verb}_{noun}", f"{verb}_the_{noun}", f"{noun}_{verb}")
    function = declare(name, w.choice((f"{verb.capitalize()} the {noun}.", f"{verb.capitalize()} a {noun}", f"Use this to {verb} the {noun}.")), properties, keys)

    def ask(w: World) -> Ask:
        values = [w.rng.randrange(1, 1000) if t == "number" else w.choice((w.choice(WORDS), w.choice(NAMES), invented(w.rng), _phrase(w, 1, 3), w.choice(CITIES))) for t in kinds]
        given = " and ".join(f"{k} {v}" for k, v in zip(keys, values))
        template = w.choice(("{V} the {n} with {g}.", "Please {v} the {n} with {g}.", "Can you {v} the {n}? {G}.", "{V} a {n}: {g}", "I want to {v} the {n} with {g}.", "{V} the {n}, {g}."))
        if len(keys) == 1 and w.chance(0.3):
            template, given = w.choice(("{V} the {n} {g}.", "{V} the {n}: {g}", "Use {name} with {g}.", "Call {name} for {g}.")), str(values[0])
        text = (template.replace("{V}", verb.capitalize()).replace("{v}", verb).replace("{n}", noun).replace("{name}", name)
                .replace("{G}", given[:1].upper() + given[1:]).replace("{g}", given))
        result = w.choice(("ok", "done", "failed", _phrase(w, 1, 3), str(w.rng.randrange(1000)), f"{w.rng.randrange(1, 50)} {w.choice(OBJECTS)}s"))
        return Ask(text, dict(zip(keys, values)), result, f"The tool says: {result}.", f"to {verb} the {noun}")

    return Tool("made-up", function, ask)


MAIN = (weather, calculator, clock, converter)


def any_tool(w: World) -> Tool:
    r = w.rng.random()
    if r < 0.56:
        return w.choice(MAIN)(w)
    if r < 0.7:
        return made_up(w)
    return simple(w, w.choice(SIMPLE))


def toolbox(w: World, size: int) -> list:
    """Tools of different families and names, in random order."""
    tools = []
    while len(tools) < size:
        tool = any_tool(w)
        if all((t.family != tool.family or tool.family == "made-up") and t.function["name"] != tool.function["name"] for t in tools):
            tools.append(tool)
    return tools
