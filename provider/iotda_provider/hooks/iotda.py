"""The blocking hook: ``requests`` as the transport below the shared description of the API."""

from __future__ import annotations

import http.cookiejar
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit
from weakref import WeakSet

import requests
from airflow.providers.http.hooks.http import HttpHook
from requests.auth import AuthBase
from tenacity import Retrying

from iotda_provider import api, creating, listing, procedures
from iotda_provider.answers import Answer, read_answer
from iotda_provider.auth.authenticator import Authenticator, authenticator_for
from iotda_provider.exceptions import IoTDAConfigError, IoTDAError
from iotda_provider.hooks import checking
from iotda_provider.hooks.blocking import BlockingIO, error_of, fault_of, read_body
from iotda_provider.hooks.connection import load_settings
from iotda_provider.hooks.failures import Fault
from iotda_provider.hooks.forms import connection_form_widgets, ui_field_behaviour
from iotda_provider.hooks.headers import UNSIGNED_HEADERS, signed_headers
from iotda_provider.hooks.lending import Lending
from iotda_provider.hooks.lookup import look_up
from iotda_provider.hooks.run_arguments import AnyRequest, read_arguments
from iotda_provider.masking import mask, new_signatures
from iotda_provider.network import proxy_for, secrets_of_proxies, verify_for
from iotda_provider.rate_limit import shared_limit
from iotda_provider.redaction import hidden_secrets, secrets_of
from iotda_provider.retrying import CONNECT_SECONDS, RetryPolicy
from iotda_provider.sealed import Sealed, without_frames
from iotda_provider.timely import OneAnswer, TimelyAdapter, whole_time
from iotda_provider.transport.runner import run_blocking

if TYPE_CHECKING:
    from types import TracebackType

    from iotda_provider.hooks.iotda_async import IoTDAAsyncHook
    from iotda_provider.models import (
        BatchTask,
        Device,
        DeviceGroup,
        OtaPackage,
        Subtask,
        SubtaskStatus,
        TargetResults,
        TaskStatus,
        TaskType,
    )
    from iotda_provider.settings import ConnectionSettings

__all__ = ["IoTDAAsyncHook", "IoTDAHook"]

T = TypeVar("T")


