"""Asks something of any number of targets, a block at a time, in the same memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import chain

from iotda_provider.exceptions import IoTDAApiError, IoTDAError
from iotda_provider.guarding.steps import Log
from iotda_provider.models import TargetResult

#: Targets whose results are in memory at a time: 16 calls of 100, as many as are under way at once.
BLOCK = 1600

Ask = Callable[[list[str]], Iterable[TargetResult]]


def ask_in_blocks(ask: Ask, targets: list[str], log: Log) -> Iterable[TargetResult]:
    """One definite result for each target, in their order, as they come.

    The first block is asked at once. An error of a later one must not lose the results of those
    before: it becomes the result of each of its targets.

    :param ask: the hook's method for some targets
    :raises IoTDAError: the first block failed as a whole
    """
    return chain(ask(targets[:BLOCK]), _further(ask, targets, log))


def _further(ask: Ask, targets: list[str], log: Log) -> Iterator[TargetResult]:
    for start in range(BLOCK, len(targets), BLOCK):
        log.info("Asked for %d of %d target(s).", start, len(targets))
        block = targets[start : start + BLOCK]
        try:
            yield from ask(block)
        except IoTDAError as error:
            code = error.error_code if isinstance(error, IoTDAApiError) else None
            log.error("Targets %d to %d: %s", start + 1, start + len(block), error)
            for target in block:
                yield TargetResult(target, False, code, str(error))
