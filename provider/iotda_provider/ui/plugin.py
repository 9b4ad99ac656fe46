"""Airflow's plugin: it mounts the page's app and adds *Rollouts* to the menu (Airflow 3.1 on)."""

from __future__ import annotations

from typing import Any

from airflow.plugins_manager import AirflowPlugin

#: Where the app is mounted, and the page's route in Airflow's UI.
URL_PREFIX, URL_ROUTE = "/iotda", "rollouts"
PAGE = "page/index.html"


class RolloutsPlugin(AirflowPlugin):
    """The Rollouts page. On Airflow 2 it adds nothing, because that knows neither kind of entry."""

    name = "iotda_rollouts"
    # Relative, so that it is right when Airflow is served below a prefix.
    external_views = [
        {
            "name": "Rollouts",
            "href": f"{URL_PREFIX[1:]}/{PAGE}",
            "destination": "nav",
            "category": "browse",
            "url_route": URL_ROUTE,
            "icon": f"{URL_PREFIX[1:]}/page/icons/rollouts.svg",
            "icon_dark_mode": f"{URL_PREFIX[1:]}/page/icons/rollouts-dark.svg",
        }
    ]

    @property
    def fastapi_apps(self) -> list[dict[str, Any]]:  # type: ignore[override]
        """The app. It is made when Airflow's API server asks for it, and in no other process."""
        from iotda_provider.ui.app import make_app

        return [{"app": make_app(), "url_prefix": URL_PREFIX, "name": "IoTDA rollouts"}]
