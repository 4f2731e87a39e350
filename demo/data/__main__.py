"""Prints sample conversations: python3 -m data [kind] [count] (from demo/)."""

import sys

from . import mixture
from .conversation import from_seed

kind = sys.argv[1] if len(sys.argv) > 1 else ""
rng = from_seed(0, "samples")
for _ in range(int(sys.argv[2]) if len(sys.argv) > 2 else 5):
    c = mixture.of_kind(kind, rng) if kind else mixture.conversation(rng)
    print(c.prompt() + c.completion + "".join(c.continuation), end="\n\n")
