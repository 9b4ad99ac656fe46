"""Up to a million ids that are looked up: a sorted list of them, some of it, and values for it."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Iterable, Iterator, MutableMapping, Sequence
from itertools import compress, groupby
from typing import Any

#: New ids that are put in order at a time, at least; and a part of those that are there.
_BLOCK, _SHARE = 1000, 8


class SortedIds(Sequence[str]):
    """Ids in order, each once.

    It takes 9 bytes for each id beside the id itself, where a set takes 27 to 80, by its size. To
    look one up among a million takes some twenty comparisons.
    """

    def __init__(self, ids: Iterable[str] = ()) -> None:
        is_in_order = isinstance(ids, (SortedIds, MarkedIds))
        self._ids: list[str] = list(ids) if is_in_order else []
        self.update(() if is_in_order else ids)

    def update(self, ids: Iterable[str]) -> None:
        """Add those that are not there yet."""
        new: list[str] = []
        for one in ids:
            new.append(one)
            if len(new) >= _BLOCK + len(self._ids) // _SHARE:
                self._merge(new)
                new = []
        self._merge(new)

    def _merge(self, new: list[str]) -> None:
        new = [one for one in new if one not in self]
        new.sort()
        self._ids += [one for one, _ in groupby(new)]
        self._ids.sort()  # of two lists in order that is fast

    def place(self, wanted: str) -> int | None:
        """Where an id is; None: it is not there."""
        place = bisect_left(self._ids, wanted)
        return place if place < len(self._ids) and self._ids[place] == wanted else None

    def own(self, wanted: str) -> str | None:
        """The list's own text of an id, to keep no other; None: it is not there."""
        place = self.place(wanted)
        return None if place is None else self._ids[place]

    def __contains__(self, wanted: object) -> bool:
        return isinstance(wanted, str) and self.place(wanted) is not None

    def __len__(self) -> int:
        return len(self._ids)

    def __iter__(self) -> Iterator[str]:
        return iter(self._ids)

    def __getitem__(self, place: Any) -> Any:
        return self._ids[place]


class MarkedIds(Collection[str]):
    """Some of the ids of a sorted list, in order: a byte for each id of the list.

    :param ids: the list, which must not grow any more
    """

    def __init__(self, ids: SortedIds) -> None:
        self._ids = ids
        self._marks = bytearray(len(ids))

    def add(self, one: str) -> str | None:
        """Mark an id, and return the list's own text of it.

        None: it is not in the list, or was marked before.
        """
        place = self._ids.place(one)
        if place is None or self._marks[place]:
            return None
        self._marks[place] = 1
        return str(self._ids[place])

    def discard(self, one: str) -> None:
        """Take a mark away."""
        place = self._ids.place(one)
        if place is not None:
            self._marks[place] = 0

    def update(self, ids: Iterable[str]) -> None:
        """Mark those of these ids that are in the list."""
        for one in ids:
            self.add(one)

    @property
    def others(self) -> Iterator[str]:
        """The ids of the list that are not marked, in order."""
        return compress(self._ids, (not mark for mark in self._marks))

    def __contains__(self, wanted: object) -> bool:
        place = self._ids.place(wanted) if isinstance(wanted, str) else None
        return place is not None and bool(self._marks[place])

    def __len__(self) -> int:
        return self._marks.count(1)

    def __iter__(self) -> Iterator[str]:
        return compress(self._ids, self._marks)


class ValuesOfIds(MutableMapping[str, Any]):
    """Values of ids of a sorted list: 8 bytes for each id of the list.

    :param ids: the list, which must not grow any more; only its ids can have a value
    """

    def __init__(self, ids: SortedIds) -> None:
        self._has = MarkedIds(ids)
        self._ids = ids
        self._values: list[Any] = [None] * len(ids)
        self._count = 0

    def __setitem__(self, one: str, value: Any) -> None:
        self._count += self._has.add(one) is not None
        self._values[self._place(one)] = value

    def __getitem__(self, one: str) -> Any:
        if one not in self._has:
            raise KeyError(one)
        return self._values[self._place(one)]

    def __delitem__(self, one: str) -> None:
        if one not in self._has:
            raise KeyError(one)
        self._has.discard(one)
        self._count -= 1
        self._values[self._place(one)] = None

    def _place(self, one: str) -> int:
        place = self._ids.place(one)
        if place is None:
            raise KeyError(one)
        return place

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[str]:
        return iter(self._has)
