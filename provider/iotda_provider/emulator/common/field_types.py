"""The types of fields in requests, scenarios and control calls, with their limits."""

from __future__ import annotations

from typing import Annotated, Literal, TypeVar

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

_T = TypeVar("_T")
# The longest delay: 31 years in seconds. In microseconds it still fits into 64 bits.
LONGEST = 1e9
# Larger than every number of a scenario; a float still holds it.
LARGEST = 1e300
_HAN = "\u4e00-\u9fa5"


def within(low: float, high: float = LARGEST) -> AfterValidator:
    """A check that a number is from ``low`` to ``high``."""
    words = f"at least {low:g}" if high == LARGEST else f"from {low:g} to {high:g}"

    def check(value: _T) -> _T:
        if not low <= value <= high:  # type: ignore[operator]
            raise PydanticCustomError("outside", "must be {range}", {"range": words})
        return value

    return AfterValidator(check)


Count = Annotated[int, within(0)]
Rate = Annotated[float, within(1e-6)]
Seconds = Annotated[float, within(0, LONGEST)]
Share = Annotated[float, within(0, 1)]
#: A list of JSON, as a tuple.
Many = Annotated[tuple[_T, ...], Field(strict=False)]

AppId = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,36}$")]
ProductId = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,36}$")]
PackageId = Annotated[str, Field(pattern=r"^[A-Za-z0-9-]{1,36}$")]
GroupId = Annotated[str, Field(pattern=r"^[0-9a-fA-F-]{1,36}$")]
DeviceId = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,128}$")]
Version = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,256}$")]
PackageType = Literal["softwarePackage", "firmwarePackage", "modulePackage"]
TaskId = Annotated[str, Field(pattern=r"^[a-f0-9]{1,24}$")]
NodeId = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
TaskName = Annotated[str, Field(pattern=rf"^[{_HAN}A-Za-z0-9_]{{1,128}}$")]
# Its description allows "other characters" besides those it names.
DeviceName = Annotated[str, Field(min_length=1, max_length=256)]
GroupName = Annotated[str, Field(pattern=rf"^[{_HAN}A-Za-z0-9_? '#().,&%@!-]{{1,64}}$")]
GroupText = Annotated[str, Field(pattern=rf"^[{_HAN}A-Za-z0-9_? '#().,&%@!-]{{0,64}}$")]
SearchText = Annotated[str, Field(pattern=rf"^[{_HAN}A-Za-z0-9_?'#()., &%@!*=<>:-]{{1,400}}$")]
GroupType = Literal["STATIC", "DYNAMIC"]
