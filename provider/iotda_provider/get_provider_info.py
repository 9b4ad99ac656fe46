"""The provider's metadata. Airflow reads it without importing hooks, operators or triggers."""

from __future__ import annotations

from typing import Any

from iotda_provider import __version__
from iotda_provider.connection.fields import UI_FIELD_BEHAVIOUR, conn_fields

INTEGRATION = "Huawei Cloud IoTDA"
_DOCUMENTATION = "https://support.huaweicloud.com/intl/en-us/iothub/index.html"


def get_provider_info() -> dict[str, Any]:
    """The provider's metadata, in the shape of Airflow's ``provider_info.schema.json``."""
    return {
        "package-name": "airflow-provider-iotda",
        "name": INTEGRATION,
        "description": "Guarded firmware rollouts and batch tasks on Huawei Cloud IoTDA.",
        "versions": [__version__],
        "integrations": [
            {
                "integration-name": INTEGRATION,
                "external-doc-url": _DOCUMENTATION,
                "tags": ["service"],
            }
        ],
        "hooks": _modules("iotda_provider.hooks.iotda"),
        "operators": _modules(
            "iotda_provider.operators.announce",
            "iotda_provider.operators.batch_task",
            "iotda_provider.operators.branch",
            "iotda_provider.operators.guard_runs",
            "iotda_provider.operators.release.approval",
            "iotda_provider.operators.release.at_rest",
            "iotda_provider.operators.release.check",
            "iotda_provider.operators.release.confirm",
            "iotda_provider.operators.release.create",
            "iotda_provider.operators.release.find_way_back",
            "iotda_provider.operators.release.gate",
            "iotda_provider.operators.release.outcome",
            "iotda_provider.operators.release.plan",
            "iotda_provider.operators.release.preview",
            "iotda_provider.operators.release.quarantine",
            "iotda_provider.operators.release.reconcile",
            "iotda_provider.operators.release.report",
            "iotda_provider.operators.release.stop",
            "iotda_provider.operators.release.try_again",
            "iotda_provider.operators.release.watch",
        ),
        "sensors": _modules(
            "iotda_provider.sensors.batch_task",
            "iotda_provider.sensors.rollout_guard",
        ),
        "triggers": _modules(
            "iotda_provider.triggers.batch_task",
            "iotda_provider.triggers.open_question",
            "iotda_provider.triggers.release",
            "iotda_provider.triggers.rollout_guard",
        ),
        "config": {
            "iotda": {
                "description": "Settings of the IoTDA provider for this Airflow.",
                "options": {
                    "installation_id": {
                        "description": "A name for this Airflow installation. No other one that "
                        "uses the same IoTDA instance may have it. It is part of the stamp in "
                        "the names of the batch tasks that this Airflow creates, so that two "
                        "installations with the same DAG and run ids never use each other's batch "
                        "tasks. If it is empty, the provider creates a name once and keeps it in "
                        "the Airflow Variable iotda_provider.installation_id. For a copy of an "
                        "Airflow database, set it before the copy starts. Change it only while no "
                        "release is under way.",
                        "version_added": __version__,
                        "type": "string",
                        "example": "production-eu",
                        "default": "",
                    },
                    "metrics_batch_task_id": {
                        "description": "Tag the metrics of a guard with its batch task's id too. "
                        "Each rollout then makes time series of its own, which your monitoring "
                        "keeps for ever.",
                        "version_added": __version__,
                        "type": "boolean",
                        "example": None,
                        "default": "False",
                    },
                    "language": {
                        "description": "The language of the shipped DAGs' forms and of the "
                        "questions that a release asks people: en or zh-CN. Airflow shows the "
                        "same text to everybody, so this is for the whole installation. Set it "
                        "where DAG processors and workers run.",
                        "version_added": __version__,
                        "type": "string",
                        "example": "zh-CN",
                        "default": "en",
                    },
                },
            },
        },
        # Airflow 2 stores where the class is defined; the other path is the public one.
        "extra-links": [
            "iotda_provider.links.RolloutGuardLink",
            "iotda_provider.links.rollout_guard.RolloutGuardLink",
        ],
        "connection-types": [
            {
                "connection-type": "iotda",
                "hook-name": INTEGRATION,
                "hook-class-name": "iotda_provider.hooks.iotda.IoTDAHook",
                "ui-field-behaviour": UI_FIELD_BEHAVIOUR,
                "conn-fields": conn_fields(),
            }
        ],
    }


def _modules(*names: str) -> list[dict[str, Any]]:
    return [{"integration-name": INTEGRATION, "python-modules": list(names)}]
