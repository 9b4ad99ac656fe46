"""The blocking hook: ``requests`` as the transport below the shared description of the API."""

from __future__ import annotations

import http.cookiejar
import os
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar
from urllib.parse import urlsplit
from weakref import WeakSet

import requests
from airflow.providers.http.hooks.http import HttpHook
from requests.auth import AuthBase
from tenacity import Retrying

from iotda_provider import api, creating, listing, procedures
from iotda_provider.answers import Answer, read_answer
from iotda_provider.auth.authenticator import Authenticator, authenticator_for
from iotda_provider.driving import drive
from iotda_provider.exceptions import IoTDAConfigError, IoTDAError
from iotda_provider.hooks import checking
from iotda_provider.hooks.blocking import error_of, fault_of, read_body
from iotda_provider.hooks.connection import load_settings
from iotda_provider.hooks.failures import Fault
from iotda_provider.hooks.forms import connection_form_widgets, ui_field_behaviour
from iotda_provider.hooks.headers import UNSIGNED_HEADERS, signed_headers
from iotda_provider.hooks.lending import Lending
from iotda_provider.hooks.lookup import look_up
from iotda_provider.hooks.methods import described_by
from iotda_provider.hooks.run_arguments import AnyRequest, read_arguments
from iotda_provider.masking import mask, new_signatures
from iotda_provider.network import proxy_for, secrets_of_proxies, verify_for
from iotda_provider.rate_limit import shared_limit
from iotda_provider.redaction import hidden_secrets, secrets_of
from iotda_provider.retrying import CONNECT_SECONDS, RetryPolicy
from iotda_provider.sealed import Sealed, without_frames
from iotda_provider.timely import TimelyAdapter, whole_time

if TYPE_CHECKING:
    from types import TracebackType

    from iotda_provider.hooks.iotda_async import IoTDAAsyncHook
    from iotda_provider.settings import ConnectionSettings

__all__ = ["IoTDAAsyncHook", "IoTDAHook"]

T = TypeVar("T")
P = ParamSpec("P")

_Method = Callable[Concatenate["IoTDAHook", P], T]


