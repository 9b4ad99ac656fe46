"""Reads an Airflow connection; Airflow's masker learns its secrets first."""

from __future__ import annotations

from iotda_provider.connection.extra import secrets_in
from iotda_provider.connection.proxies_and_tls import secrets_of_proxies
from iotda_provider.connection.settings import ConnectionLike, ConnectionSettings, check_conn_type
from iotda_provider.masking.airflow_masker import mask
from iotda_provider.masking.sealed import Sealed, without_frames


def load_settings(
    connection: ConnectionLike, *, conn_id: str, **overrides: str | None
) -> ConnectionSettings:
    """Parse a connection; from here on no log line shows its secrets.

    :param overrides: as of :meth:`ConnectionSettings.from_connection`
    :raises IoTDAConfigError: it has another type, or a field is unknown, wrong or missing
    """
    sealed = Sealed(connection)
    del connection  # its repr shows the password
    with without_frames():
        # First: any field of another type of connection may hold a secret.
        check_conn_type(sealed.reveal(), conn_id)
        # Second: errors about other fields come after it.
        mask(sealed.reveal().password, *secrets_in(sealed.reveal().extra), *secrets_of_proxies())
        return ConnectionSettings.from_connection(sealed.reveal(), conn_id=conn_id, **overrides)
