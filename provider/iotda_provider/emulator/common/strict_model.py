"""Models of what a user writes, scenarios and control calls: an error is one line with a field."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic_core import ErrorDetails, PydanticCustomError

from iotda_provider.emulator.common.errors import ScenarioError

if TYPE_CHECKING:
    from typing_extensions import Self

_MOST_CHARACTERS = 60
# Tags of a union stand in the path of an error; a tag in these brackets is left out.
TAG = "<{}>"
#: The tag of a plain value, which is validated as the only field of a model.
PLAIN_VALUE = TAG.format("plain value")

#: The type of an error whose message goes on after the field's name.
IN_OUR_WORDS = "in our words"

_EXPECTED = {
    "bool_type": "true or false",
    "dict_type": "an object",
    "float_type": "a number",
    "finite_number": "a number",
    "int_type": "a whole number",
    "model_type": "an object",
    "string_type": "a text",
    "tuple_type": "a list",
}


class StrictModel(BaseModel):
    """A model that refuses unknown fields and converts no types."""

    model_config = ConfigDict(strict=True, frozen=True, allow_inf_nan=False)

    @classmethod
    def read(cls, data: object, path: str = "") -> Self:
        """Check a value as JSON gave it.

        :param path: where the value stands, for messages; empty: it is the scenario
        :raises ScenarioError: one line that names the first field that does not fit
        """
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            raise ScenarioError(_line(error.errors(include_url=False)[0], path)) from None

    @model_validator(mode="before")
    @classmethod
    def _has_known_fields(cls, data: Any) -> Any:
        if not isinstance(data, Mapping):
            return data
        for name in data:
            if name not in cls.model_fields:
                near = difflib.get_close_matches(str(name), cls.model_fields, n=1)
                hint = f"; did you mean {near[0]}?" if near else ""
                raise wrong(str(name), f"is not a known field{hint}")
        return dict(data)


def wrong(field: str, what: str) -> PydanticCustomError:
    """An error about one field, for a validator of the whole model."""
    return PydanticCustomError("field", "{field} {what}", {"field": field, "what": what})


def _line(error: ErrorDetails, path: str) -> str:
    parts = list(error["loc"])
    if PLAIN_VALUE in parts:
        parts = parts[: parts.index(PLAIN_VALUE)]
    context = error.get("ctx", {})
    if error["type"] == "field":
        parts.append(context["field"])
    for part in parts:
        if isinstance(part, int):
            path += f"[{part}]"
        elif not re.fullmatch(TAG.format(".*"), part):
            path += f".{part}" if path else part
    return f"{path or 'the scenario'} {_complaint(error, context)}"


def _complaint(error: ErrorDetails, context: Mapping[str, Any]) -> str:
    kind, given = error["type"], error["input"]
    if kind == "field":
        return str(context["what"])
    if kind == "outside":
        return f"must be {context['range']}, not {_shown(given)}"
    if kind == IN_OUR_WORDS:
        return error["msg"]
    if kind == "missing":
        return "is missing"
    if kind == "value_error":
        return str(context["error"])
    if kind == "string_pattern_mismatch":
        pattern = context["pattern"].removeprefix("^").removesuffix("$")
        return f"is not of the form {pattern}: {_shown(repr(given))}"
    if kind in ("literal_error", "enum"):
        words = ", ".join(re.findall("'([^']*)'", context["expected"]))
        return f"must be one of {words}, not {_shown(repr(given))}"
    if kind == "float_type" and type(given) is int:
        return f"is too large a number: {_shown(given)}"
    if kind in _EXPECTED:
        return f"must be {_EXPECTED[kind]}, not {_kind(given)}"
    return f"does not fit: {error['msg']}"


def _kind(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f"the text {_shown(repr(value))}"
    if isinstance(value, (int, float)):
        return f"the number {_shown(value)}"
    return "a list" if isinstance(value, (list, tuple)) else "an object"


def _shown(value: object) -> str:
    try:
        text = str(value)
    except ValueError:  # Python writes no number of more than 4,300 digits
        return "one of very many digits"
    return text if len(text) <= _MOST_CHARACTERS else f"{text[:_MOST_CHARACTERS]}..."
