"""Whether there is a way back from a release, looked at before it begins."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_1_PLUS

from iotda_provider.airflow_support.dags import MISSING, PAUSED, UNKNOWN, find_dag
from iotda_provider.exceptions import IoTDAConfigError, IoTDANotFoundError
from iotda_provider.models import OtaPackage
from iotda_provider.models.log import Log
from iotda_provider.release.way_back import ASK, NEVER_BACK, ROLLBACKS, why_not_back
from iotda_provider.task_io.dag_parameters import one_of
from iotda_provider.task_io.parameters import none_if_blank
from iotda_provider.waiting.outage import is_gone

if TYPE_CHECKING:
    from iotda_provider.hooks.iotda import IoTDAHook

#: The DAG that gives devices the old package back.
WAY_BACK_DAG = "roll_back_release"
_NAME = "rollback_package_id"


def fault_of_way_back(hook: IoTDAHook, package: OtaPackage, rollback: Any, package_id: Any) -> str:
    """Why devices could not get the old package back, as a sentence; empty: they could.

    :param package: the package of the release
    :param rollback: when devices are to get the old package back
    :param package_id: the old package
    """
    from iotda_provider.api import check_package_id

    try:
        how = one_of(rollback, "rollback", ROLLBACKS)
        if how == NEVER_BACK:
            return ""
    except ValueError as error:
        return f"{error}."
    if how == ASK and not AIRFLOW_V_3_1_PLUS:
        return f"rollback: {rollback!r} needs Airflow 3.1 or later, which can ask a person."
    if none_if_blank(package_id) is None:
        return f"rollback: {rollback!r} needs {_NAME}: the old package."
    try:
        back = hook.get_ota_package(check_package_id(package_id, _NAME))
    except (IoTDANotFoundError, IoTDAConfigError) as error:
        if isinstance(error, IoTDANotFoundError) and not is_gone(error):
            raise
        return f"{_NAME}: {str(error).rstrip('.')}."
    why = why_not_back(package, back)
    return f"{_NAME}: package {back.package_id} is no way back: {why}." if why else ""


def fault_of_its_dag(ti: Any, rollback: str, dag_id: str, log: Log) -> str:
    """Why no run of the way back's DAG could be started; empty: it could, or that is unknown.

    :param ti: the running task instance, which asks Airflow
    :param rollback: when devices are to get the old package back
    """
    if rollback == NEVER_BACK:
        return ""
    state = find_dag(ti, dag_id)
    if state == MISSING:
        return (
            f"rollback: {rollback!r} needs the DAG {dag_id}, which Airflow does not know: copy "
            f"dags/{dag_id}.py into the DAGs folder."
        )
    if state == PAUSED:
        log.warning(
            "The DAG %s is PAUSED: if this release is stopped, nobody is asked, and no device gets "
            "the old package back, until somebody unpauses it.",
            dag_id,
        )
    elif state == UNKNOWN:
        log.warning(
            "Airflow does not say whether there is a DAG %s, which rollback %r needs: see that "
            "it is in the DAGs folder.",
            dag_id,
            rollback,
        )
    return ""
