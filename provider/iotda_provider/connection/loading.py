"""Reads an Airflow connection; Airflow's masker learns its secrets first."""

from __future__ import annotations

from iotda_provider.connection.extra import secrets_in
from iotda_provider.connection.proxies_and_tls import secrets_of_proxies
from iotda_provider.connection.settings import ConnectionLike, ConnectionSettings, check_conn_type
from iotda_provider.masking.airflow_masker import mask
from iotda_provider.masking.sealed import without_frames


def load_settings(
    connection: ConnectionLike,
    *,
    conn_id: str,
    project_id: str | None = None,
    region: str | None = None,
    instance_id: str | None = None,
) -> ConnectionSettings:
    """Parse a connection; from here on no log line shows its secrets.

    :raises IoTDAConfigError: it has another type, or a field is unknown, wrong or missing
    """
    failure: BaseException
    try:
        # First: any field of another type of connection may hold a secret.
        check_conn_type(connection, conn_id)
        # Second: errors about other fields come after it.
        mask(connection.password, *secrets_in(connection.extra), *secrets_of_proxies())
        return ConnectionSettings.from_connection(
            connection,
            conn_id=conn_id,
            project_id=project_id,
            region=region,
            instance_id=instance_id,
        )
    except BaseException as error:  # noqa: BLE001 - raised again
        failure = error
    del connection  # whose repr shows its password
    try:
        raise without_frames(failure)
    finally:
        del failure
