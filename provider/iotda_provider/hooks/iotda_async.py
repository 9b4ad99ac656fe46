"""The asynchronous hook: its public methods; each makes a call or runs a procedure."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakKeyDictionary

import aiohttp
from airflow.providers.common.compat.connection import get_async_connection
from airflow.providers.common.compat.sdk import BaseHook

from iotda_provider import api, models
from iotda_provider.api.pagination import Listing, iter_subtasks, list_batch_tasks
from iotda_provider.auth.authenticator import authenticator_for
from iotda_provider.connection.loading import load_settings
from iotda_provider.connection.settings import ConnectionSettings
from iotda_provider.exceptions import IoTDAError
from iotda_provider.hooks import shared
from iotda_provider.hooks.lookup import look_up_async
from iotda_provider.hooks.procedure_io import AsyncIO
from iotda_provider.masking.airflow_masker import on_event_loop
from iotda_provider.masking.sealed import Sealed
from iotda_provider.procedures import batch_tasks, create_once, packages
from iotda_provider.procedures.device_reading import read_devices
from iotda_provider.transport import pipeline
from iotda_provider.transport.asynchronous import AsyncTransport
from iotda_provider.transport.sessions import borrow, give_back
from iotda_provider.transport.single_flight import own_loop_iteration, single_flight

if TYPE_CHECKING:
    from typing_extensions import Unpack


T = TypeVar("T")


class IoTDAAsyncHook(BaseHook):
    """An asynchronous client of IoTDA with the credentials of an Airflow connection.

    Use it as an async context manager. It reads its connection once, at the first call. All such
    hooks for one host in one event loop share a pooled session, and all in one process the rate
    limit. Its methods are those of :class:`~iotda_provider.hooks.iotda.IoTDAHook`, as coroutines
    and async iterators: the docstrings there give their parameters, results and errors.

    :param iotda_conn_id: the connection
    :param project_id: replaces the connection's, as do ``region`` and ``instance_id``
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
        #: The settings read last; None: none yet.
        self.last_settings: ConnectionSettings | None = None
        self._transports: WeakKeyDictionary[asyncio.AbstractEventLoop, AsyncTransport]
        self._transports = WeakKeyDictionary()

    async def __aenter__(self) -> IoTDAAsyncHook:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Stop using the shared session. Calls under way finish with it; later calls reopen it."""
        here = asyncio.get_running_loop()
        for loop in [loop for loop in self._transports if loop is here or loop.is_closed()]:
            await give_back(self._transports.pop(loop).shared)

    async def get_settings(self, *, again: bool = False) -> ConnectionSettings:
        """The connection, parsed and checked; Airflow's masker knows its secrets.

        :param again: read it again; until that has succeeded, calls use it as it was read before
        """
        present = await self._open()
        return (await self._read_again(present) if again else present).settings

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
        """Create a batch task. A lost answer is not retried: a second call makes a second task."""
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
        """Create a batch task, unless one of this name exists; a name serves one purpose."""
        return await create_once.create_batch_task_once(
            AsyncIO(self), not_before=not_before, **task
        )

    async def get_batch_task(self, batch_task_id: str) -> models.BatchTask:
        """One task with its counts, by one call whatever the fleet's size."""
        return await self._perform(api.show_batch_task(batch_task_id))

    def list_batch_tasks(
        self,
        *,
        task_type: models.TaskType | str | None = None,
        status: models.TaskStatus | str | None = None,
        app_id: str | None = None,
    ) -> AsyncIterator[models.BatchTask]:
        """Batch tasks, newest first, read page by page as needed."""
        rows = list_batch_tasks(task_type=task_type, status=status, app_id=app_id)
        return self._rows(rows)

    def iter_subtasks(
        self,
        batch_task_id: str,
        *,
        status: models.SubtaskStatus | str | None = None,
        target: str | None = None,
    ) -> AsyncIterator[models.Subtask]:
        """A task's subtasks, one for each target, read in pages of 50 as needed."""
        return self._rows(iter_subtasks(batch_task_id, status=status, target=target))

    async def stop_batch_task(
        self, batch_task_id: str, targets: Sequence[str] | None = None
    ) -> models.TargetResults:
        """Stop a whole task (``targets`` None) or some of its targets, in calls of at most 100."""
        return await batch_tasks.stop_batch_task(AsyncIO(self), batch_task_id, targets)

    async def stop_whole_tasks(self, batch_task_ids: Sequence[str]) -> dict[str, IoTDAError | None]:
        """Stop whole tasks, for a caller that cannot ask later; for each, its error or None."""
        return await batch_tasks.stop_whole_tasks(AsyncIO(self), batch_task_ids)

    async def rehearse_stop(self, batch_task_id: str) -> None:
        """Find out whether this connection may stop a task, without stopping anything."""
        await batch_tasks.rehearse_stop(AsyncIO(self), batch_task_id)

    async def read_stopped_targets(
        self, batch_task_id: str, targets: Sequence[str]
    ) -> models.TargetResults:
        """Whether each of some targets is stopped now, after a stop that another task sent."""
        return await batch_tasks.read_stopped_targets(AsyncIO(self), batch_task_id, targets)

    async def retry_batch_task(
        self, batch_task_id: str, targets: Sequence[str] | None = None
    ) -> models.TargetResults:
        """Start failed and stopped targets again: all (``targets`` None), some, or (empty) none."""
        return await batch_tasks.retry_batch_task(AsyncIO(self), batch_task_id, targets)

    async def confirm_batch_task(
        self, batch_task_id: str, targets: Sequence[str] | None = None
    ) -> models.TargetResults:
        """Let waiting targets start: all (``targets`` None), some, or (empty) none."""
        return await batch_tasks.confirm_batch_task(AsyncIO(self), batch_task_id, targets)

    async def delete_batch_task(self, batch_task_id: str) -> None:
        """Delete a task that has ended; no error if an earlier call with a lost answer did it."""
        await batch_tasks.delete_batch_task(AsyncIO(self), batch_task_id)

    async def get_device(self, device_id: str) -> models.Device:
        """One device with its versions."""
        return await self._perform(api.show_device(device_id))

    async def read_devices(
        self, device_ids: Sequence[str], *, product_id: str | None = None
    ) -> list[models.Device | IoTDAError]:
        """Some devices, or each one's error, in the order asked for."""
        return await read_devices(AsyncIO(self), device_ids, product_id)

    def list_devices(
        self, *, product_id: str | None = None, app_id: str | None = None
    ) -> AsyncIterator[models.Device]:
        """All devices with their versions, read page by page as needed."""
        return self._rows(Listing(api.list_devices, product_id=product_id, app_id=app_id))

    async def search_devices(self, sql: object) -> tuple[models.Device, ...]:
        """At most 50 devices that match a search, such as ``select * from device where ...``."""
        return await self._perform(api.search_devices(sql))

    def list_device_groups(self, *, name: str | None = None) -> AsyncIterator[models.DeviceGroup]:
        """All device groups, or those of one name."""
        return self._rows(Listing(api.list_groups, name=name))

    async def create_device_group(
        self, *, name: object, description: str = ""
    ) -> models.DeviceGroup:
        """Create a static device group."""
        return await self._perform(api.create_group(name=name, description=description))

    def iter_group_devices(self, group_id: str) -> AsyncIterator[models.Device]:
        """The devices of one group, without their versions."""
        return self._rows(Listing(api.list_devices_in_group, group_id))

    async def change_device_group(self, group_id: str, device_id: str, *, add: bool) -> None:
        """Put a device into a group, or take it out; doing so twice changes nothing more."""
        await self._perform(api.change_group(group_id, device_id, add=add))

    def list_ota_packages(
        self, *, package_type: str, product_id: str | None = None, version: str | None = None
    ) -> AsyncIterator[models.OtaPackage]:
        """All upgrade packages of one type: ``firmwarePackage`` or ``softwarePackage``."""
        rows = Listing(
            api.list_packages, package_type=package_type, product_id=product_id, version=version
        )
        return self._rows(rows)

    async def get_ota_package(self, package_id: str) -> models.OtaPackage:
        """One upgrade package."""
        return await self._perform(api.show_package(package_id))

    async def create_ota_package(self, **package: Unpack[api.PackageFields]) -> models.OtaPackage:
        """Register a file in OBS as an upgrade package. A lost answer is not retried."""
        return await self._perform(api.create_package(**package))

    async def create_ota_package_once(
        self, **package: Unpack[api.PackageFields]
    ) -> packages.CreatedPackage:
        """Create an upgrade package, unless its product has one of this type and version."""
        return await packages.create_package_once(AsyncIO(self), **package)

    async def delete_ota_package(self, package_id: str) -> None:
        """Delete an upgrade package; its file stays in OBS."""
        await packages.delete_package(AsyncIO(self), package_id)

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
        """Send a signed request to any path of IoTDA, such as ``/v5/iot/{project_id}/devices``."""
        request = shared.read_run_arguments(
            endpoint, data, headers, extra_options, method, params, json, request_kwargs
        )
        return await pipeline.respond(await self._open(), *request)

    async def test_connection(self) -> tuple[bool, str]:
        """Test the connection by one cheap signed call: whether it works, and a line about it."""
        try:
            await self._perform(shared.connection_test_call())
            return shared.connection_works(await self.get_settings())
        except shared.TEST_FAILURES as error:
            return shared.connection_fails(error)

    async def _open(self) -> AsyncTransport:
        transport = self._transports.get(asyncio.get_running_loop())
        if transport is None:
            await self.close()  # the transports of closed event loops
            transport = await self._read_again(None)
        return transport

    async def _read_again(self, before: AsyncTransport | None) -> AsyncTransport:
        """Read the connection, and then use it in place of an earlier reading (None: the first)."""
        loop = asyncio.get_running_loop()
        settings = await single_flight(("settings", id(self)), self._read_connection)
        self.last_settings = settings
        authenticator = authenticator_for(settings)
        session = await borrow(settings)
        present = self._transports.get(loop)
        if present is not None and present is not before:  # another task has read it meanwhile
            await give_back(session)
            return present
        transport = self._transports[loop] = AsyncTransport(
            settings, authenticator, session, self.log
        )
        if present is not None:
            await give_back(present.shared)
        return transport

    async def _read_connection(self) -> ConnectionSettings:
        conn_id = self.iotda_conn_id
        async with on_event_loop():
            # Sealed: its repr shows the password, and a traceback may show this frame.
            connection = Sealed(
                await look_up_async(conn_id, lambda: get_async_connection(conn_id, hook=self))
            )
            await own_loop_iteration()  # each of those that share the answer parses it
            return load_settings(connection.reveal(), conn_id=conn_id, **self._overrides)

    async def _perform(self, call: api.Call[T]) -> T:
        return await pipeline.perform(await self._open(), call)

    async def _rows(self, rows: Listing[T]) -> AsyncIterator[T]:
        while rows.next is not None:
            for row in rows.take(await self._perform(rows.next)):
                yield row
