"""The ids of a release's devices, up to a million: from a list, from text of one, or from a file.

A file has one id a line. A file that this module writes has a *reference*: its URL, the number of
its ids and a digest, ``<url>#<ids>-<16 hexadecimal digits>``. Whoever reads by the reference
notices that the file was changed, or is incomplete.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from iotda_provider.api.identifiers import is_device_id
from iotda_provider.exceptions import IoTDAConfigError
from iotda_provider.models.json_text import read_json
from iotda_provider.models.sorted_ids import MarkedIds, SortedIds
from iotda_provider.models.text import one_line, what_is
from iotda_provider.task_io.parameters import none_if_blank
from iotda_provider.task_io.stored_files import lines_of, write_whole

#: The most devices of one release.
MOST_DEVICES = 1_000_000
#: The most ids that an XCom may hold.
MOST_IN_XCOM = 30_000
#: The most lines that are read, repeated ids and blank lines included.
_MOST_READ = 2 * MOST_DEVICES
_LONGEST_LINE = 1024
#: Ids that are put into a text at a time: a text of a million takes four times their length.
_BLOCK = 10_000
_LONGEST_SHOWN = 300
_REFERENCE = re.compile(r"(.+)#([0-9]{1,7})-([0-9a-f]{16})", re.DOTALL)


def read_devices(value: Any, name: str = "devices") -> list[str]:
    """Device ids in any form, each once, in the order given.

    :param value: a list, an XCom of one, text that begins with ``[`` (a list as JSON, or as Jinja
        renders it), or any other text: the path or URL of a file with one id a line (blank lines
        don't count), or a reference that :func:`write_ids` has returned
    :param name: the parameter's name, for errors
    :raises IoTDAConfigError: it is none of these, holds what is no device id, or more than a
        million; a file is missing, is no text in UTF-8, or is not the one that was written
    :raises IoTDATransportError: the file's storage does not answer
    """
    if isinstance(value, str):
        if none_if_blank(value) is None:
            raise IoTDAConfigError(
                f"{name} was rendered to nothing: {value!r}. To mean no device at all, pass an "
                "empty list."
            )
        text = value.strip()
        if text.startswith(("(", "{", "LazySelectSequence")):
            raise IoTDAConfigError(f"{name} must be {_FORMS}; got {what_is(text)}.")
        if not text.startswith("["):
            return list(iter_ids(text, name))
        value = _list_in(text, name)
    if value is None or isinstance(value, (bytes, bytearray, Mapping)):
        raise IoTDAConfigError(f"{name} must be {_FORMS}; got {what_is(value)}.")
    if not isinstance(value, Iterable):
        raise IoTDAConfigError(
            f"{name} must be {_FORMS}; got {what_is(value, instead_of='a list')}."
        )
    return list(_each_once(_checked(value, name), name))


def iter_ids(url: str, name: str = "devices") -> Iterator[str]:
    """The ids in a file, each once, read block by block.

    To find repeated ids takes some 20 bytes of memory for each id. Files of :func:`write_ids` have
    no repeated ids, so nothing is kept; their digest is compared after the last id.

    :param url: its path or URL, or a reference
    :param name: the parameter that has named it, for errors
    :raises IoTDAConfigError: see :func:`read_devices`
    :raises IoTDATransportError: the file's storage does not answer; or a reference's file is not
        there, for example because its volume is not mounted
    """
    match = _REFERENCE.fullmatch(url)
    if match is None:
        yield from _each_once(_lines(url, name), name)
        return
    path, count, digest = match[1], int(match[2]), match[3]
    found, seen = 0, hashlib.sha256()
    for device_id in _lines(path, name, is_ours=True):
        found += 1
        if found > count:
            break
        seen.update(f"{device_id}\n".encode())
        yield device_id
    if found != count or seen.hexdigest()[: len(digest)] != digest:
        raise IoTDAConfigError(
            f"{name}: the file {one_line(path, _LONGEST_SHOWN)} is not the one that was written "
            f"with {count} device(s): it was changed since, or holds a part of them. Clear the "
            "task that has written it, and give every release a path of its own."
        )


def write_ids(path: str, ids: Sequence[str]) -> str:
    """Write device ids into a file, all of them or nothing; returns its reference.

    :param path: its path or URL
    :param ids: device ids, each once
    :raises IoTDATransportError: it can't be written now
    """
    written = hashlib.sha256()

    def blocks() -> Iterator[bytes]:
        for start in range(0, len(ids), _BLOCK):
            block = "".join(f"{one}\n" for one in ids[start : start + _BLOCK]).encode()
            written.update(block)
            yield block

    write_whole(path, blocks())
    return f"{path}#{len(ids)}-{written.hexdigest()[:16]}"


def hand_over(ids: Sequence[str], manifest_path: str | None, part: str) -> list[str] | str:
    """What an XCom holds for the next task: the ids, or the reference of a file with them.

    :func:`read_devices` reads both.

    :param ids: device ids, each once
    :param manifest_path: the release's; None: the ids are in the XCom itself
    :param part: what these are, for the end of the file's name, such as ``devices``
    :raises IoTDAConfigError: there are too many for an XCom, and no ``manifest_path``
    :raises IoTDATransportError: the file can't be written now
    """
    if manifest_path is not None:
        return write_ids(f"{manifest_path}.{part}", ids)
    if len(ids) > MOST_IN_XCOM:
        raise IoTDAConfigError(
            f"{len(ids)} device(s) are more than the {MOST_IN_XCOM} whose ids XComs may hold: set "
            "manifest_path to the URL of a file that all workers can read and write, such as "
            "s3://bucket/releases/{{ run_id }}.json."
        )
    return list(ids)


_FORMS = (
    "a list of device ids, text of one that begins with [, or the path or URL of a file with one "
    "id a line"
)


def _list_in(text: str, name: str) -> Any:
    # What Jinja renders has Python's quotes. No device id has a quote, so JSON's say the same.
    for candidate in (text, text.replace("'", '"')):
        try:
            return read_json(candidate)
        except ValueError:
            continue
    raise IoTDAConfigError(
        f'{name} begins with [ and is no list such as ["device-1", "device-2"]; got '
        f"{what_is(text)}. {{{{ ... | tojson }}}} gives one."
    )


def _checked(values: Iterable[Any], name: str) -> Iterator[str]:
    for position, value in enumerate(values):
        if not is_device_id(value):
            raise IoTDAConfigError(
                f"{name}[{position}] is not a device id (1 to 128 letters, digits, _ or -): got "
                f"{what_is(value)}."
            )
        yield value


def _lines(path: str, name: str, *, is_ours: bool = False) -> Iterator[str]:
    with lines_of(path, name, _LONGEST_LINE, is_ours=is_ours) as lines:
        for number, line in enumerate(lines, start=1):
            device_id = line.strip()
            if is_device_id(device_id):
                yield device_id
            elif device_id or number > _MOST_READ:
                raise IoTDAConfigError(
                    f"{name}: line {number} of the file {one_line(path, _LONGEST_SHOWN)} "
                    f"{_what_is_wrong(device_id)}"
                )


def _what_is_wrong(line: str) -> str:
    """Why a line is no device id. Its text is not shown: the file may be any file, by mistake."""
    if not line:
        return f"is beyond the {_MOST_READ} lines that are read."
    odd = next((char for char in line if not is_device_id(char)), None)
    size = f"{len(line)} characters" if len(line) < _LONGEST_LINE else "too many characters"
    among = "" if odd is None else f", among them {odd!a}"
    return (
        f"is not a device id (1 to 128 letters, digits, _ or -): it has {size}{among}. One id a "
        "line, without a heading, quotes or commas."
    )


def _each_once(ids: Iterable[str], name: str) -> Iterable[str]:
    found = list(islice(ids, _MOST_READ + 1))
    in_order = SortedIds(found)
    if len(in_order) > MOST_DEVICES or len(found) > _MOST_READ:
        raise IoTDAConfigError(
            f"{name} has more than {MOST_DEVICES} devices, or ids of them again and again: "
            "that is more than one release takes. Release to a part of them at a time."
        )
    once = MarkedIds(in_order)
    return found if len(in_order) == len(found) else [one for one in found if once.add(one)]
