"""The type of a logger: Python's or Airflow's."""

from __future__ import annotations

from typing import Any, Protocol


class Log(Protocol):
    """The methods of a logger that this provider calls."""

    def info(self, msg: str, /, *args: Any) -> Any: ...
    def warning(self, msg: str, /, *args: Any) -> Any: ...
    def error(self, msg: str, /, *args: Any) -> Any: ...
    def exception(self, msg: str, /, *args: Any) -> Any: ...
