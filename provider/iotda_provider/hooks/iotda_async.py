"""The asynchronous hook: its public methods, each a call or a procedure that both hooks share."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakKeyDictionary

import aiohttp
from airflow.providers.common.compat.connection import get_async_connection
from airflow.providers.common.compat.sdk import BaseHook

from iotda_provider import api, models
from iotda_provider.api import pagination
from iotda_provider.auth.authenticator import authenticator_for
from iotda_provider.connection.loading import load_settings
from iotda_provider.exceptions import IoTDAError
from iotda_provider.hooks import checking
from iotda_provider.hooks.asynchronous import AsyncIO, AsyncTransport
from iotda_provider.hooks.lookup import look_up_async
from iotda_provider.hooks.run_arguments import read_arguments
from iotda_provider.masking.airflow_masker import on_event_loop
from iotda_provider.masking.sealed import Sealed
from iotda_provider.procedures import batch_tasks, create_once
from iotda_provider.transport import pipeline
from iotda_provider.transport.sessions import borrow, give_back
from iotda_provider.transport.single_flight import own_loop_iteration, single_flight

if TYPE_CHECKING:
    from types import TracebackType

    from iotda_provider.connection.settings import ConnectionSettings

T = TypeVar("T")


class IoTDAAsyncHook(BaseHook):
    """An asynchronous client of IoTDA with the credentials of an Airflow connection.

    An async context manager. It reads its connection once, at the first call, and shares one pooled
    session with all other hooks for the same host in its event loop, and the rate limit with the
    whole process. Its methods are those of :class:`~iotda_provider.hooks.iotda.IoTDAHook`, as
    coroutines and async iterators, and raise the same errors.

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
        super().__init__()
        self.iotda_conn_id = iotda_conn_id
        self._overrides = {"project_id": project_id, "region": region, "instance_id": instance_id}
        #: The connection as it was read last; None: it has not been read.
        self.last_settings: ConnectionSettings | None = None
        self._transports: WeakKeyDictionary[asyncio.AbstractEventLoop, AsyncTransport]
        self._transports = WeakKeyDictionary()

    async def __aenter__(self) -> IoTDAAsyncHook:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Give the shared session back; the hook takes one again when it is used again.

        Calls that are under way come to their end with what they began with.
        """
        here = asyncio.get_running_loop()
        for loop in [loop for loop in self._transports if loop is here or loop.is_closed()]:
            await give_back(self._transports.pop(loop).shared)

    async def get_settings(self) -> ConnectionSettings:
        """The connection, parsed and checked; its secrets are known to Airflow's masker."""
        return (await self._open()).settings

    async def create_batch_task(
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
        return await self._perform(call)

    async def create_batch_task_once(
        self, *, not_before: str | None = None, **task: Any
    ) -> create_once.Created:
        """Create a batch task, unless there is one by its name, which must belong to one purpose
        only. Lost answers, and others that create it at the same time, leave one task.

        :param not_before: no task of this name can be older (in the platform's spelling of a time);
            the search for it ends there
        :param task: what :meth:`create_batch_task` takes
        :raises BatchTaskDiffersError: a task of this name is for something else
        """
        return await create_once.create_batch_task_once(
            AsyncIO(self), not_before=not_before, **task
        )

    async def get_batch_task(self, batch_task_id: str) -> models.BatchTask:
        """One task with its counts, in one call whatever the fleet's size."""
        return await self._perform(api.show_batch_task(batch_task_id))

    def list_batch_tasks(
        self,
        *,
        task_type: models.TaskType | str | None = None,
        status: models.TaskStatus | str | None = None,
        app_id: str | None = None,
    ) -> AsyncIterator[models.BatchTask]:
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
    ) -> AsyncIterator[models.Subtask]:
        """A task's subtasks, each target once, in pages of 50 read as they are needed."""
        return self._rows(pagination.iter_subtasks(batch_task_id, status=status, target=target))

    async def stop_batch_task(
        self, batch_task_id: str, targets: Sequence[str] | None = None
    ) -> models.TargetResults:
        """Stop a whole task (``targets`` None) or some of its targets, in calls of at most 100.

        Stopping twice is harmless: a task that is stopped or stopping already is not an error.
        Returns one definite result for each target; for a whole task the rows that the platform
        sent, if any. Where an answer was lost or refused, what came of it is read from the task. An
        empty list stops nothing.

        :raises TaskNotStoppableError: the task has run to its end, or its type can't be stopped
        """
        return await batch_tasks.stop_batch_task(AsyncIO(self), batch_task_id, targets)

    async def stop_whole_tasks(self, batch_task_ids: Sequence[str]) -> dict[str, IoTDAError | None]:
        """Stop whole tasks, for a caller that cannot ask later: why each could not be, or None.

        A task that is Initializing is asked again for some 25 seconds.
        """
        return await batch_tasks.stop_whole_tasks(AsyncIO(self), batch_task_ids)

    async def rehearse_stop(self, batch_task_id: str) -> None:
        """Find out whether this connection may stop a task, without stopping anything.

        :raises IoTDAAuthError: with status 403, it may not
        :raises IoTDAError: with anything else, nobody knows
        """
        await batch_tasks.rehearse_stop(AsyncIO(self), batch_task_id)

    async def read_stopped_targets(
        self, batch_task_id: str, targets: Sequence[str]
    ) -> models.TargetResults:
        """Whether each of some targets is stopped now, for a stop that somebody else asked for."""
        return await batch_tasks.read_stopped_targets(AsyncIO(self), batch_task_id, targets)

    async def retry_batch_task(
        self, batch_task_id: str, targets: Sequence[str] | None = None
    ) -> models.TargetResults:
        """Start failed and stopped targets again: all (``targets`` None), some, or (empty) none.

        Returns one definite result for each target. It is never sent twice: where an answer was
        lost, what came of it is read from the task.
        """
        return await batch_tasks.retry_batch_task(AsyncIO(self), batch_task_id, targets)

    async def confirm_batch_task(
        self, batch_task_id: str, targets: Sequence[str] | None = None
    ) -> models.TargetResults:
        """Let waiting targets start: all (``targets`` None) or some; an empty list none.

        Returns one definite result for each target, as :meth:`stop_batch_task` does.
        """
        return await batch_tasks.confirm_batch_task(AsyncIO(self), batch_task_id, targets)

    async def delete_batch_task(self, batch_task_id: str) -> None:
        """Remove a task that has ended; a task that a lost answer has removed is not an error."""
        await batch_tasks.delete_batch_task(AsyncIO(self), batch_task_id)

    async def get_device(self, device_id: str) -> models.Device:
        """One device with its versions."""
        return await self._perform(api.show_device(device_id))

    async def read_devices(self, device_ids: Sequence[str]) -> list[models.Device | IoTDAError]:
        """The details of some devices, one call each, or why there are none, in the order asked
        for. Lists of devices leave out when a connection changed."""
        return await batch_tasks.read_devices(AsyncIO(self), device_ids)

    def list_devices(
        self, *, product_id: str | None = None, app_id: str | None = None
    ) -> AsyncIterator[models.Device]:
        """All devices with their versions, read page by page as they are needed."""
        return self._rows(pagination.list_devices(product_id=product_id, app_id=app_id))

    async def search_devices(self, sql: object) -> tuple[models.Device, ...]:
        """At most 50 devices that match a search, such as ``select * from device where ...``.

        The platform takes about one search a second, of at most 400 characters.
        """
        return await self._perform(api.search_devices(sql))

    def list_device_groups(self, *, name: str | None = None) -> AsyncIterator[models.DeviceGroup]:
        """All device groups, or those of one name."""
        return self._rows(pagination.list_device_groups(name=name))

    async def create_device_group(
        self, *, name: object, description: str = ""
    ) -> models.DeviceGroup:
        """A new static device group.

        :param name: 1 to 64 letters, digits, spaces, Chinese or characters of ``_?'#().,&%@!-``
        :param description: as ``name``; empty: none
        """
        return await self._perform(api.create_group(name=name, description=description))

    def iter_group_devices(self, group_id: str) -> AsyncIterator[models.Device]:
        """The devices of one group, without their versions."""
        return self._rows(pagination.iter_group_devices(group_id))

    async def change_device_group(self, group_id: str, device_id: str, *, add: bool) -> None:
        """Put a device into a group, or take it out; asking twice changes nothing more."""
        await self._perform(api.change_group(group_id, device_id, add=add))

    def list_ota_packages(
        self, *, package_type: str, product_id: str | None = None, version: str | None = None
    ) -> AsyncIterator[models.OtaPackage]:
        """All upgrade packages of one type: ``firmwarePackage`` or ``softwarePackage``."""
        rows = pagination.list_ota_packages(
            package_type=package_type, product_id=product_id, version=version
        )
        return self._rows(rows)

    async def get_ota_package(self, package_id: str) -> models.OtaPackage:
        """One upgrade package."""
        return await self._perform(api.show_package(package_id))

    async def run(
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
    ) -> aiohttp.ClientResponse:
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
        return await pipeline.respond(
            await self._open(), request.call, request.headers, check=request.check
        )

    async def test_connection(self) -> tuple[bool, str]:
        """Whether the connection works, by one cheap signed call; if not, what failed, in words."""
        try:
            await self._perform(checking.check_call())
        except checking.FAILURES as error:
            return False, checking.describe(error)
        return True, checking.success(await self.get_settings())

    async def _open(self) -> AsyncTransport:
        loop = asyncio.get_running_loop()
        transport = self._transports.get(loop)
        if transport is None:
            await self.close()  # that of a loop that is closed itself
            settings = await single_flight(("settings", id(self)), self._read_connection)
            self.last_settings = settings
            authenticator = authenticator_for(settings)
            shared = await borrow(settings)
            transport = self._transports.get(loop)
            if transport is None:
                transport = AsyncTransport(settings, authenticator, shared, self.log)
                self._transports[loop] = transport
            else:  # somebody else has opened it meanwhile
                await give_back(shared)
        return transport

    async def _read_connection(self) -> ConnectionSettings:
        conn_id = self.iotda_conn_id
        async with on_event_loop():
            # Sealed: its repr shows the password, and an error may have this frame.
            connection = Sealed(
                await look_up_async(conn_id, lambda: get_async_connection(conn_id, hook=self))
            )
            await own_loop_iteration()  # each of those that share the answer parses it
            return load_settings(connection.reveal(), conn_id=conn_id, **self._overrides)

    async def _perform(self, call: api.Call[T]) -> T:
        return await pipeline.perform(await self._open(), call)

    async def _rows(self, rows: pagination.Listing[T]) -> AsyncIterator[T]:
        while rows.next is not None:
            for row in rows.take(await self._perform(rows.next)):
                yield row
