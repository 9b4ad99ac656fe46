"""Text from users and from the platform, made safe for log lines, XComs and errors."""

from __future__ import annotations

from collections.abc import Mapping

_LONGEST_SHOWN = 60
_LONGEST_TEXT = 500
#: A longer number is not shown: Python refuses to write out the largest ones.
_MOST_BITS = 128
# The most characters that an id of the platform may have here.
_LONGEST_ID = 256


def checked_id(value: object, what: str, name: str) -> str:
    """An id from the platform, safe for a log line and an XCom.

    :param what: what the id is of, such as ``a batch task``, for the error
    :param name: the id's field, for the error
    :raises ValueError: it is not text, is empty or longer than 256 characters, or has line breaks
        or other control characters
    """
    if not isinstance(value, str) or not value:
        raise ValueError(f"{what} without a {name}")
    if len(value) > _LONGEST_ID or not value.isprintable():
        raise ValueError(f"{what} with a {name} that can't be one ({len(value)} characters)")
    return value


def one_line(value: object, longest: int) -> str:
    """One line without control characters, cut to ``longest`` characters."""
    text = value if isinstance(value, str) else str(value)
    if len(text) > 2 * longest:
        text = text[: 2 * longest]  # before looking at each of a million characters
    if not text.isprintable():
        text = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    return text if len(text) <= longest else text[: longest - 1] + "…"


def short_text(value: object) -> str | None:
    """A text of the platform's as one line of at most 500 characters; None stays None."""
    return None if value is None else one_line(value, _LONGEST_TEXT)


def what_is(value: object, *, instead_of: str = "text") -> str:
    """A wrong value of a parameter, in one short line for an error.

    Text is shown as it is. Of any other value the type is shown, and why it may be there.

    :param instead_of: what the parameter takes, such as ``text``, ``a number`` or ``a list``
    """
    if value is None:
        return "None: the task that it comes from pushed nothing (skipped, or the key is wrong?)"
    if isinstance(value, str):
        shown = repr(value[:_LONGEST_SHOWN]) + ("..." if len(value) > _LONGEST_SHOWN else "")
        if value.startswith("LazySelectSequence"):  # Airflow 2: the text holds no item
            return f"{shown}: {_MAPPED}; a template of it ends with '| list', {{{{ ... | list }}}}"
        if value.lstrip()[:1] in ("[", "("):
            return f"{shown}: {_MAPPED}"
        return shown
    kind = type(value).__name__[:_LONGEST_SHOWN]
    if isinstance(value, (bool, int, float)):
        is_short = isinstance(value, float) or int(value).bit_length() <= _MOST_BITS
        shown = f"the {kind}{f' {value!r}' if is_short else ''}"
        return f"{shown}, not text: {_NATIVE}" if instead_of == "text" else shown
    if isinstance(value, Mapping):
        return f"a {kind}: to use one field of an XCom, name it, such as ['batch_task_id']"
    if isinstance(value, (list, tuple)) or kind.startswith("Lazy"):
        if instead_of == "a list":
            return f"a {kind}"
        return f"a {kind}: {_MAPPED}"
    return f"a value of type {kind}"


_NATIVE = (
    "with render_template_as_native_obj=True a template whose text looks like a number becomes one "
    "(1.10 becomes 1.1); leave that setting out of the DAG, or quote the template, \"'{{ ... }}'\""
)
_MAPPED = (
    "the XCom of a mapped task is the list of what all its instances have pushed; map this task as "
    "well, or pick one"
)
