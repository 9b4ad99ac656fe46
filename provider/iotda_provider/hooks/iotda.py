"""The blocking hook: its public methods, each a call or a procedure that both hooks share."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakSet

import requests
from airflow.providers.http.hooks.http import HttpHook

from iotda_provider import api, models
from iotda_provider.api import pagination
from iotda_provider.connection.form_widgets import connection_form_widgets, ui_field_behaviour
from iotda_provider.connection.loading import load_settings
from iotda_provider.exceptions import IoTDAError
from iotda_provider.hooks import checking
from iotda_provider.hooks.blocking import BlockingIO, BlockingTransport
from iotda_provider.hooks.lookup import look_up
from iotda_provider.hooks.run_arguments import read_arguments
from iotda_provider.procedures import batch_tasks, create_once
from iotda_provider.transport import pipeline
from iotda_provider.transport.runner import run_blocking

if TYPE_CHECKING:
    from types import TracebackType

    from iotda_provider.connection.settings import ConnectionSettings
    from iotda_provider.hooks.iotda_async import IoTDAAsyncHook

__all__ = ["IoTDAAsyncHook", "IoTDAHook"]

T = TypeVar("T")


def __getattr__(name: str) -> Any:
    """Both hooks have one address; whoever uses only one does not load the other's HTTP library."""
    if name == "IoTDAAsyncHook":
        from iotda_provider.hooks.iotda_async import IoTDAAsyncHook

        return IoTDAAsyncHook
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


