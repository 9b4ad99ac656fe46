"""From an Airflow connection to settings, its secrets made known to Airflow's masker on the way."""

from __future__ import annotations

from iotda_provider.masking import mask
from iotda_provider.settings import ConnectionLike, ConnectionSettings


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
    mask(connection.password)
    settings = ConnectionSettings.from_connection(
        connection,
        conn_id=conn_id,
        project_id=project_id,
        region=region,
        instance_id=instance_id,
    )
    mask(settings.security_token)
    for proxy in settings.proxies.values():
        if "@" in proxy:
            mask(*proxy.rsplit("@", 1)[0].rsplit("//", 1)[-1].split(":", 1)[1:])
    return settings
