"""The refusals of IoTDA and its API gateway, and the error of a scenario that cannot be used."""

from __future__ import annotations

from collections.abc import Mapping


class ApiError(Exception):
    """A call that is refused: HTTP status, error code and message as the client will see them."""

    def __init__(
        self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(f"{status} {code}: {message}")
        self.status = status
        self.code = code
        self.message = message
        self.headers = dict(headers or {})

    @property
    def body(self) -> dict[str, str]:
        """The answer's JSON."""
        return {"error_code": self.code, "error_msg": self.message}


class ScenarioError(ValueError):
    """A scenario, a state file, an option or a control call that cannot be used: one line."""


def invalid(detail: str) -> ApiError:
    """A parameter outside of its documented range."""
    return ApiError(400, "IOTDA.000006", f"Invalid input data. {detail}")


def bad_format(detail: str) -> ApiError:
    """A body that is not of the announced type."""
    return ApiError(400, "IOTDA.000008", f"Invalid input. The request format is invalid. {detail}")


def bad_time(detail: str) -> ApiError:
    """A time that is not of the form ``20151212T121212Z``."""
    return ApiError(400, "IOTDA.000009", f"Invalid input. Invalid time format. {detail}")


def bad_limit() -> ApiError:
    """A page size that is not a whole number from 1 to 50."""
    return ApiError(
        400, "IOTDA.000017", "Invalid input. The specified parameter 'limit' is out of range."
    )


def bad_marker() -> ApiError:
    """A marker that is not 24 hexadecimal digits."""
    return ApiError(
        400, "IOTDA.000018", "Invalid input. The specified parameter 'marker' is out of range."
    )


def broken() -> ApiError:
    """A mistake of the emulator's own."""
    return ApiError(500, "IOTDA.000001", "Internal server error.")


def unauthenticated(detail: str) -> ApiError:
    """A request whose signature, key or date is not valid."""
    return ApiError(401, "APIGW.0301", f"Incorrect IAM authentication information: {detail}")


def forbidden(detail: str) -> ApiError:
    """A valid signature of a caller without this right."""
    return ApiError(403, "APIGW.0302", f"The IAM user is forbidden to call the API: {detail}")


def no_such_api() -> ApiError:
    """A path or method that is not documented."""
    return ApiError(
        404,
        "APIGW.0101",
        "The API does not exist or has not been published in the environment",
    )


def too_large() -> ApiError:
    """A body above the limit of the gateway."""
    return ApiError(413, "APIGW.0201", "Request entity too large", {"Connection": "close"})


def throttled(retry_after: int) -> ApiError:
    """A call above a rate limit."""
    return ApiError(
        429,
        "APIGW.0308",
        "The throttling threshold has been reached: policy user over ratelimit",
        {"Retry-After": str(retry_after)},
    )
