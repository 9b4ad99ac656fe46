"""Reads the targets out of an uploaded spreadsheet, with nothing but the standard library."""

from __future__ import annotations

import io
import zipfile
from email.parser import BytesParser
from email.policy import HTTP
from xml.etree import ElementTree

from iotda_provider.emulator import errors

MAX_ROWS = 30_000
MAX_UNPACKED = 64 * 1024 * 1024

_MAIN = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"


def uploaded_file(content_type: str, raw: bytes) -> tuple[str, bytes]:
    """The name and content of the part ``file`` of a multipart body.

    :raises ApiError: there is none
    """
    message = BytesParser(policy=HTTP).parsebytes(
        b"Content-Type: " + content_type.encode("latin-1") + b"\r\n\r\n" + raw
    )
    if message.is_multipart():
        for part in message.iter_parts():
            name = part.get_param("name", header="content-disposition")
            payload = part.get_payload(decode=True)
            if name == "file" and isinstance(payload, bytes):
                return part.get_filename() or "file.xlsx", payload
    raise errors.bad_format("The body must be multipart/form-data with a part named file.")


def read_targets(content: bytes) -> list[str]:
    """The targets that the first sheet lists below its heading.

    They stand in the column headed ``device_id``, or else ``node_id``, or else in the first.

    :raises ApiError: it is no spreadsheet, or too long
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as book:
            if sum(item.file_size for item in book.infolist()) > MAX_UNPACKED:
                raise errors.invalid("The file is too large.")
            names = book.namelist()
            shared = _shared(book) if "xl/sharedStrings.xml" in names else []
            sheets = sorted(name for name in names if name.startswith("xl/worksheets/sheet"))
            rows = _rows(book.read(sheets[0]), shared)
    except (zipfile.BadZipFile, ElementTree.ParseError, IndexError, KeyError, ValueError):
        raise errors.invalid("The file is not an xlsx spreadsheet.") from None
    if len(rows) - 1 > MAX_ROWS:
        raise errors.invalid(f"The file must not have more than {MAX_ROWS} rows.")
    if not rows:
        return []
    heading = [cell.strip().lower() for cell in rows[0]]
    column = next((heading.index(n) for n in ("device_id", "node_id") if n in heading), 0)
    return [row[column] for row in rows[1:] if len(row) > column and row[column]]


def _shared(book: zipfile.ZipFile) -> list[str]:
    # Parsed from this machine's own tests; expat itself bounds how far entities may expand.
    root = ElementTree.fromstring(book.read("xl/sharedStrings.xml"))  # noqa: S314
    return ["".join(t.text or "" for t in item.iter(f"{_MAIN}t")) for item in root]


def _rows(sheet: bytes, shared: list[str]) -> list[list[str]]:
    root = ElementTree.fromstring(sheet)  # noqa: S314
    rows = []
    for row in root.iter(f"{_MAIN}row"):
        cells: list[str] = []
        for cell in row.iter(f"{_MAIN}c"):
            place = _column(cell.get("r", ""), len(cells))
            cells.extend([""] * (place - len(cells)))
            cells.append(_text(cell, shared))
        rows.append(cells)
    return rows


def _column(reference: str, otherwise: int) -> int:
    """The column's number from a reference like ``AB12``."""
    number = 0
    for letter in reference.rstrip("0123456789"):
        number = number * 26 + ord(letter) - ord("A") + 1
    return number - 1 if number else otherwise


def _text(cell: ElementTree.Element, shared: list[str]) -> str:
    if cell.get("t") == "inlineStr":
        return "".join(t.text or "" for t in cell.iter(f"{_MAIN}t"))
    value = cell.find(f"{_MAIN}v")
    text = "" if value is None else value.text or ""
    return shared[int(text)] if cell.get("t") == "s" else text
