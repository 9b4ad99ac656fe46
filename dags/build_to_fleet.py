"""From a build in OBS to the devices: register the package, then release it in waves.

A build pipeline uploads the file to OBS and starts this DAG, through Airflow's API or from a shell:

    airflow dags trigger build_to_fleet --conf \
        '{"product_id": "64f0c1d2e3a4b5c6d7e8f900", "version": "2.0.0", \
          "object_key": "sensor/2.0.0.bin", "group_ids": ["e495cf17-ff79-4294-8f64-4d367919d665"]}'

The package is registered once, however often the DAG is started for a version. If the version is
registered with another file, the run fails and names both. The release is a run of its own of
`firmware_release` (`dags/firmware_release.py`), which tells people and announces the version.
"""

from __future__ import annotations

from datetime import timedelta

import pendulum
from airflow.providers.common.compat.sdk import dag
from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator

from iotda_provider.airflow_support.words import field
from iotda_provider.operators.batch_task import CreateOtaPackageOperator

CONNECTION = "iotda_default"
APP_ID = "0123456789abcdef0123456789abcdef"  # your resource space; IoTDA's console shows its ID
REGION = "cn-north-4"  # of the bucket
BUCKET = "firmware-builds"  # the agency iotda_admin_trust must have the right to read it


@dag(
    dag_id="build_to_fleet",
    description="Register a build in OBS as an upgrade package, and release it in waves",
    schedule=None,
    start_date=pendulum.datetime(2026, 1, 1, tz="UTC"),
    catchup=False,
    # Tasks survive five minutes without the platform, the broker or the workers.
    default_args={"retries": 10, "retry_delay": timedelta(seconds=30)},
    tags=["iotda", "release"],
    doc_md=__doc__,
    params={
        "product_id": field(
            type="string",
            pattern="^[A-Za-z0-9_-]{1,36}$",
            title="Product",
            description="ID of the product whose devices the build is for.",
        ),
        "version": field(
            type="string",
            pattern="^[A-Za-z0-9_.-]{1,256}$",
            title="Version",
            description="Exactly the version that the devices report once they run the build.",
        ),
        "kind": field(
            "firmwarePackage",
            type="string",
            enum=["firmwarePackage", "softwarePackage"],
            title="Firmware or software",
        ),
        "object_key": field(
            type="string",
            minLength=1,
            maxLength=1024,
            title="Object in OBS",
            description="The build's path in the bucket, such as sensor/2.0.0.bin.",
        ),
        "sha256": field(
            None,
            type=["null", "string"],
            pattern="^[A-Fa-f0-9]{64}$",
            title="SHA-256",
            description="Of the file; devices get it with the package. Empty: none.",
        ),
        "source_versions": field(
            None,
            type=["null", "array"],
            # Airflow 3 keeps blank lines and spaces.
            items={"type": "string", "pattern": r"^\s*([A-Za-z0-9_.-]{1,256}\s*)?$"},
            title="From versions",
            description="Of a differential build: the versions that it can be installed on, at "
            "most 20, one a line. Empty: on any.",
        ),
        "group_ids": field(
            type="array",
            items={"type": "string", "pattern": r"^\s*([a-fA-F0-9-]{1,36}\s*)?$"},
            minItems=1,
            title="Device groups",
            description="IDs of the device groups to release to, one a line.",
        ),
        "release": field(
            {},
            type="object",
            title="Fields of the release",
            description="More fields of the form of firmware_release, such as "
            '{"waves": "1%, 100%"}. Left out: their defaults.',
        ),
    },
)
def build_to_fleet() -> None:
    # [package]
    register = CreateOtaPackageOperator(
        task_id="register",
        app_id=APP_ID,
        package_type="{{ params.kind }}",
        product_id="{{ params.product_id }}",
        version="{{ params.version }}",
        obs_location={
            "region_name": REGION,
            "bucket_name": BUCKET,
            "object_key": "{{ params.object_key }}",
            "sign": "{{ params.sha256 or '' }}",
        },
        support_source_versions="{{ ((params.source_versions or []) | map('trim') | select | list "
        "or none) | tojson }}",
        iotda_conn_id=CONNECTION,
    )
    # [release]
    release = TriggerDagRunOperator(
        task_id="release",
        trigger_dag_id="firmware_release",
        # A second try of this task starts no second release.
        trigger_run_id="from_build__{{ run_id }}",
        skip_when_already_exists=True,
        deferrable=True,  # it holds no worker, also if you let it wait (wait_for_completion)
        conf="{{ dict(params.release, "
        "group_ids=params.group_ids | map('trim') | select | list, "
        "package_id=ti.xcom_pull('register', key='package_id')) | tojson }}",
    )
    # [end of release]
    register >> release


build_to_fleet()
