"""Asks something of any number of targets, a batch at a time, in the same memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import chain

from iotda_provider.exceptions import IoTDAApiError, IoTDAError
from iotda_provider.models import TargetResult
from iotda_provider.models.log import Log

#: Targets whose results are in memory at a time: 16 calls of 100, as many as are under way at once.
BATCH = 1600

Ask = Callable[[list[str]], Iterable[TargetResult]]


def in_batches(ask: Ask, targets: list[str], log: Log) -> Iterable[TargetResult]:
    """One definite result for each target, in their order, as they come.

    The first batch is asked at once. An error of a later one must not lose the results of those
    before: it becomes the result of each of its targets.

    :param ask: the hook's method for some targets
    :raises IoTDAError: the first batch failed as a whole
    """
    return chain(ask(targets[:BATCH]), _further(ask, targets, log))


def _further(ask: Ask, targets: list[str], log: Log) -> Iterator[TargetResult]:
    for start in range(BATCH, len(targets), BATCH):
        log.info("Asked for %d of %d target(s).", start, len(targets))
        batch = targets[start : start + BATCH]
        try:
            yield from ask(batch)
        except IoTDAError as error:
            code = error.error_code if isinstance(error, IoTDAApiError) else None
            log.error("Targets %d to %d: %s", start + 1, start + len(batch), error)
            for target in batch:
                yield TargetResult(target, False, code, str(error))