def __getattr__(name: str) -> Any:
    """Both hooks have one address; whoever uses only one does not load the other's HTTP library."""
    if name == "IoTDAAsyncHook":
        from iotda_provider.hooks.iotda_async import IoTDAAsyncHook

        return IoTDAAsyncHook
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _get_ready(authenticator: Authenticator, policy: RetryPolicy) -> None:
    if not authenticator.is_ready(urgent=policy.is_urgent):
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
        #: The connection as it was read last; None: it has not been read.
        self.last_settings: ConnectionSettings | None = None
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
        self.last_settings = load_settings(
            look_up(conn_id, lambda: self.get_connection(conn_id)),
            conn_id=conn_id,
            **self._overrides,
        )
        return self.last_settings

    @cached_property
    def _authenticator(self) -> Authenticator:
        return authenticator_for(self.settings)

    @cached_property
    def _proxy_secrets(self) -> Callable[[], tuple[str, ...]]:
        # A function, so that whatever prints the hook's attributes does not print them.
        secrets = secrets_of_proxies(self.settings)
        return lambda: secrets

    def create_batch_task(
        self,
        *,
        task_name: object,
        task_type: TaskType | str,
        targets: Sequence[str] | None = None,
        group_ids: Sequence[str] | None = None,
        document: Mapping[str, Any] | None = None,
        task_policy: Mapping[str, Any] | None = None,
        need_confirm: bool | None = None,
        app_id: str | None = None,
        task_mode: str | None = None,
        task_ext_info: Mapping[str, Any] | None = None,
        document_source: str | None = None,
    ) -> BatchTask:
        """Create a batch task; never repeated blindly, because a second call makes a second task.

        :param task_name: 1 to 128 letters (a-z, A-Z, Chinese), digits or ``_``
        :param task_type: such as ``firmwareUpgrade``
        :param targets: 1 to 30,000 device ids; wins over ``group_ids``
        :param group_ids: IDs of device groups (a-f, 0-9 and ``-``) whose devices are the targets
        :param document: for upgrades ``{"package_ids": [...]}``
        :param task_policy: ``schedule_time`` (``yyyyMMdd'T'HHmmss'Z'``, at most 7 days ahead),
            ``retry_count`` (1 to 5) with ``retry_interval`` (0 to 1440 minutes)
        :param need_confirm: hold every target until it is confirmed
        :param app_id: resource space
        :param task_mode: ``GATEWAY`` for devices behind gateways
        :param task_ext_info: an object of up to 512 characters that is sent to every device
        :param document_source: id of a file with the targets that was uploaded at the console; not
            for upgrades, and not beside ``targets`` or ``group_ids``
        """
        call = api.create_batch_task(
            task_name=task_name,
            task_type=task_type,
            targets=targets,
            group_ids=group_ids,
            document=document,
            task_policy=task_policy,
            need_confirm=need_confirm,
            app_id=app_id,
            task_mode=task_mode,
            task_ext_info=task_ext_info,
            document_source=document_source,
        )
        return self._perform(call)

    def create_batch_task_once(
        self, *, not_before: str | None = None, **task: Any
    ) -> creating.Created:
        """Create a batch task, unless there is one by its name, which must belong to one purpose
        only. Lost answers, and others that create it at the same time, leave one task.

        :param not_before: no task of this name can be older (in the platform's spelling of a time);
            the search for it ends there
        :param task: what :meth:`create_batch_task` takes
        :raises BatchTaskDiffersError: a task of this name is for something else
        """
        return run_blocking(
            creating.create_batch_task_once(BlockingIO(self), not_before=not_before, **task)
        )

    def get_batch_task(self, batch_task_id: str) -> BatchTask:
        """One task with its counts, in one call whatever the fleet's size."""
        return self._perform(api.show_batch_task(batch_task_id))

    def list_batch_tasks(
        self,
        *,
        task_type: TaskType | str | None = None,
        status: TaskStatus | str | None = None,
        app_id: str | None = None,
    ) -> Iterator[BatchTask]:
        """Batch tasks, newest first, read page by page as they are needed.

        :param task_type: None: all that upgrade firmware, software or modules
        :param status: only those in this status; None: in any
        :param app_id: only those of this resource space; None: of all
        """
        rows = listing.list_batch_tasks(task_type=task_type, status=status, app_id=app_id)
        return self._rows(rows)

    def iter_subtasks(
        self,
        batch_task_id: str,
        *,
        status: SubtaskStatus | str | None = None,
        target: str | None = None,
    ) -> Iterator[Subtask]:
        """A task's subtasks, each target once, in pages of 50 read as they are needed."""
        return self._rows(listing.iter_subtasks(batch_task_id, status=status, target=target))

    def stop_batch_task(
        self, batch_task_id: str, targets: Sequence[str] | None = None
    ) -> TargetResults:
        """Stop a whole task (``targets`` None) or some of its targets, in calls of at most 100.

        Stopping twice is harmless: a task that is stopped or stopping already is not an error.
        Returns one definite result for each target; for a whole task the rows that the platform
        sent, if any. Where an answer was lost or refused, what came of it is read from the task. An
        empty list stops nothing.

        :raises TaskNotStoppableError: the task has run to its end, or its type can't be stopped
        """
        return run_blocking(procedures.stop_batch_task(BlockingIO(self), batch_task_id, targets))

    def stop_whole_tasks(self, batch_task_ids: Sequence[str]) -> dict[str, IoTDAError | None]:
        """Stop whole tasks, for a caller that cannot ask later: why each could not be, or None.

        A task that is Initializing is asked again for some 25 seconds.
        """
        return run_blocking(procedures.stop_whole_tasks(BlockingIO(self), batch_task_ids))

    def rehearse_stop(self, batch_task_id: str) -> None:
        """Find out whether this connection may stop a task, without stopping anything.

        :raises IoTDAAuthError: with status 403, it may not
        :raises IoTDAError: with anything else, nobody knows
        """
        run_blocking(procedures.rehearse_stop(BlockingIO(self), batch_task_id))

    def read_stopped_targets(self, batch_task_id: str, targets: Sequence[str]) -> TargetResults:
        """Whether each of some targets is stopped now, for a stop that somebody else asked for."""
        return run_blocking(
            procedures.read_stopped_targets(BlockingIO(self), batch_task_id, targets)
        )

    def retry_batch_task(
        self, batch_task_id: str, targets: Sequence[str] | None = None
    ) -> TargetResults:
        """Start failed and stopped targets again: all (``targets`` None), some, or (empty) none.

        Returns one definite result for each target. It is never sent twice: where an answer was
        lost, what came of it is read from the task.
        """
        return run_blocking(procedures.retry_batch_task(BlockingIO(self), batch_task_id, targets))

    def confirm_batch_task(
        self, batch_task_id: str, targets: Sequence[str] | None = None
    ) -> TargetResults:
        """Let waiting targets start: all (``targets`` None) or some; an empty list none.

        Returns one definite result for each target, as :meth:`stop_batch_task` does.
        """
        return run_blocking(procedures.confirm_batch_task(BlockingIO(self), batch_task_id, targets))

    def delete_batch_task(self, batch_task_id: str) -> None:
        """Remove a task that has ended; a task that a lost answer has removed is not an error."""
        run_blocking(procedures.delete_batch_task(BlockingIO(self), batch_task_id))

    def get_device(self, device_id: str) -> Device:
        """One device with its versions."""
        return self._perform(api.show_device(device_id))

    def read_devices(self, device_ids: Sequence[str]) -> list[Device | IoTDAError]:
        """The details of some devices, one call each, or why there are none, in the order asked
        for. Lists of devices leave out when a connection changed."""
        return run_blocking(procedures.read_devices(BlockingIO(self), device_ids))

    def list_devices(
        self, *, product_id: str | None = None, app_id: str | None = None
    ) -> Iterator[Device]:
        """All devices with their versions, read page by page as they are needed."""
        return self._rows(listing.list_devices(product_id=product_id, app_id=app_id))

    def search_devices(self, sql: object) -> tuple[Device, ...]:
        """At most 50 devices that match a search, such as ``select * from device where ...``.

        The platform takes about one search a second, of at most 400 characters.
        """
        return self._perform(api.search_devices(sql))

    def list_device_groups(self, *, name: str | None = None) -> Iterator[DeviceGroup]:
        """All device groups, or those of one name."""
        return self._rows(listing.list_device_groups(name=name))

    def create_device_group(self, *, name: object, description: str = "") -> DeviceGroup:
        """A new static device group.

        :param name: 1 to 64 letters, digits, spaces, Chinese or characters of ``_?'#().,&%@!-``
        :param description: as ``name``; empty: none
        """
        return self._perform(api.create_group(name=name, description=description))

    def iter_group_devices(self, group_id: str) -> Iterator[Device]:
        """The devices of one group, without their versions."""
        return self._rows(listing.iter_group_devices(group_id))

    def change_device_group(self, group_id: str, device_id: str, *, add: bool) -> None:
        """Put a device into a group, or take it out; asking twice changes nothing more."""
        self._perform(api.change_group(group_id, device_id, add=add))

    def list_ota_packages(
        self, *, package_type: str, product_id: str | None = None, version: str | None = None
    ) -> Iterator[OtaPackage]:
        """All upgrade packages of one type: ``firmwarePackage`` or ``softwarePackage``."""
        rows = listing.list_ota_packages(
            package_type=package_type, product_id=product_id, version=version
        )
        return self._rows(rows)

    def get_ota_package(self, package_id: str) -> OtaPackage:
        """One upgrade package."""
        return self._perform(api.show_package(package_id))

    def run(
        self,
        endpoint: str | None = None,
        data: Mapping[str, Any] | str | None = None,
        headers: Mapping[str, Any] | None = None,
        extra_options: Mapping[str, Any] | None = None,
        *,
        method: str | None = None,
        params: Mapping[str, Any] | None = None,
        json: Any = None,
        **request_kwargs: Any,
    ) -> requests.Response:
        """A signed call to any other path of IoTDA, such as ``/v5/iot/{project_id}/devices``.

        ``{project_id}`` is filled in; a path without ``/v5`` is taken below
        ``/v5/iot/{project_id}/``. What is returned has been read already.

        :param endpoint: the path
        :param data: the query of a GET, otherwise a JSON body (an object, or JSON text)
        :param headers: more headers; those of the authentication can't be set
        :param extra_options: ``{"check_response": False}`` returns an error's answer instead of
            raising
        :param method: GET unless there is a body, then POST
        :param params: the query
        :param json: the JSON body
        """
        request = read_arguments(
            endpoint,
            data,
            headers,
            extra_options,
            method=method,
            params=params,
            json=json,
            **request_kwargs,
        )
        return self._request(request)

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

    def _open(self) -> None:
        _ = self.settings, self._authenticator, self.get_conn()

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
        # A ValueError: of what no library expects in an answer.
        except (requests.RequestException, ValueError) as error:
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


def _open_session(settings: ConnectionSettings) -> requests.Session:
    verify, proxy = verify_for(settings), proxy_for(settings)
    session = OneAnswer()
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
