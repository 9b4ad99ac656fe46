"""What a logger has to have, whoever made it."""

from __future__ import annotations

from typing import Any, Protocol


class Log(Protocol):
    """A logger of any make: Python's or Airflow's."""

    def info(self, msg: str, /, *args: Any) -> Any: ...
    def warning(self, msg: str, /, *args: Any) -> Any: ...
    def error(self, msg: str, /, *args: Any) -> Any: ...
    def exception(self, msg: str, /, *args: Any) -> Any: ...
