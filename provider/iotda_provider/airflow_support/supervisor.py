"""What a process of Airflow 3 asks the one that supervises it, from an event loop."""

from __future__ import annotations

import asyncio
from typing import Any

from iotda_provider.airflow_support.unbroken import to_the_end

_SECONDS = 10.0


async def ask(supervisor: Any, message: Any) -> Any:
    """The answer to a message; the conversation comes to its end even where this is cancelled.

    :raises TimeoutError: there is none
    """
    return await asyncio.wait_for(to_the_end(supervisor.asend(message)), _SECONDS)
