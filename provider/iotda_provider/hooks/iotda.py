"""The blocking hook: ``requests`` as the transport below the shared description of the API."""

from __future__ import annotations

import http.cookiejar
import json as jsonlib
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

import requests
from airflow.providers.http.hooks.http import HttpHook
from requests.auth import AuthBase
from requests_toolbelt.adapters.socket_options import TCPKeepAliveAdapter
from tenacity import Retrying

from iotda_provider import api, procedures
from iotda_provider.answers import MAX_ANSWER_BYTES, Answer, read_answer
from iotda_provider.auth.authenticator import Authenticator, authenticator_for
from iotda_provider.exceptions import IoTDAError, IoTDATransportError
from iotda_provider.hooks.connection import load_settings
from iotda_provider.hooks.forms import ConnectionFormMixin
from iotda_provider.hooks.headers import UNSIGNED_HEADERS, checked_headers, signed_headers
from iotda_provider.rate_limit import shared_limit
from iotda_provider.retrying import RetryPolicy

if TYPE_CHECKING:
    from types import TracebackType

    from iotda_provider.models import (
        BatchTask,
        Subtask,
        SubtaskStatus,
        TargetResults,
        TaskStatus,
        TaskType,
    )
    from iotda_provider.settings import ConnectionSettings

T = TypeVar("T")

#: Calls of one procedure that may be under way at the same time.
MAX_IN_FLIGHT = 8


class _Signature(AuthBase):
    """Adds the headers of the authentication last, so that no ``.netrc`` can replace them."""

    def __init__(self, headers: Mapping[str, str]) -> None:
        self._headers = headers

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers.update(self._headers)
        return request


