"""A trigger that waits for a moment, and for nothing else."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from iotda_provider.triggers.events import tell

#: The longest sleep, in seconds: a clock that is put right is noticed after that.
_LONGEST_SLEEP = 60.0


class MomentTrigger(BaseTrigger):
    """Waits for a moment; the event is its memo.

    :param moment: in seconds since 1970
    :param memo: plain JSON
    """

    def __init__(self, *, moment: float, memo: Mapping[str, Any] | None = None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.moment = moment
        self.memo = dict(memo or {})

    def serialize(self) -> tuple[str, dict[str, Any]]:
        return (
            f"{type(self).__module__}.{type(self).__qualname__}",
            {"moment": self.moment, "memo": self.memo},
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        while (left := self.moment - time.time()) > 0:  # noqa: ASYNC110 - no event ends it
            await asyncio.sleep(min(left, _LONGEST_SLEEP))
        yield tell(self.memo)