class IoTDAHook(HttpHook):
    """A blocking client of IoTDA with the credentials of an Airflow connection.

    A context manager; it keeps one pooled session and reads its connection once, at the first call.
    Every method raises :class:`~iotda_provider.exceptions.IoTDAConfigError` for input that can't be
    right, before anything is sent, ``IoTDAApiError`` where the platform refuses and
    ``IoTDATransportError`` where no usable answer arrives.

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
        transport: BlockingTransport | None = vars(self).get("_transport")
        self._forget()
        if transport is not None:
            transport.close()

    def _forget(self) -> None:
        vars(self).pop("settings", None)
        vars(self).pop("_transport", None)

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
    def _transport(self) -> BlockingTransport:
        return BlockingTransport(self.settings, self.log)

    def create_batch_task(
        self,
        *,
        task_name: object,
        task_type: models.TaskType | str,
        targets: Sequence[str] | None = None,
        group_ids: Sequence[str] | None = None,
        document: Mapping[str, Any] | None = None,
        task_policy: Mapping[str, Any] | None = None,
        need_confirm: bool | None = None,
        app_id: str | None = None,
        task_mode: str | None = None,
        task_ext_info: Mapping[str, Any] | None = None,
    ) -> models.BatchTask:
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
        )
        return self._perform(call)

    def create_batch_task_once(
        self, *, not_before: str | None = None, **task: Any
    ) -> create_once.Created:
        """Create a batch task, unless there is one by its name, which must belong to one purpose
        only. Lost answers, and others that create it at the same time, leave one task.

        :param not_before: no task of this name can be older (in the platform's spelling of a time);
            the search for it ends there
        :param task: what :meth:`create_batch_task` takes
        :raises BatchTaskDiffersError: a task of this name is for something else
        """
        return run_blocking(
            create_once.create_batch_task_once(BlockingIO(self), not_before=not_before, **task)
        )

    def get_batch_task(self, batch_task_id: str) -> models.BatchTask:
        """One task with its counts, in one call whatever the fleet's size."""
        return self._perform(api.show_batch_task(batch_task_id))

    def list_batch_tasks(
        self,
        *,
        task_type: models.TaskType | str | None = None,
        status: models.TaskStatus | str | None = None,
        app_id: str | None = None,
    ) -> Iterator[models.BatchTask]:
        """Batch tasks, newest first, read page by page as they are needed.

        :param task_type: None: all that upgrade firmware, software or modules
        :param status: only those in this status; None: in any
        :param app_id: only those of this resource space; None: of all
        """
        rows = pagination.list_batch_tasks(task_type=task_type, status=status, app_id=app_id)
        return self._rows(rows)

    def iter_subtasks(
        self,
        batch_task_id: str,
        *,
        status: models.SubtaskStatus | str | None = None,
        target: str | None = None,
    ) -> Iterator[models.Subtask]:
        """A task's subtasks, each target once, in pages of 50 read as they are needed."""
        return self._rows(pagination.iter_subtasks(batch_task_id, status=status, target=target))

    def stop_batch_task(
        self, batch_task_id: str, targets: Sequence[str] | None = None
    ) -> models.TargetResults:
        """Stop a whole task (``targets`` None) or some of its targets, in calls of at most 100.

        Stopping twice is harmless: a task that is stopped or stopping already is not an error.
        Returns one definite result for each target; for a whole task the rows that the platform
        sent, if any. Where an answer was lost or refused, what came of it is read from the task. An
        empty list stops nothing.

        :raises TaskNotStoppableError: the task has run to its end, or its type can't be stopped
        """
        return run_blocking(batch_tasks.stop_batch_task(BlockingIO(self), batch_task_id, targets))

    def stop_whole_tasks(self, batch_task_ids: Sequence[str]) -> dict[str, IoTDAError | None]:
        """Stop whole tasks, for a caller that cannot ask later: why each could not be, or None.

        A task that is Initializing is asked again for some 25 seconds.
        """
        return run_blocking(batch_tasks.stop_whole_tasks(BlockingIO(self), batch_task_ids))

    def rehearse_stop(self, batch_task_id: str) -> None:
        """Find out whether this connection may stop a task, without stopping anything.

        :raises IoTDAAuthError: with status 403, it may not
        :raises IoTDAError: with anything else, nobody knows
        """
        run_blocking(batch_tasks.rehearse_stop(BlockingIO(self), batch_task_id))

    def read_stopped_targets(
        self, batch_task_id: str, targets: Sequence[str]
    ) -> models.TargetResults:
        """Whether each of some targets is stopped now, for a stop that somebody else asked for."""
        return run_blocking(
            batch_tasks.read_stopped_targets(BlockingIO(self), batch_task_id, targets)
        )

    def retry_batch_task(
        self, batch_task_id: str, targets: Sequence[str] | None = None
    ) -> models.TargetResults:
        """Start failed and stopped targets again: all (``targets`` None), some, or (empty) none.

        Returns one definite result for each target. It is never sent twice: where an answer was
        lost, what came of it is read from the task.
        """
        return run_blocking(batch_tasks.retry_batch_task(BlockingIO(self), batch_task_id, targets))

    def confirm_batch_task(
        self, batch_task_id: str, targets: Sequence[str] | None = None
    ) -> models.TargetResults:
        """Let waiting targets start: all (``targets`` None) or some; an empty list none.

        Returns one definite result for each target, as :meth:`stop_batch_task` does.
        """
        return run_blocking(
            batch_tasks.confirm_batch_task(BlockingIO(self), batch_task_id, targets)
        )

    def delete_batch_task(self, batch_task_id: str) -> None:
        """Remove a task that has ended; a task that a lost answer has removed is not an error."""
        run_blocking(batch_tasks.delete_batch_task(BlockingIO(self), batch_task_id))

    def get_device(self, device_id: str) -> models.Device:
        """One device with its versions."""
        return self._perform(api.show_device(device_id))

    def read_devices(self, device_ids: Sequence[str]) -> list[models.Device | IoTDAError]:
        """The details of some devices, one call each, or why there are none, in the order asked
        for. Lists of devices leave out when a connection changed."""
        return run_blocking(batch_tasks.read_devices(BlockingIO(self), device_ids))

    def list_devices(
        self, *, product_id: str | None = None, app_id: str | None = None
    ) -> Iterator[models.Device]:
        """All devices with their versions, read page by page as they are needed."""
        return self._rows(pagination.list_devices(product_id=product_id, app_id=app_id))

    def search_devices(self, sql: object) -> tuple[models.Device, ...]:
        """At most 50 devices that match a search, such as ``select * from device where ...``.

        The platform takes about one search a second, of at most 400 characters.
        """
        return self._perform(api.search_devices(sql))

    def list_device_groups(self, *, name: str | None = None) -> Iterator[models.DeviceGroup]:
        """All device groups, or those of one name."""
        return self._rows(pagination.list_device_groups(name=name))

    def create_device_group(self, *, name: object, description: str = "") -> models.DeviceGroup:
        """A new static device group.

        :param name: 1 to 64 letters, digits, spaces, Chinese or characters of ``_?'#().,&%@!-``
        :param description: as ``name``; empty: none
        """
        return self._perform(api.create_group(name=name, description=description))

    def iter_group_devices(self, group_id: str) -> Iterator[models.Device]:
        """The devices of one group, without their versions."""
        return self._rows(pagination.iter_group_devices(group_id))

    def change_device_group(self, group_id: str, device_id: str, *, add: bool) -> None:
        """Put a device into a group, or take it out; asking twice changes nothing more."""
        self._perform(api.change_group(group_id, device_id, add=add))

    def list_ota_packages(
        self, *, package_type: str, product_id: str | None = None, version: str | None = None
    ) -> Iterator[models.OtaPackage]:
        """All upgrade packages of one type: ``firmwarePackage`` or ``softwarePackage``."""
        rows = pagination.list_ota_packages(
            package_type=package_type, product_id=product_id, version=version
        )
        return self._rows(rows)

    def get_ota_package(self, package_id: str) -> models.OtaPackage:
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
        work = pipeline.respond(self._transport, request.call, request.headers, check=request.check)
        return run_blocking(work)

    def test_connection(self) -> tuple[bool, str]:
        """Whether the connection works, by one cheap signed call; if not, what failed, in words."""
        return checking.outcome(lambda: self._perform(checking.check_call()), lambda: self.settings)

    def check_response(self, response: requests.Response) -> None:
        """Raise the typed error for an answer that is not a success."""
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

    def _rows(self, rows: pagination.Listing[T]) -> Iterator[T]:
        while rows.next is not None:
            yield from rows.take(self._perform(rows.next))


_all_hooks: WeakSet[IoTDAHook] = WeakSet()


def _forget_all() -> None:
    """In a forked process: connections are the parent's, which would get our answers. They are
    closed here only, and nothing is said on them."""
    for hook in list(_all_hooks):
        hook._forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)
