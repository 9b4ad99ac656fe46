"""The fields of an IoTDA connection, for its settings and for the forms of Airflow 2 and 3."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal["text", "secret", "number", "integer", "flag", "choice", "verify", "mapping"]


@dataclass(frozen=True)
class ExtraField:
    """One field of a connection's Extra.

    :param name: its key in Extra
    :param label: its label in the form
    :param description: the text below the field
    :param kind: how its value is read, and which widget the form shows
    :param default: the value of an empty field (None: none)
    :param choices: the allowed words of a ``choice``
    :param minimum: the smallest ``integer`` allowed; a ``number`` must be greater
    """

    name: str
    label: str
    description: str
    kind: Kind = "text"
    default: Any = None
    choices: tuple[str, ...] = ()
    minimum: int = 0

    @property
    def is_secret(self) -> bool:
        """Whether the form hides the value, and errors never quote it."""
        return self.kind in ("secret", "mapping")


AUTH_TYPES = ("aksk", "token", "agency", "federation")
DERIVED_AUTH = ("auto", "always", "never")

EXTRA_FIELDS: tuple[ExtraField, ...] = (
    ExtraField(
        "region",
        "Region",
        "Region id, such as cn-north-4. Needed when Host is empty, and for signing at a dedicated "
        "instance.",
    ),
    ExtraField(
        "project_id",
        "Project ID",
        "Project that the IoTDA instance belongs to (console: My Credentials, API Credentials). "
        "Empty: the region's, as the IAM at iam_endpoint tells.",
    ),
    ExtraField(
        "instance_id",
        "Instance ID",
        "IoTDA instance (console: Overview). Required for professional editions, recommended "
        "otherwise.",
    ),
    ExtraField(
        "auth_type",
        "Authentication",
        "aksk: access key and secret key. token: IAM user and password. agency: the ECS metadata "
        "service. federation: an OIDC identity provider.",
        kind="choice",
        default="aksk",
        choices=AUTH_TYPES,
    ),
    ExtraField(
        "security_token",
        "Security token",
        "Only with temporary access keys: the token that was issued with them.",
        kind="secret",
    ),
    ExtraField(
        "domain_name",
        "Account name",
        "Only with token: the account (domain) that the IAM user belongs to.",
    ),
    ExtraField(
        "iam_endpoint",
        "IAM endpoint",
        "Only with token and federation, or to look up the project: URL of IAM. Empty: "
        "https://iam.<region>.myhuaweicloud.com.",
    ),
    ExtraField(
        "idp_id", "Identity provider", "Only with federation: the identity provider's id in IAM."
    ),
    ExtraField(
        "id_token_file",
        "ID token file",
        "Only with federation: path of the file that holds the OIDC id token, read anew at each "
        "refresh.",
    ),
    ExtraField(
        "metadata_endpoint",
        "Metadata endpoint",
        "Only with agency, for test set-ups: another address of the ECS metadata service on this "
        "machine.",
        default="http://169.254.169.254",
    ),
    ExtraField(
        "derived_auth",
        "Derived signature",
        "Whether requests carry the derived signature V11-HMAC-SHA256. auto: at every host but the "
        "shared regional ones.",
        kind="choice",
        default="auto",
        choices=DERIVED_AUTH,
    ),
    ExtraField(
        "verify",
        "Verify TLS",
        "true, or the path of a CA bundle for a private CA. false is for tests only.",
        kind="verify",
        default=True,
    ),
    ExtraField(
        "timeout",
        "Timeout (s)",
        "Seconds that one call may take, its retries included.",
        kind="number",
        default=30.0,
    ),
    ExtraField(
        "attempt_timeout",
        "Attempt timeout (s)",
        "Seconds after which one attempt without an answer is given up, so that the next has its "
        "time; less than the timeout. Empty: a third of it, at most 10.",
        kind="number",
    ),
    ExtraField(
        "max_attempts",
        "Attempts",
        "How often a call that may be repeated is tried at most.",
        kind="integer",
        default=4,
        minimum=1,
    ),
    ExtraField(
        "max_requests_per_second",
        "Requests per second",
        "Limit shared by everything in one process that uses this connection. Empty: no limit.",
        kind="number",
    ),
    ExtraField(
        "proxies",
        "Proxies",
        'JSON object of proxies by scheme, such as {"https": "http://proxy.example:3128"}; hidden, '
        "as it may hold a password.",
        kind="mapping",
    ),
    ExtraField(
        "allow_http",
        "Allow plain http",
        "Send requests unencrypted to a host that is not this machine. For test set-ups only.",
        kind="flag",
        default=False,
    ),
)

UI_FIELD_BEHAVIOUR: dict[str, Any] = {
    "hidden-fields": ["schema", "extra"],
    "relabeling": {"login": "Access key (or IAM user)", "password": "Secret key (or password)"},
    "placeholders": {
        "host": "the instance's endpoint (console: Overview); empty: the region's shared one",
        "login": "access key ID",
        "password": "secret access key",
        "port": "443",
    },
}


_JSON_TYPES = {"number": "number", "integer": "integer", "flag": "boolean"}


def conn_fields() -> dict[str, Any]:
    """The fields of Extra in the form of the provider info, for Airflow 3."""
    fields: dict[str, Any] = {}
    for spec in EXTRA_FIELDS:
        schema: dict[str, Any] = {"type": _JSON_TYPES.get(spec.kind, "string")}
        if spec.is_secret:
            schema["format"] = "password"
        if spec.choices:
            schema["enum"] = list(spec.choices)
        if spec.kind == "integer":
            schema["minimum"] = spec.minimum
        if spec.kind == "number":
            schema["exclusiveMinimum"] = spec.minimum
        if spec.default is None and spec.kind != "flag":
            schema["type"] = [schema["type"], "null"]
        else:
            schema["default"] = "true" if spec.kind == "verify" else spec.default
        fields[spec.name] = {"label": spec.label, "description": spec.description, "schema": schema}
    return fields
