"""Files at any URL of Airflow's object storage: read line by line, written as a whole."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from typing import Any

from iotda_provider.exceptions import IoTDAConfigError, IoTDATransportError
from iotda_provider.models.text import one_line, what_is

_LONGEST_PATH = 1024
_LONGEST_SHOWN = 300


@cache
def _object_storage_path() -> Any:
    """``ObjectStoragePath``, looked up once.

    On Airflow 2 each lookup leaves an error behind, and with it all that its callers hold.
    """
    from airflow.providers.common.compat.sdk import ObjectStoragePath

    return ObjectStoragePath


def stored_file(path: str) -> Any:
    """Airflow's ``ObjectStoragePath`` of a path or URL."""
    return _object_storage_path()(path)


@contextmanager
def lines_of(
    path: str, name: str, longest: int, *, is_ours: bool = False
) -> Iterator[Iterator[str]]:
    """The lines of a text file in UTF-8, one after the other, however large the file is.

    :param path: its path or URL
    :param name: the parameter that has named it, for errors
    :param longest: the most characters of a line; what is longer comes in pieces of so many
    :param is_ours: whether a task has written it: if such a file is missing, the storage counts as
        down
    :raises IoTDAConfigError: there is no such file, it may not be read, or it is not UTF-8
    :raises IoTDATransportError: the storage does not answer, or lacks a file of ours
    """
    with _explained(path, name, is_ours=is_ours):
        file = stored_file(path)
        # is_file() and exists() answer False where the storage is down; this raises.
        if file.fs.info(file.path)["type"] != "file":
            raise FileNotFoundError
        # A byte order mark of Windows is no part of the first line.
        with file.open("r", encoding="utf-8-sig", newline=None) as opened:
            yield iter(partial(opened.readline, longest), "")


def read_whole(path: str) -> bytes | None:
    """What is in a file; None where there is no such file.

    ``exists()`` of such a path answers False also where the storage is down, so it is not asked.

    :raises Exception: as the storage does
    """
    try:
        with stored_file(path).open("rb") as opened:
            return bytes(opened.read())
    except FileNotFoundError:
        return None


def write_whole(path: str, data: bytes | Iterable[bytes]) -> None:
    """Write a file that every worker can read: all of it, or nothing.

    :param path: its path or URL, which lies at a release's ``manifest_path``
    :param data: the content, whole or in pieces; for a local file one piece is in memory at a time
    :raises IoTDATransportError: it can't be written now
    """
    try:
        _write_whole(path, (data,) if isinstance(data, bytes) else data)
    # A storage may be down, full or read-only, in many ways; the caller tries again.
    except Exception as error:
        raise IoTDATransportError(
            f"manifest_path: the file {one_line(path, _LONGEST_SHOWN)} can't be written now: "
            f"{type(error).__name__}: {one_line(error, _LONGEST_SHOWN)}. It must lie where every "
            "worker and triggerer can read and write."
        ) from error


def _write_whole(path: str, pieces: Iterable[bytes]) -> None:
    file = stored_file(path)
    if file.protocol not in ("", "file", "local"):
        whole = bytearray()
        for piece in pieces:
            whole += piece
        file.write_bytes(whole)  # object storages put a file there as a whole
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    beside = Path(f"{file.path}.{uuid.uuid4().hex}")
    try:
        with beside.open("wb") as opened:
            opened.writelines(pieces)
        beside.replace(file.path)
    finally:
        beside.unlink(missing_ok=True)


def missing(name: str, path: str | None) -> IoTDATransportError:
    """The error for a file that a task has written, and that is not there."""
    return IoTDATransportError(
        f"{name}: the file {one_line(path, _LONGEST_SHOWN)} is not there now. What a release has "
        "written must stay until it has ended, where every worker and triggerer can read it."
    )


@contextmanager
def _explained(path: str, name: str, *, is_ours: bool) -> Iterator[None]:
    shown = f"the file {one_line(path, _LONGEST_SHOWN)}"
    if not path or len(path) > _LONGEST_PATH or not path.isprintable():
        raise IoTDAConfigError(
            f"{name} must be the path or URL of a file, of at most {_LONGEST_PATH} characters "
            f"without line breaks; got {len(path)} characters: {what_is(path)}."
        )
    try:
        yield
    except IoTDAConfigError:
        raise
    except FileNotFoundError:
        if is_ours:
            raise missing(name, path) from None
        raise IoTDAConfigError(
            f"{name}: {shown} is not there, or is no file. Text that does not begin with [ is read "
            "as the path or URL of a file."
        ) from None
    except UnicodeError:
        raise IoTDAConfigError(f"{name}: {shown} is no text in UTF-8: save it as UTF-8.") from None
    except PermissionError as error:
        raise IoTDAConfigError(
            f"{name}: {shown} may not be read: {one_line(error, _LONGEST_SHOWN)}"
        ) from None
    except (ValueError, ImportError) as error:
        raise IoTDAConfigError(
            f"{name}: {shown} can't be read: {one_line(error, _LONGEST_SHOWN)}. Give a local path, "
            "or install the provider of that storage."
        ) from None
    # A storage may be down, in many ways; the caller tries again.
    except Exception as error:
        raise IoTDATransportError(
            f"{name}: {shown} can't be read now: {type(error).__name__}: "
            f"{one_line(error, _LONGEST_SHOWN)}"
        ) from error
