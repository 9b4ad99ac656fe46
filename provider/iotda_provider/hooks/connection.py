"""From an Airflow connection to settings, its secrets made known to Airflow's masker on the way."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from airflow.providers.common.compat.sdk import AirflowNotFoundException

from iotda_provider.exceptions import IoTDAConfigError
from iotda_provider.masking import mask
from iotda_provider.network import secrets_of_proxies
from iotda_provider.settings import (
    ConnectionLike,
    ConnectionSettings,
    check_conn_type,
    secrets_in,
)
from iotda_provider.text import what_is

# A backend of secrets may take the rest for a path of its own.
_CONN_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}")


@contextmanager
def looking_up(conn_id: object) -> Iterator[None]:
    """Say what to do where Airflow knows no such connection.

    :raises IoTDAConfigError: it does not, or may not be asked for that
    """
    if not isinstance(conn_id, str) or not _CONN_ID.fullmatch(conn_id) or ".." in conn_id:
        raise IoTDAConfigError(
            "iotda_conn_id must be 1 to 200 letters (a-z), digits, _, - and single dots; got "
            f"{what_is(conn_id)}."
        )
    try:
        yield
    except AirflowNotFoundException:
        raise IoTDAConfigError(
            f"There is no connection {conn_id!r}: create it in the UI (Admin, Connections), with "
            f"airflow connections add {conn_id} --conn-type iotda, or as the environment variable "
            f"AIRFLOW_CONN_{conn_id.upper()}; or name another one in iotda_conn_id."
        ) from None


def load_settings(
    connection: ConnectionLike,
    *,
    conn_id: str,
    project_id: str | None = None,
    region: str | None = None,
    instance_id: str | None = None,
) -> ConnectionSettings:
    """Parse a connection; from here on no log line shows its secrets.

    :raises IoTDAConfigError: it is of another type; or a field is unknown, ill-typed or missing,
        which is named
    """
    # First of all: in a connection to something else any field may hold a secret.
    check_conn_type(connection, conn_id)
    # Then, so that no error about the rest comes before.
    mask(connection.password, *secrets_in(connection.extra), *secrets_of_proxies())
    return ConnectionSettings.from_connection(
        connection,
        conn_id=conn_id,
        project_id=project_id,
        region=region,
        instance_id=instance_id,
    )
