"""The connection of the blocking hook: its settings, its session, its calls, and forks."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakSet

from airflow.providers.http.hooks.http import HttpHook

from iotda_provider.airflow_support import metrics
from iotda_provider.auth.authenticator import authenticator_for
from iotda_provider.connection.loading import load_settings
from iotda_provider.hooks.lookup import look_up
from iotda_provider.procedures import MAX_IN_FLIGHT
from iotda_provider.transport import pipeline
from iotda_provider.transport.blocking import BlockingTransport
from iotda_provider.transport.runner import run_blocking

if TYPE_CHECKING:
    import requests
    from typing_extensions import Self

    from iotda_provider import api
    from iotda_provider.api.pagination import Listing
    from iotda_provider.connection.settings import ConnectionSettings

T = TypeVar("T")


class ConnectedHook(HttpHook):
    """What :class:`~iotda_provider.hooks.iotda.IoTDAHook` is besides its methods for IoTDA.

    :param iotda_conn_id: the connection
    :param overrides: what replaces the connection's ``project_id``, ``region``, ``instance_id``
    """

    def __init__(self, iotda_conn_id: str, **overrides: str | None) -> None:
        super().__init__(http_conn_id=iotda_conn_id)
        self.iotda_conn_id = iotda_conn_id
        self._overrides = overrides
        #: The settings read last; None: none yet.
        self.last_settings: ConnectionSettings | None = None
        _all_hooks.add(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
        metrics.flush()  # it waits at most a second until they have been sent

    def close(self) -> None:
        """Close the session once no thread's call uses it; a later call opens another."""
        transport: BlockingTransport | None = vars(self).get("_transport")
        self._forget()
        if transport is not None:
            transport.close()

    def _forget(self) -> None:
        vars(self).pop("settings", None)
        vars(self).pop("_transport", None)

    @cached_property
    def settings(self) -> ConnectionSettings:
        """The connection, parsed and checked; Airflow's masker knows its secrets."""
        conn_id = self.iotda_conn_id
        self.last_settings = load_settings(
            look_up(conn_id, lambda: self.get_connection(conn_id)),
            conn_id=conn_id,
            **self._overrides,
        )
        return self.last_settings

    @cached_property
    def _transport(self) -> BlockingTransport:
        settings = self.settings
        authenticator = authenticator_for(settings)
        return BlockingTransport(settings, authenticator, self.log, MAX_IN_FLIGHT)

    def check_response(self, response: requests.Response) -> None:
        """Raise the typed error for a response that is not a success."""
        self._transport.check(response)

    def get_conn(
        self,
        headers: dict[Any, Any] | None = None,
        extra_options: dict[str, Any] | None = None,
    ) -> requests.Session:
        """The pooled session, which does not sign by itself: use :meth:`run`."""
        self.base_url = self.settings.base_url
        return self._transport.session

    def _perform(self, call: api.Call[T]) -> T:
        return run_blocking(pipeline.perform(self._transport, call))

    def _rows(self, rows: Listing[T]) -> Iterator[T]:
        while rows.next is not None:
            yield from rows.take(self._perform(rows.next))


_all_hooks: WeakSet[ConnectedHook] = WeakSet()


def _forget_all() -> None:
    """Drop the sessions in a forked process: the parent uses their sockets."""
    for hook in list(_all_hooks):
        hook._forget()


os.register_at_fork(after_in_child=_forget_all)
