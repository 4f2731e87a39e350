"""python3 -m unittest data.test_data (from demo/)"""

import json
import random
import re
import unittest

from . import arithmetic, countries, harmony, items, mixture, tools
from .conversation import from_seed
from .world import World, is_held_out

WEATHER = {"type": "function", "function": {"name": "get_weather", "description": "Get the weather.", "parameters": {
    "type": "object", "properties": {"location": {"type": "string", "description": "City"}}, "required": ["location"], "additionalProperties": False}}}
SYSTEM = ("<|start|>system<|message|>You are ChatGPT, a large language model trained by OpenAI.\nKnowledge cutoff: 2024-06\nCurrent date: 2025-06-28\n\n"
          "Reasoning: medium\n\n# Valid channels: analysis, commentary, final. Channel must be included for every message.")
CALLS = "\nCalls to these tools must go to the commentary channel: 'functions'."
DECLARED = ("<|end|><|start|>developer<|message|># Tools\n\n## functions\n\nnamespace functions {\n\n// Get the weather.\ntype get_weather = (_: {\n// City\n"
            "location: string,\n}) => any;\n\n} // namespace functions")


class Renderer(unittest.TestCase):
    """The texts are those of openai-harmony 0.0.8 with Hearth's choices."""

    def check(self, request, want):
        self.assertEqual(harmony.render_prompt(request, "2025-06-28"), want)

    def test_question(self):
        self.check({"messages": [{"role": "user", "content": "Hi"}]}, SYSTEM + "<|end|><|start|>user<|message|>Hi<|end|><|start|>assistant")

    def test_answered_call(self):
        self.check({"tools": [WEATHER], "messages": [
            {"role": "user", "content": "Weather?"},
            {"role": "assistant", "content": None, "reasoning": "I need the weather.", "tool_calls": [
                {"id": "c", "type": "function", "function": {"name": "get_weather", "arguments": "{\"location\":\"Tokyo\"}"}}]},
            {"role": "tool", "tool_call_id": "c", "content": "{\"t\": 20}"}]},
            SYSTEM + CALLS + DECLARED + "<|end|><|start|>user<|message|>Weather?<|end|><|start|>assistant<|channel|>analysis<|message|>I need the weather.<|end|>"
            "<|start|>assistant to=functions.get_weather<|channel|>commentary <|constrain|>json<|message|>{\"location\":\"Tokyo\"}<|call|>"
            "<|start|>functions.get_weather to=assistant<|channel|>commentary<|message|>{\"t\": 20}<|end|><|start|>assistant")

    def test_old_reasoning_is_dropped(self):
        self.check({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "1", "reasoning": "r"}, {"role": "user", "content": "b"}]},
                   SYSTEM + "<|end|><|start|>user<|message|>a<|end|><|start|>assistant<|channel|>final<|message|>1<|end|><|start|>user<|message|>b<|end|><|start|>assistant")

    def test_response_format(self):
        self.check({"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "2 + 2?"}], "response_format": {
            "type": "json_schema", "json_schema": {"name": "answer", "description": "The answer.", "schema": {"type": "object", "properties": {"answer": {"type": "integer"}}}}}},
            SYSTEM + "<|end|><|start|>developer<|message|># Instructions\n\nBe brief.\n\n# Response Formats\n\n## answer\n\n// The answer.\n"
            "{\"type\":\"object\",\"properties\":{\"answer\":{\"type\":\"integer\"}}}<|end|><|start|>user<|message|>2 + 2?<|end|><|start|>assistant")


class Data(unittest.TestCase):
    def test_same_seed_same_text(self):
        make = lambda: [c.prompt() + c.completion for c in (mixture.conversation(rng) for rng in [from_seed(7, "t")] for _ in range(50))]
        self.assertEqual(make(), make())

    def test_held_out_sums_never_train(self):
        rng = random.Random(1)
        for held_out in (False, True):
            for _ in range(300):
                turn = arithmetic.calculation(World(rng, held_out))
                op, a, b = re.fullmatch(r"(\d+) ([-+*/]) (\d+) = .*", turn.final).group(2, 1, 3)
                self.assertEqual(is_held_out(("sum", arithmetic.sum_key(op, int(a), int(b)))), held_out, turn.final)

    def test_sums_are_right_and_shown(self):
        rng = random.Random(2)
        for _ in range(2000):
            op = rng.choice("+-*/")
            a, b = arithmetic.draw_operands(World(rng), op)
            value = arithmetic.result_text(op, a, b)
            for effort, text in arithmetic.sum_thoughts(op, a, b).items():
                for x, o, y, z in re.findall(r"(?<![\d-])(\d+) ([-+*]) (\d+) = (-?\d+)", text):
                    self.assertEqual({"+": int(x) + int(y), "-": int(x) - int(y), "*": int(x) * int(y)}[o], int(z), text)
                if op != "/":
                    self.assertIn(value, text, effort)

    def test_effort_changes_the_analysis(self):
        rng, total = from_seed(3, "t"), {"low": 0, "medium": 0, "high": 0}
        for _ in range(400):
            c = mixture.conversation(rng)
            for effort, text in c.turn.analysis.items():
                total[effort] += len(text)
        self.assertLess(2 * total["low"], total["medium"])
        self.assertLess(1.5 * total["medium"], total["high"])

    def test_calls_fit_their_schema(self):
        rng = random.Random(4)
        for _ in range(1500):
            w = World(rng)
            tool = tools.any_tool(w)
            ask, schema = tool.ask(w), tool.function.get("parameters") or {"properties": {}, "required": []}
            self.assertLessEqual(set(ask.arguments), set(schema["properties"]), tool.function)
            self.assertLessEqual(set(schema["required"]) & set(schema["properties"]), set(ask.arguments), tool.function)
            for key, value in ask.arguments.items():
                kind = schema["properties"][key]["type"]
                self.assertIsInstance(value, str if kind == "string" else (int, float), (tool.function, ask))
                self.assertIn(value, schema["properties"][key].get("enum", [value]))

    def test_items_are_distinct_and_complete(self):
        made = list(items.items(5, {k: 3 for k in items.COUNTS}))
        self.assertEqual(len({i["id"] for i in made}), 3 * len(items.COUNTS))
        for item in made:
            json.dumps(item)
            self.assertIn(item["expect"]["type"], ("text", "call", "json"))

    def test_no_special_token_in_text(self):
        rng = from_seed(6, "t")
        for _ in range(300):
            for message in mixture.conversation(rng).messages:
                self.assertNotIn("<|", message.get("content") or "")

    def test_countries(self):
        self.assertGreater(len(countries.CAPITALS), 185)
        self.assertEqual(countries.CAPITALS["Sri Lanka"], "Sri Jayawardenepura Kotte")
        self.assertFalse(set(countries.SPECIAL) & set(countries.CAPITALS))


if __name__ == "__main__":
    unittest.main()
