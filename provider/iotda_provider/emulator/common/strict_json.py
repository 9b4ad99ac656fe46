"""JSON from callers and files, read more strictly than the json module does.

The emulator repeats parts of requests in its answers, which must be JSON: no NaN or infinity, no
number with more than 300 digits, at most 32 levels.
"""

from __future__ import annotations

from functools import partial

from iotda_provider.models.json_text import read_json

#: The most levels of lists and objects in one another.
MAX_DEPTH = 32

parse = partial(read_json, most_levels=MAX_DEPTH)
