"""The blocking hook: its public methods; each makes a call or runs a procedure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import requests

from iotda_provider import api, models
from iotda_provider.api.pagination import Listing, iter_subtasks, list_batch_tasks
from iotda_provider.connection.form_widgets import connection_form_widgets, ui_field_behaviour
from iotda_provider.exceptions import IoTDAError
from iotda_provider.hooks import shared
from iotda_provider.hooks.connected_hook import ConnectedHook
from iotda_provider.hooks.procedure_io import BlockingIO
from iotda_provider.models.lazy_names import lazily
from iotda_provider.procedures import batch_tasks, create_once, packages
from iotda_provider.procedures.device_reading import read_devices
from iotda_provider.transport import pipeline
from iotda_provider.transport.runner import run_blocking

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from iotda_provider.hooks.iotda_async import IoTDAAsyncHook

__all__ = ["IoTDAAsyncHook", "IoTDAHook"]


# The asynchronous hook, and its HTTP library, are imported only when it is asked for.
__getattr__ = lazily(__name__, {"iotda_async": ("IoTDAAsyncHook",)})


class IoTDAHook(ConnectedHook):
    """A blocking client of IoTDA with the credentials of an Airflow connection.

    Use it as a context manager. It keeps one pooled session and reads its connection once, at the
    first call. Every method raises :class:`~iotda_provider.exceptions.IoTDAConfigError` for wrong
    input (before anything is sent), ``IoTDAApiError`` if the platform refuses, and
    ``IoTDATransportError`` if no usable answer arrives.

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
        super().__init__(
            iotda_conn_id, project_id=project_id, region=region, instance_id=instance_id
        )

    @classmethod
    def get_connection_form_widgets(cls) -> dict[str, Any]:
        """The widgets for the fields of Extra, for an Airflow that asks the hook."""
        return connection_form_widgets()

    @classmethod
    def get_ui_field_behaviour(cls) -> dict[str, Any]:
        """Which of the standard fields the form shows, for an Airflow that asks the hook."""
        return ui_field_behaviour()

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
        """Create a batch task. A lost answer is not retried: a second call makes a second task.

        :param task_name: 1 to 128 letters (a-z, A-Z, Chinese), digits or ``_``
        :param task_type: such as ``firmwareUpgrade``
        :param targets: 1 to 30,000 device ids; ``group_ids`` are ignored then
        :param group_ids: ids of device groups (a-f, 0-9 and ``-``) whose devices are the targets
        :param document: for upgrades ``{"package_ids": [...]}``
        :param task_policy: ``schedule_time`` (``yyyyMMdd'T'HHmmss'Z'``, at most 7 days ahead),
            ``retry_count`` (1 to 5) with ``retry_interval`` (0 to 1440 minutes)
        :param need_confirm: every target waits until it is confirmed
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
        """Create a batch task, unless one of this name exists; a name serves one purpose.

        One task results even if an answer is lost or others create it at the same time.

        :param not_before: when the search for the name ends: no task of this name is older (a time
            as the platform writes it)
        :param task: the arguments of :meth:`create_batch_task`
        :raises BatchTaskDiffersError: the existing task differs from the one asked for
        """
        return run_blocking(
            create_once.create_batch_task_once(BlockingIO(self), not_before=not_before, **task)
        )

    def get_batch_task(self, batch_task_id: str) -> models.BatchTask:
        """One task with its counts, by one call whatever the fleet's size."""
        return self._perform(api.show_batch_task(batch_task_id))

    def list_batch_tasks(
        self,
        *,
        task_type: models.TaskType | str | None = None,
        status: models.TaskStatus | str | None = None,
        app_id: str | None = None,
    ) -> Iterator[models.BatchTask]:
        """Batch tasks, newest first, read page by page as needed.

        :param task_type: None: all that upgrade firmware, software or modules
        :param status: only tasks in this status; None: in any
        :param app_id: only tasks of this resource space; None: of all
        """
        return self._rows(list_batch_tasks(task_type=task_type, status=status, app_id=app_id))

    def iter_subtasks(
        self,
        batch_task_id: str,
        *,
        status: models.SubtaskStatus | str | None = None,
        target: str | None = None,
    ) -> Iterator[models.Subtask]:
        """A task's subtasks, one for each target, read in pages of 50 as needed."""
        return self._rows(iter_subtasks(batch_task_id, status=status, target=target))

    def stop_batch_task(
        self, batch_task_id: str, targets: Sequence[str] | None = None
    ) -> models.TargetResults:
        """Stop a whole task (``targets`` None) or some of its targets, in calls of at most 100.

        Stopping twice is harmless: a task that is stopped or stopping already is not an error.
        Returns one definite result for each target; for a whole task the rows that the platform
        sent, if any. If an answer is lost or a call refused, the results are read from the task.
        An empty list stops nothing.

        :raises TaskNotStoppableError: the task has ended, or its type can't be stopped
        """
        return run_blocking(batch_tasks.stop_batch_task(BlockingIO(self), batch_task_id, targets))

    def stop_whole_tasks(self, batch_task_ids: Sequence[str]) -> dict[str, IoTDAError | None]:
        """Stop whole tasks, for a caller that cannot ask later; for each, its error or None.

        A task that is Initializing is asked again for some 25 seconds.
        """
        return run_blocking(batch_tasks.stop_whole_tasks(BlockingIO(self), batch_task_ids))

    def rehearse_stop(self, batch_task_id: str) -> None:
        """Find out whether this connection may stop a task, without stopping anything.

        :raises IoTDAAuthError: with status 403: it may not
        :raises IoTDAError: any other error: unknown
        """
        run_blocking(batch_tasks.rehearse_stop(BlockingIO(self), batch_task_id))

    def read_stopped_targets(
        self, batch_task_id: str, targets: Sequence[str]
    ) -> models.TargetResults:
        """Whether each of some targets is stopped now, after a stop that another task sent."""
        return run_blocking(
            batch_tasks.read_stopped_targets(BlockingIO(self), batch_task_id, targets)
        )

    def retry_batch_task(
        self, batch_task_id: str, targets: Sequence[str] | None = None
    ) -> models.TargetResults:
        """Start failed and stopped targets again: all (``targets`` None), some, or (empty) none.

        Returns one definite result for each target. A lost answer is not retried: the results are
        then read from the task.
        """
        return run_blocking(batch_tasks.retry_batch_task(BlockingIO(self), batch_task_id, targets))

    def confirm_batch_task(
        self, batch_task_id: str, targets: Sequence[str] | None = None
    ) -> models.TargetResults:
        """Let waiting targets start: all (``targets`` None), some, or (empty) none.

        Returns one definite result for each target, as :meth:`stop_batch_task` does.
        """
        return run_blocking(
            batch_tasks.confirm_batch_task(BlockingIO(self), batch_task_id, targets)
        )

    def delete_batch_task(self, batch_task_id: str) -> None:
        """Delete a task that has ended; no error if an earlier call with a lost answer did it."""
        run_blocking(batch_tasks.delete_batch_task(BlockingIO(self), batch_task_id))

    def get_device(self, device_id: str) -> models.Device:
        """One device with its versions."""
        return self._perform(api.show_device(device_id))

    def read_devices(
        self, device_ids: Sequence[str], *, product_id: str | None = None
    ) -> list[models.Device | IoTDAError]:
        """Some devices, or each one's error, in the order asked for.

        One call each, or ``product_id``'s list where that is fewer, without ``status_changed``.
        """
        return run_blocking(read_devices(BlockingIO(self), device_ids, product_id))

    def list_devices(
        self, *, product_id: str | None = None, app_id: str | None = None
    ) -> Iterator[models.Device]:
        """All devices with their versions, read page by page as needed."""
        return self._rows(Listing(api.list_devices, product_id=product_id, app_id=app_id))

    def search_devices(self, sql: object) -> tuple[models.Device, ...]:
        """At most 50 devices that match a search, such as ``select * from device where ...``."""
        return self._perform(api.search_devices(sql))

    def list_device_groups(self, *, name: str | None = None) -> Iterator[models.DeviceGroup]:
        """All device groups, or those of one name."""
        return self._rows(Listing(api.list_groups, name=name))

    def create_device_group(self, *, name: object, description: str = "") -> models.DeviceGroup:
        """Create a static device group.

        :param name: 1 to 64 letters, digits, spaces, Chinese or characters of ``_?'#().,&%@!-``
        :param description: as ``name``; empty: none
        """
        return self._perform(api.create_group(name=name, description=description))

    def iter_group_devices(self, group_id: str) -> Iterator[models.Device]:
        """The devices of one group, without their versions."""
        return self._rows(Listing(api.list_devices_in_group, group_id))

    def change_device_group(self, group_id: str, device_id: str, *, add: bool) -> None:
        """Put a device into a group, or take it out; doing so twice changes nothing more."""
        self._perform(api.change_group(group_id, device_id, add=add))

    def list_ota_packages(
        self, *, package_type: str, product_id: str | None = None, version: str | None = None
    ) -> Iterator[models.OtaPackage]:
        """All upgrade packages of one type: ``firmwarePackage`` or ``softwarePackage``."""
        rows = Listing(
            api.list_packages, package_type=package_type, product_id=product_id, version=version
        )
        return self._rows(rows)

    def get_ota_package(self, package_id: str) -> models.OtaPackage:
        """One upgrade package."""
        return self._perform(api.show_package(package_id))

    def create_ota_package(self, **package: Unpack[api.PackageFields]) -> models.OtaPackage:
        """Register a file in OBS as an upgrade package. A lost answer is not retried.

        :param package: ``app_id``, ``package_type``, ``product_id``, ``version``, ``obs_location``
            and more: see :func:`iotda_provider.api.create_package`
        """
        return self._perform(api.create_package(**package))

    def create_ota_package_once(
        self, **package: Unpack[api.PackageFields]
    ) -> packages.CreatedPackage:
        """Create an upgrade package, unless its product has one of this type and version."""
        return run_blocking(packages.create_package_once(BlockingIO(self), **package))

    def delete_ota_package(self, package_id: str) -> None:
        """Delete an upgrade package; its file stays in OBS."""
        run_blocking(packages.delete_package(BlockingIO(self), package_id))

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
        """Send a signed request to any path of IoTDA, such as ``/v5/iot/{project_id}/devices``.

        ``{project_id}`` is filled in; a path without ``/v5`` is taken below
        ``/v5/iot/{project_id}/``. The body of the response has been read already.

        :param endpoint: the path
        :param data: the query of a GET, otherwise a JSON body (an object, or JSON text)
        :param headers: more headers; those of the authentication can't be set
        :param extra_options: ``{"check_response": False}`` returns an error response instead of
            raising
        :param method: GET unless there is a body, then POST
        :param params: the query
        :param json: the JSON body
        """
        request = shared.read_run_arguments(
            endpoint, data, headers, extra_options, method, params, json, request_kwargs
        )
        return run_blocking(pipeline.respond(self._transport, *request))

    def test_connection(self) -> tuple[bool, str]:
        """Test the connection by one cheap signed call: whether it works, and a line about it."""
        try:
            self._perform(shared.connection_test_call())
            return shared.connection_works(self.settings)
        except shared.TEST_FAILURES as error:
            return shared.connection_fails(error)
