"""What a process of Airflow 3 asks the one that supervises it, from an event loop."""

from __future__ import annotations

import asyncio
from typing import Any

_SECONDS = 10.0


async def ask(supervisor: Any, message: Any) -> Any:
    """The answer to a message; the conversation comes to its end even where this is cancelled.

    Before Airflow 3.3 an answer that nobody has read is taken for that of the next question, which
    ends the whole triggerer.

    :raises TimeoutError: there is none
    """
    asking = asyncio.ensure_future(supervisor.asend(message))
    asking.add_done_callback(_look_away)
    return await asyncio.wait_for(asyncio.shield(asking), _SECONDS)


def _look_away(asking: asyncio.Future[Any]) -> None:
    """Have an error read that nobody may be left to read."""
    if not asking.cancelled():
        asking.exception()
