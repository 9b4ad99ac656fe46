"""From an Airflow connection to settings, its secrets made known to Airflow's masker on the way."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from airflow.providers.common.compat.sdk import AirflowNotFoundException

from iotda_provider.exceptions import IoTDAConfigError
from iotda_provider.masking import mask
from iotda_provider.network import secrets_of_proxies
from iotda_provider.settings import ConnectionLike, ConnectionSettings, secrets_in


@contextmanager
def looking_up(conn_id: str) -> Iterator[None]:
    """Say what to do where Airflow knows no such connection.

    :raises IoTDAConfigError: it does not
    """
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

    :raises IoTDAConfigError: a field is unknown, ill-typed or missing; names the field
    """
    # First, so that no error about the rest comes before.
    mask(connection.password, *secrets_in(connection.extra), *secrets_of_proxies())
    return ConnectionSettings.from_connection(
        connection,
        conn_id=conn_id,
        project_id=project_id,
        region=region,
        instance_id=instance_id,
    )