class IoTDAHook(ConnectionFormMixin, HttpHook):
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
        self._session: requests.Session | None = None

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
        """Close the pooled session; the hook opens a new one when it is used again."""
        if self._session is not None:
            self._session.close()
            self._session = None

    @cached_property
    def settings(self) -> ConnectionSettings:
        """The connection, parsed and checked; its secrets are known to Airflow's masker."""
        return load_settings(
            self.get_connection(self.iotda_conn_id), conn_id=self.iotda_conn_id, **self._overrides
        )

    @cached_property
    def _authenticator(self) -> Authenticator:
        return authenticator_for(self.settings)

    # --- batch tasks ---------------------------------------------------------------------------

    def create_batch_task(
        self,
        *,
        task_name: str,
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

        :param task_name: 1 to 128 letters, digits or ``_``
        :param task_type: such as ``firmwareUpgrade``
        :param targets: 1 to 30,000 device ids; wins over ``group_ids``
        :param group_ids: device groups whose devices are the targets
        :param document: for upgrades ``{"package_ids": [...]}``
        :param task_policy: ``schedule_time``, ``retry_count``, ``retry_interval``
        :param need_confirm: hold every target until it is confirmed
        :param app_id: resource space
        :param task_mode: ``GATEWAY`` for devices behind gateways
        :param task_ext_info: up to 512 characters that are sent to every device
        :param document_source: file with the targets, not for upgrades
        """
        return self._perform(
            api.create_batch_task(
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
        """All batch tasks, newest first, read page by page as they are needed."""
        return self._rows(
            lambda marker: api.list_batch_tasks(
                task_type=task_type, status=status, app_id=app_id, marker=marker
            )
        )

    def iter_subtasks(
        self,
        batch_task_id: str,
        *,
        status: SubtaskStatus | str | None = None,
        target: str | None = None,
    ) -> Iterator[Subtask]:
        """A task's subtasks, each target once, in pages of 50 read as they are needed."""
        seen = procedures.SeenTargets()
        rows = self._rows(
            lambda marker: api.list_subtasks(
                batch_task_id, status=status, target=target, marker=marker
            )
        )
        return (row for row in rows if seen.is_new(row.target))

    def stop_batch_task(
        self, batch_task_id: str, targets: Sequence[str] | None = None
    ) -> TargetResults:
        """Stop a whole task (``targets`` None) or some of its targets, in calls of at most 100.

        Stopping twice is harmless: a task that is stopped or stopping already is not an error.
        Returns one definite result for each target; for a whole task the rows that the platform
        sent, if any. An empty list stops nothing.

        :raises TaskNotStoppableError: the task has run to its end, or its type can't be stopped
        """
        return self._run_procedure(procedures.stop(batch_task_id, targets))

    def read_stopped_targets(self, batch_task_id: str, targets: Sequence[str]) -> TargetResults:
        """Whether each of some targets is stopped now; one call a target."""
        return self._run_procedure(procedures.read_stopped(batch_task_id, targets))

    def retry_batch_task(
        self, batch_task_id: str, targets: Sequence[str] | None = None
    ) -> TargetResults:
        """Start failed and stopped targets again: all (``targets`` None), some, or (empty) none."""
        return self._run_procedure(procedures.retry(batch_task_id, targets))

    def confirm_batch_task(
        self, batch_task_id: str, targets: Sequence[str] | None = None
    ) -> TargetResults:
        """Let waiting targets start: all (``targets`` None) or some; an empty list none."""
        return self._run_procedure(procedures.confirm(batch_task_id, targets))

    def delete_batch_task(self, batch_task_id: str) -> None:
        """Remove a task that has ended."""
        self._perform(api.delete_batch_task(batch_task_id))

    # --- anything else -------------------------------------------------------------------------

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
        ``/v5/iot/{project_id}/``.

        :param endpoint: the path
        :param data: the query of a GET, otherwise a JSON body (an object, or JSON text)
        :param headers: more headers; those of the authentication can't be set
        :param extra_options: ``{"check_response": False}`` returns an error's answer instead of
            raising
        :param method: GET unless there is a body, then POST
        :param params: the query
        :param json: the JSON body
        """
        options = dict(extra_options or {})
        check = options.pop("check_response", True)
        if request_kwargs or options:
            unknown = ", ".join(sorted({*request_kwargs, *options}))
            raise TypeError(f"run() does not take {unknown}: set it in the connection's Extra.")
        body = json
        if data is not None and (method or "").upper() != "GET" and body is None:
            body = jsonlib.loads(data) if isinstance(data, str) else data
        elif data is not None and isinstance(data, Mapping):
            params = {**data, **(params or {})}
        verb = method or ("GET" if body is None else "POST")
        call = api.any_call(verb, endpoint or "", query=params, body=body)
        policy = RetryPolicy(self.settings, call.repeat, self.log)

        def attempt() -> requests.Response:
            response = self._send(call, policy, checked_headers(headers or {}))
            if check:
                self._read(call, response)
            return response

        return Retrying(**policy.options())(attempt)

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
        if self._session is None:
            settings = self.settings
            session = requests.Session()
            session.verify = settings.verify
            session.proxies = dict(settings.proxies)
            session.headers.update(UNSIGNED_HEADERS)
            # The API sets no cookies; whatever sets one is in between and gets nothing back.
            session.cookies.set_policy(http.cookiejar.DefaultCookiePolicy(allowed_domains=[]))
            adapter = TCPKeepAliveAdapter(
                idle=60, count=5, interval=15, pool_connections=2, pool_maxsize=MAX_IN_FLIGHT
            )
            session.mount("https://", adapter)
            session.mount("http://", adapter)
            self.base_url = settings.base_url
            self._session = session
        return self._session

    # --- the transport -------------------------------------------------------------------------

    def _perform(self, call: api.Call[T]) -> T:
        policy = RetryPolicy(self.settings, call.repeat, self.log)
        return Retrying(**policy.options())(lambda: self._read(call, self._send(call, policy)))

    def _read(self, call: api.Call[T], response: requests.Response) -> T:
        answer = Answer.of(
            response.status_code,
            response.headers.items(),
            response.content,
            sent=response.request.headers,
        )
        return read_answer(call, answer)

    def _send(
        self, call: api.Call[Any], policy: RetryPolicy, headers: Mapping[str, str] | None = None
    ) -> requests.Response:
        response = self._send_once(call, policy, headers)
        if response.status_code == 401 and self._authenticator.rejected(response.request.headers):
            response = self._send_once(call, policy, headers)
        return response

    def _send_once(
        self, call: api.Call[Any], policy: RetryPolicy, headers: Mapping[str, str] | None
    ) -> requests.Response:
        settings, authenticator = self.settings, self._authenticator
        if not authenticator.is_ready():
            authenticator.prepare()
        limit = shared_limit(settings)
        if limit is not None:
            pause = limit.reserve()
            policy.not_counting(pause)
            time.sleep(pause)
        outgoing = call.outgoing(
            host=settings.host,
            project_id=authenticator.project_id,
            headers=signed_headers(settings, authenticator.project_id),
        )
        session = self.get_conn()
        request = requests.Request(
            outgoing.method,
            settings.base_url + outgoing.uri,
            headers={**(headers or {}), **outgoing.headers},
            data=outgoing.body or None,
            auth=_Signature(authenticator.authenticate(outgoing)),
        )
        seconds = max(policy.remaining, 0.1)
        deadline = time.monotonic() + seconds
        prepared = session.prepare_request(request)
        environment = session.merge_environment_settings(
            prepared.url, session.proxies, True, session.verify, None
        )
        try:
            response = session.send(
                prepared,
                timeout=(min(seconds, 10.0), seconds),
                allow_redirects=False,
                **environment,
            )
            _read_body(response, deadline)
        except requests.RequestException as error:
            raise _transport_error(call, settings, error) from None
        return response

    def _rows(self, page: procedures.PageCall[T]) -> Iterator[T]:
        steps = procedures.pages(page)
        call = next(steps)
        while True:
            answer = self._perform(call)
            yield from answer.rows
            try:
                call = steps.send(answer)
            except StopIteration:
                return

    def _run_procedure(self, procedure: procedures.Procedure[T]) -> T:
        answer: Any = None
        error: BaseException | None = None
        while True:
            try:
                step = procedure.throw(error) if error is not None else procedure.send(answer)
            except StopIteration as end:
                return end.value  # type: ignore[no-any-return]
            answer, error = None, None
            try:
                if isinstance(step, procedures.Together):
                    answer = self._together(step)
                else:
                    answer = self._perform(step)
            except IoTDAError as caught:
                error = caught

    def _together(self, step: procedures.Together) -> list[Any]:
        def one(call: api.Call[Any]) -> Any:
            try:
                return self._perform(call)
            except IoTDAError as error:
                return error

        # Read once here, so that the threads do not race to read the connection.
        _ = self.settings, self._authenticator, self.get_conn()
        if len(step.calls) == 1:
            return [one(step.calls[0])]
        with ThreadPoolExecutor(MAX_IN_FLIGHT, thread_name_prefix="iotda") as pool:
            return list(pool.map(one, step.calls))


def _read_body(response: requests.Response, deadline: float) -> None:
    """Read the body into the response, within the deadline: requests' own timeout is per read."""
    parts: list[bytes] = []
    size = 0
    for part in response.iter_content(65_536):
        parts.append(part)
        size += len(part)
        if size > MAX_ANSWER_BYTES or time.monotonic() > deadline:
            response.close()
            raise requests.exceptions.ReadTimeout(
                "the answer is larger than any of this API"
                if size > MAX_ANSWER_BYTES
                else "the answer comes too slowly"
            )
    length = response.headers.get("Content-Length", "")
    if length.isdigit() and int(length) > 0 and size == 0:
        raise requests.exceptions.ChunkedEncodingError("the answer was cut off")
    response._content = b"".join(parts)
    response._content_consumed = True  # type: ignore[attr-defined]


def _transport_error(
    call: api.Call[Any], settings: ConnectionSettings, error: requests.RequestException
) -> IoTDATransportError:
    where = f"Could not {call.action} at {settings.base_url}"
    text = str(error)
    if isinstance(error, requests.exceptions.SSLError):
        return IoTDATransportError(
            f"{where}: the server's TLS certificate was not accepted ({_reason(error)}). For a "
            "private CA set "
            "verify in the connection's Extra to the CA bundle's path.",
            sent=False,
        )
    if isinstance(error, requests.exceptions.ProxyError):
        return IoTDATransportError(
            f"{where}: the proxy did not answer ({_reason(error)}).", sent=False
        )
    if isinstance(error, requests.exceptions.ConnectTimeout):
        return IoTDATransportError(
            f"{where}: connecting timed out. Check Host and network.", sent=False
        )
    if isinstance(error, requests.exceptions.Timeout):
        return IoTDATransportError(
            f"{where}: no whole answer within {settings.timeout:g} s ({_reason(error)})."
        )
    if "NewConnectionError" in text or "NameResolutionError" in text:
        return IoTDATransportError(
            f"{where}: nothing answers there ({_reason(error)}). Check the connection's Host and "
            "the network.",
            sent=False,
        )
    return IoTDATransportError(f"{where}: the connection broke ({_reason(error)}).")


def _reason(error: BaseException) -> str:
    """The innermost cause in a few words: urllib3 wraps it several times, with object addresses."""
    cause: Any = error
    for _ in range(6):
        inner = getattr(cause, "reason", None) or next(
            (arg for arg in getattr(cause, "args", ()) if isinstance(arg, BaseException)), None
        )
        if not isinstance(inner, BaseException):
            break
        cause = inner
    text = str(cause).rsplit(">: ", 1)[-1]
    return text[:200] or type(cause).__name__
