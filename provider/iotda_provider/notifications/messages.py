"""The message of an event: it begins with the outcome, ends with a link, and fits any chat."""

from __future__ import annotations

from iotda_provider.models.text import one_line

#: The most characters and bytes (UTF-8) of a message. The least of what the chats in
#: docs/howto/tell-people.md take are 1,024 characters (PagerDuty) and 2,048 bytes (WeCom); the rest
#: is for a user's own words around the message.
MOST_CHARACTERS, MOST_BYTES = 1_000, 2_000
#: The longest address in a message.
LONGEST_LINK = 600
#: What a sentence begins with that says how a watch ended (``rollout_guard/outcome.py``).
OUTCOMES = {
    *("STOPPED", "STOPPING", "STOP FAILED", "ENDED", "BREACHED", "WOULD HAVE STOPPED"),
    *("STOPPED ELSEWHERE", "COMPLETED", "LOST", "NOT GUARDED"),
}
# A device may report any text, and a name may be any text. Chats and e-mail take <...> for a
# mention or a tag, some chats take @all for a mention, and Markdown takes [...](...) for a link.
_PLAIN = str.maketrans({"<": "\u2039", ">": "\u203a", "@": "\uff20", "[": "\uff3b", "]": "\uff3d"})


def outcome_of(kind: str) -> str:
    """An event's kind as people read it: ``STOP FAILED``."""
    return kind.replace("_", " ").upper()


def with_outcome(kind: str, sentence: str) -> str:
    """The sentence of an event; the outcome comes first, and comes once."""
    outcome = outcome_of(kind)
    begins_with_it = sentence.partition(":")[0] in OUTCOMES or sentence.startswith(outcome)
    return sentence if begins_with_it else f"{outcome}: {sentence}"


def message_of(kind: str, sentence: str, link: str) -> str:
    """The outcome, the sentence and the link in one line; if it is too long, the sentence is cut.

    :param kind: the event's kind
    :param link: an address of at most :data:`LONGEST_LINK` characters; empty: there is none
    """
    end = f" {link}" if link else ""
    said = one_line(with_outcome(kind, sentence), MOST_CHARACTERS - len(end)).translate(_PLAIN)
    return f"{_cut(said, MOST_BYTES - len(end.encode()))}{end}"


def _cut(text: str, most_bytes: int) -> str:
    """A text of at most so many bytes in UTF-8."""
    data = text.encode()
    if len(data) <= most_bytes:
        return text
    return f"{data[: most_bytes - len('…'.encode())].decode(errors='ignore')}…"
