"""Writes the held-out evaluation items.

    python3 -m data.items eval/items.jsonl.gz        (from demo/)

Each line: id, skill, date (of the system message), request (chat completions), expect. expect is one of
  {"type":"text","any_of":[...]}                          the final text equals one of them
  {"type":"call","name":...,"arguments":{...}}            the first call: this name, these arguments as JSON values
  {"type":"json","schema":{...},"value":{...}}            the final text is JSON equal to value (key order free)"""

import gzip
import json
import sys

from . import mixture
from .conversation import Conversation, from_seed

COUNTS = {"talk": 120, "capitals": 130, "arithmetic": 160, "spelling": 110, "sorting": 110, "copying": 90, "unknown": 110, "chat": 110,
          "instructions": 90, "tools": 180, "no_tool": 70, "json": 110, "recall": 110, "recall-window": 60, "recall-long": 36}


def expectation(c: Conversation) -> dict:
    if c.turn.call and not c.messages[-1]["role"] == "tool":
        return {"type": "call", "name": c.turn.call.name, "arguments": json.loads(c.turn.call.arguments)}
    if c.turn.value is not None:
        return {"type": "json", "schema": c.response_format["json_schema"]["schema"], "value": c.turn.value}
    return {"type": "text", "any_of": c.accept}


def items(seed: int, counts: dict = COUNTS):
    """Held-out items, no two with the same request."""
    rng, seen = from_seed(seed, "items"), set()
    for skill, count in counts.items():
        made = 0
        while made < count:
            c = mixture.of_kind(skill, rng, held_out=True)
            request = c.request()
            key = json.dumps(request["messages"][-1])
            if key in seen and len(key) < 400 and skill in ("talk", "capitals", "arithmetic", "spelling", "sorting", "copying", "unknown"):
                continue
            seen.add(key)
            made += 1
            yield {"id": f"{skill}-{made:03d}", "skill": skill, "date": c.date, "request": request, "expect": expectation(c)}


def main():
    path = sys.argv[1]
    lines = "".join(json.dumps(i, ensure_ascii=False, separators=(",", ":")) + "\n" for i in items(1))
    with open(path, "wb") as f, gzip.GzipFile(fileobj=f, mode="wb", compresslevel=9, mtime=0, filename="") as z:
        z.write(lines.encode())
    print(path, lines.count("\n"), "items")


if __name__ == "__main__":
    main()