def __getattr__(name: str) -> Any:
    """Both hooks have one address; whoever uses only one does not load the other's HTTP library."""
    if name == "IoTDAAsyncHook":
        from iotda_provider.hooks.iotda_async import IoTDAAsyncHook

        return IoTDAAsyncHook
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _call(describe: Callable[P, api.Call[T]]) -> _Method[P, T]:
    def method(self: IoTDAHook, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self._perform(describe(*args, **kwargs))

    return described_by(describe, method)


def _procedure(describe: Callable[P, procedures.Procedure[T]]) -> _Method[P, T]:
    def method(self: IoTDAHook, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return drive(describe(*args, **kwargs), self._take)

    return described_by(describe, method)


def _listing(describe: Callable[P, listing.Listing[T]]) -> _Method[P, Iterator[T]]:
    def method(self: IoTDAHook, /, *args: P.args, **kwargs: P.kwargs) -> Iterator[T]:
        return self._rows(describe(*args, **kwargs))

    return described_by(describe, method)


def _any_request(describe: Callable[P, AnyRequest]) -> _Method[P, requests.Response]:
    def method(self: IoTDAHook, /, *args: P.args, **kwargs: P.kwargs) -> requests.Response:
        return self._request(describe(*args, **kwargs))

    return described_by(describe, method)


def _get_ready(authenticator: Authenticator, policy: RetryPolicy) -> None:
    if not authenticator.is_ready():
        with policy.beside_the_budget():
            authenticator.prepare()


class _Signature(AuthBase):
    """Adds the headers of the authentication last, so that no ``.netrc`` can replace them."""

    def __init__(self, headers: Sealed[Mapping[str, str]]) -> None:
        self._headers = headers

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers.update(self._headers.reveal())
        return request


class IoTDAHook(HttpHook):
    """A blocking client of IoTDA with the credentials of an Airflow connection.

    A context manager; it keeps one pooled session and reads its connection once, at the first call.
    Every method raises :class:`~iotda_provider.exceptions.IoTDAConfigError` for input that can't be
    right, before anything is sent, :class:`~iotda_provider.exceptions.IoTDAApiError` where the
    platform refuses and :class:`~iotda_provider.exceptions.IoTDATransportError` where no usable
    answer arrives.

    :param iotda_conn_id: the connection
    :param project_id: instead of the connection's
    :param region: instead of the connection's
    :param instance_id: instead of the connection's
    """

    conn_name_attr = "iotda_conn_id"
    default_conn_name = "iotda_default"
    conn_type = "iotda"
    hook_name = "Huawei Cloud IoTDA"

    def __init__(
        self,
        iotda_conn_id: str = default_conn_name,
        *,
        project_id: str | None = None,
        region: str | None = None,
        instance_id: str | None = None,
    ) -> None:
        super().__init__(http_conn_id=iotda_conn_id)
        self.iotda_conn_id = iotda_conn_id
        self._overrides = {"project_id": project_id, "region": region, "instance_id": instance_id}
        _all_hooks.add(self)

    @classmethod
    def get_connection_form_widgets(cls) -> dict[str, Any]:
        """The widgets for the fields of Extra, for an Airflow that asks the hook."""
        return connection_form_widgets()

    @classmethod
    def get_ui_field_behaviour(cls) -> dict[str, Any]:
        """Which of the standard fields the form shows, for an Airflow that asks the hook."""
        return ui_field_behaviour()

    def __enter__(self) -> IoTDAHook:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the pooled session; used again, the hook reads its connection and opens another.

        Calls of other threads that are under way come to their end first.
        """
        sessions: Lending[requests.Session] | None = vars(self).get("_sessions")
        self._forget()
        if sessions is not None and (session := sessions.end()) is not None:
            session.close()

    def _forget(self) -> None:
        for name in ("settings", "_authenticator", "_proxy_secrets", "_sessions"):
            vars(self).pop(name, None)

    @cached_property
    def settings(self) -> ConnectionSettings:
        """The connection, parsed and checked; its secrets are known to Airflow's masker."""
        conn_id = self.iotda_conn_id
        return load_settings(
            look_up(conn_id, lambda: self.get_connection(conn_id)),
            conn_id=conn_id,
            **self._overrides,
        )

    @cached_property
    def _authenticator(self) -> Authenticator:
        return authenticator_for(self.settings)

    @cached_property
    def _proxy_secrets(self) -> Callable[[], tuple[str, ...]]:
        # A function, so that whatever prints the hook's attributes does not print them.
        secrets = secrets_of_proxies(self.settings)
        return lambda: secrets

    create_batch_task = _call(api.create_batch_task)
    create_batch_task_once = _procedure(creating.create_batch_task_once)
    get_batch_task = _call(api.show_batch_task)
    list_batch_tasks = _listing(listing.list_batch_tasks)
    iter_subtasks = _listing(listing.iter_subtasks)
    stop_batch_task = _procedure(procedures.stop_batch_task)
    rehearse_stop = _procedure(procedures.rehearse_stop)
    read_stopped_targets = _procedure(procedures.read_stopped_targets)
    retry_batch_task = _procedure(procedures.retry_batch_task)
    confirm_batch_task = _procedure(procedures.confirm_batch_task)
    delete_batch_task = _procedure(procedures.delete_batch_task)
    get_device = _call(api.show_device)
    read_devices = _procedure(procedures.read_devices)
    list_devices = _listing(listing.list_devices)
    search_devices = _call(api.search_devices)
    list_device_groups = _listing(listing.list_device_groups)
    create_device_group = _call(api.create_group)
    iter_group_devices = _listing(listing.iter_group_devices)
    change_device_group = _call(api.change_group)
    list_ota_packages = _listing(listing.list_ota_packages)
    get_ota_package = _call(api.show_package)
    run = _any_request(read_arguments)

    def test_connection(self) -> tuple[bool, str]:
        """Whether the connection works, by one cheap signed call; if not, what failed, in words."""
        return checking.outcome(lambda: self._perform(checking.check_call()), lambda: self.settings)

    def check_response(self, response: requests.Response) -> None:
        """Raise the typed error for an answer that is not a success."""
        path = urlsplit(response.url or "").path
        call = api.any_call(response.request.method or "GET", path)
        self._read(call, response)

    def get_conn(
        self,
        headers: dict[Any, Any] | None = None,
        extra_options: dict[str, Any] | None = None,
    ) -> requests.Session:
        """The pooled session. Nothing of the connection's Extra is in its headers; it does not
        sign by itself: use :meth:`run`."""
        self.base_url = self.settings.base_url
        return self._sessions.current

    @cached_property
    def _sessions(self) -> Lending[requests.Session]:
        settings = self.settings
        return Lending(lambda: _open_session(settings))

    # --- the transport -------------------------------------------------------------------------

    def _perform(self, call: api.Call[T]) -> T:
        return self._retrying(call, lambda policy: self._read(call, self._send(call, policy)))

    def _request(self, request: AnyRequest) -> requests.Response:
        def attempt(policy: RetryPolicy) -> requests.Response:
            response = self._send(request.call, policy, request.headers)
            # The caller gets hold of the request, and may print it.
            mask(*secrets_of(response.request.headers))
            if request.check:
                self._read(request.call, response)
            # Whoever pickles the response pickles its request.
            response.request.headers.update(hidden_secrets(response.request.headers))
            return response

        return self._retrying(request.call, attempt)

    def _retrying(self, call: api.Call[Any], attempt: Callable[[RetryPolicy], T]) -> T:
        policy = RetryPolicy(self.settings, call.repeat, self.log)
        failed: IoTDAError | None
        try:
            return attempt(policy)  # which nearly always succeeds, and then needs no machinery
        except IoTDAError as error:
            failed = error

        def again() -> T:
            nonlocal failed
            if failed is not None:
                first, failed = failed, None
                raise first
            return attempt(policy)

        return Retrying(**policy.options())(again)

    def _read(self, call: api.Call[T], response: requests.Response) -> T:
        answer = Answer.of(
            response.status_code,
            response.headers.items(),
            response.content,
            sent=response.request.headers,
            secrets=self._proxy_secrets(),
        )
        return read_answer(call, answer)

    def _send(
        self, call: api.Call[Any], policy: RetryPolicy, headers: Mapping[str, str] | None = None
    ) -> requests.Response:
        authenticator = self._authenticator  # another thread may close the hook meanwhile
        response = self._send_once(call, policy, headers or {})
        if (
            response.status_code == 401
            and authenticator.rejected(response.request.headers)
            and policy.may_send
        ):
            response = self._send_once(call, policy, headers or {})
        return response

    def _send_once(
        self, call: api.Call[Any], policy: RetryPolicy, headers: Mapping[str, str]
    ) -> requests.Response:
        settings, authenticator, sessions = self.settings, self._authenticator, self._sessions
        _get_ready(authenticator, policy)
        limit = shared_limit(settings)
        if limit is not None:
            with policy.beside_the_budget():
                time.sleep(limit.reserve())
            _get_ready(authenticator, policy)
        seconds = policy.seconds_for(call.action)
        outgoing = call.outgoing(
            host=settings.host,
            project_id=authenticator.project_id,
            headers=signed_headers(settings, authenticator.project_id),
        )
        signed = Sealed(authenticator.authenticate(outgoing))
        mask(*new_signatures(signed.reveal()))
        request = requests.Request(
            outgoing.method,
            settings.base_url + outgoing.uri,
            headers={**headers, **outgoing.headers},
            data=outgoing.body or None,
            auth=_Signature(signed),
        )
        session = sessions.take()
        deadline = time.monotonic() + seconds
        failure: BaseException
        try:
            response = session.send(
                session.prepare_request(request),
                timeout=whole_time(seconds, CONNECT_SECONDS),
                allow_redirects=False,
                stream=True,
                verify=session.verify,
                proxies=session.proxies,
            )
            read_body(response, deadline)
            return response
        except requests.RequestException as error:
            if fault_of(error) is Fault.TIMEOUT:
                sessions.replace(session)
            failure = error_of(call, settings, error, signed.reveal(), seconds)
        except OSError as error:  # requests lets it through where it finds no such file
            failure = IoTDAConfigError(
                f"Connection {settings.conn_id!r}: the CA bundle {session.verify!r} can't be read: "
                f"{error}."
            )
        except BaseException as error:  # noqa: BLE001 - raised again, such as a task's timeout
            failure = error
        finally:
            if sessions.give_back(session):
                session.close()
        # Below are frames of other libraries, which hold the headers.
        try:
            raise without_frames(failure)
        finally:
            del failure

    def _rows(self, rows: listing.Listing[T]) -> Iterator[T]:
        while rows.next is not None:
            yield from rows.take(self._perform(rows.next))

    def _take(self, step: procedures.Step) -> Any:
        if isinstance(step, procedures.Together):
            return self._together(step)
        if isinstance(step, procedures.Pause):
            return time.sleep(step.seconds)
        return self._perform(step)

    def _together(self, step: procedures.Together) -> list[Any]:
        """The results of some calls, or their errors, a bounded number under way at a time."""

        def one(call: api.Call[Any]) -> Any:
            try:
                return self._perform(call)
            except IoTDAError as error:
                return error

        # Read once here, so that the threads do not race to read the connection.
        _ = self.settings, self._authenticator, self.get_conn()
        if len(step.calls) < 2:
            return [one(call) for call in step.calls]
        pool = ThreadPoolExecutor(procedures.MAX_IN_FLIGHT, thread_name_prefix="iotda")
        try:
            return list(pool.map(one, step.calls))
        finally:
            # Where a signal or a timeout ends the task, what has not begun must not begin.
            pool.shutdown(cancel_futures=True)


def _open_session(settings: ConnectionSettings) -> requests.Session:
    verify, proxy = verify_for(settings), proxy_for(settings)
    session = requests.Session()
    session.verify = verify
    session.proxies = {} if proxy is None else {"http": proxy, "https": proxy}
    session.trust_env = False  # looked at once, by the two above; and no .netrc
    session.headers.update(UNSIGNED_HEADERS)
    # The API sets no cookies; whatever sets one is in between and gets nothing back.
    session.cookies.set_policy(http.cookiejar.DefaultCookiePolicy(allowed_domains=[]))
    adapter = TimelyAdapter(
        idle=60, count=5, interval=15, pool_connections=2, pool_maxsize=procedures.MAX_IN_FLIGHT
    )
    session.mount("https://", adapter)
    session.mount("http://", adapter)
    return session


_all_hooks: WeakSet[IoTDAHook] = WeakSet()


def _forget_all() -> None:
    """In a forked process: connections are the parent's, which would get our answers, and whoever
    was obtaining credentials is not here. Nothing is said on what is let go of: its sockets are
    closed here only."""
    for hook in list(_all_hooks):
        hook._forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)
