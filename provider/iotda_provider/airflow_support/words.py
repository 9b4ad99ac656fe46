"""The words of forms and questions, in the language of this Airflow installation.

Airflow has one text for each field of a form and for each question, whoever reads it, so the
language is a setting of the installation and not of a reader.
"""

from __future__ import annotations

import json
import logging
import re
from functools import cache
from pathlib import Path
from typing import Any

from airflow.providers.common.compat.sdk import Param, conf

ENGLISH, CHINESE = LANGUAGES = ("en", "zh-CN")

_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")

log = logging.getLogger(__name__)


def field(*default: Any, **schema: Any) -> Param:
    """A field of a DAG's form: Airflow's ``Param``, in the language of this installation.

    It takes what ``Param`` takes. Its title, its description, the part of the form that it is in,
    and how its choices are shown are translated where a translation is known; what the field's
    value may be does not change.

    :param default: the field's value, if nobody enters another one
    :param schema: ``title``, ``description``, ``section``, and the JSON schema of the value
    """
    for name in ("title", "description", "section"):
        if isinstance(schema.get(name), str):
            schema[name] = in_language(schema[name])
    choices = [choice for choice in schema.get("enum", ()) if isinstance(choice, str)]
    shown = {choice: in_language(choice) for choice in choices}
    if any(choice != word for choice, word in shown.items()):
        schema.setdefault("values_display", shown)
    return Param(*default, **schema)


def in_language(text: str) -> str:
    """A text in the language that ``[iotda] language`` names; as it is, if no translation is known.

    Its numbers may differ from those of the text that was translated.
    """
    known = _words(language()).get(_NUMBER.sub("#", text))
    if known is None:
        return text
    english, translation = known
    numbers = dict(zip(_NUMBER.findall(english), _NUMBER.findall(text), strict=True))
    return _NUMBER.sub(lambda found: numbers.get(found[0], found[0]), translation)


def language() -> str:
    """The setting ``[iotda] language``: one of ``LANGUAGES``.

    Another one counts as English, and is logged: a form in English is better than a DAG that can't
    be read, and guards nothing.
    """
    return _known(str(conf.get("iotda", "language", fallback="") or ENGLISH))


@cache
def _known(wanted: str) -> str:
    for known in LANGUAGES:
        if wanted.strip().replace("_", "-").lower() == known.lower():
            return known
    log.warning(
        "[iotda] language must be one of %s, got %r: forms are in English.",
        ", ".join(LANGUAGES),
        wanted[:40],
    )
    return ENGLISH


@cache
def _words(language: str) -> dict[str, tuple[str, str]]:
    """English texts with their translations, by the English text without its numbers."""
    if language == ENGLISH:
        return {}
    path = Path(__file__).with_name(f"words.{language}.json")
    words: dict[str, str] = json.loads(path.read_text(encoding="utf-8"))
    return {_NUMBER.sub("#", english): (english, said) for english, said in words.items()}
