"""Golden files: what the provider writes into other people's databases, as each version wrote it.

``tests/golden/<version>/<case>.json`` holds what one run of the operators has left behind: trigger
arguments, events, XComs, notes, files. ``make golden`` writes those of the present version anew.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from iotda_provider import __version__

GOLDEN = Path(__file__).parent / "golden"
VERSION = ".".join(__version__.split(".")[:2])
WRITES = os.environ.get("IOTDA_GOLDEN") == "write"

#: Keys that are left out where there is nothing to say, as their docstrings have it.
OPTIONAL = frozenset(
    {
        *("took", "until", "looks", "omitted", "deficit", "surplus", "being_stopped", "attempted"),
        *("undecided", "failures_by_class", "clusters", "already_current", "signature"),
        *("unanswered", "elsewhere", "lately", "note", "iotda_provider.releases_under_way"),
        "rehearse_stop",
    }
)
#: Objects by these names have keys of their own: classes, and why devices were left out.
BY_KEY = frozenset({"failures_by_class", "counts", "left_out"})
#: A batch task's id, which depends on the moment at which it was created.
_ID = re.compile(r"[0-9a-f]{24}")

WHAT_TO_DO = """
Other people's databases hold {case} as it was. So, if the change is meant:
1. keep {path};
2. raise the version in provider/iotda_provider/__init__.py, and run `make golden`: it writes
   tests/golden/<the new version>/;
3. see that the tests still read the old file (tests/unit/test_stored_formats.py and those that
   have failed here), or that what reads it refuses with one sentence;
4. say in CHANGELOG.md what users must do.
"""


def golden(case: str, version: str | None = None) -> Any:
    """What a version has written; the newest that has written this case by default."""
    return json.loads(newest(case, version).read_text())


def newest(case: str, version: str | None = None) -> Path:
    """The file of a case."""
    if version is None:
        version = max(versions(case), key=_in_order)
    return GOLDEN / version / f"{case}.json"


def versions(case: str = "*") -> list[str]:
    """The versions that have written a case, the oldest first."""
    return sorted({path.parent.name for path in GOLDEN.glob(f"*/{case}.json")}, key=_in_order)


def _in_order(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


def check(case: str, written: Any) -> None:
    """Compare what was just written with the newest golden file; or write that."""
    text = json.dumps(written, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    if WRITES:
        path = GOLDEN / VERSION / f"{case}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        return
    path = newest(case)
    changes = list(differences(json.loads(path.read_text()), json.loads(text), case))
    if changes:
        what = WHAT_TO_DO.format(case=case, path=path.relative_to(GOLDEN.parents[1]))
        raise AssertionError("\n".join([*changes[:20], what]))


def differences(old: Any, new: Any, place: str, name: str = "") -> Iterator[str]:
    """How the shapes of two values differ: keys and types, at every level."""
    if isinstance(old, Alternatives) != isinstance(new, Alternatives):
        old, new = (one if isinstance(one, Alternatives) else _as_one([one]) for one in (old, new))
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        if name in BY_KEY or all(map(_ID.fullmatch, [*old, *new])):
            old, new = _as_one(old.values()), _as_one(new.values())
            yield from differences(old, new, f"{place}.*")
            return
        for key in sorted(old.keys() - new.keys() - OPTIONAL):
            yield f"{place}.{key} is not written any more"
        for key in sorted(new.keys() - old.keys() - OPTIONAL):
            yield f"{place}.{key} is new"
        for key in sorted(old.keys() & new.keys()):
            yield from differences(old[key], new[key], f"{place}.{key}", key)
    elif isinstance(old, list) and isinstance(new, list):
        yield from differences(_as_one(old), _as_one(new), f"{place}[]")
    elif isinstance(old, Alternatives) and isinstance(new, Alternatives):
        for kind in sorted(old.kinds.keys() - new.kinds.keys()):
            yield f"{place}: no {kind} is written any more"
        for kind in sorted(new.kinds.keys() - old.kinds.keys()):
            yield f"{place}: {kind} is new"
        for kind in sorted(old.kinds.keys() & new.kinds.keys()):
            yield from differences(old.kinds[kind], new.kinds[kind], place)
    elif _kind(old) != _kind(new):
        yield f"{place} was {_kind(old)}, and is {_kind(new)}"


class Alternatives:
    """The members of a list, as one of each kind; objects by all their keys."""

    def __init__(self, kinds: dict[str, Any]) -> None:
        self.kinds = kinds


def _as_one(values: Any) -> Alternatives:
    kinds: dict[str, Any] = {}
    members = [
        each
        for value in values
        for each in (value.kinds.values() if isinstance(value, Alternatives) else (value,))
    ]
    for value in members:
        kind = _kind(value)
        if kind == "object":
            known = kinds.setdefault(kind, {})
            for key, inner in value.items():
                known[key] = _joined(known[key], inner) if key in known else inner
        elif kind == "list":
            kinds[kind] = [*kinds.get(kind, ()), *value]
        else:
            kinds[kind] = value
    return Alternatives(kinds)


def _joined(one: Any, other: Any) -> Any:
    return _as_one([one, other])


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "flag"
    if isinstance(value, (int, float)):
        return "number"
    if isinstance(value, str):
        return "text"
    return "list" if isinstance(value, (list, tuple)) else "object"
