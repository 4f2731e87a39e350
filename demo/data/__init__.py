"""The closed world of Hearth's demo model: a seeded generator of Harmony conversations.

Standard library only. It never reads the network, the clock or any file outside this folder."""
