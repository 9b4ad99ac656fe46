"""Signing loads only what it needs, and leaves nothing in the user's home."""

from __future__ import annotations

import os
import subprocess
import sys

# What Airflow itself has loaded is no concern of ours.
BEGIN = """
import sys
from airflow.providers.common.compat.sdk import AirflowException
import iotda_provider.masking.airflow_masker
before = set(sys.modules)
"""
SCRIPT = (
    BEGIN
    + """
from iotda_provider.api import Outgoing
from iotda_provider.auth.authenticator import authenticator_for
from iotda_provider.connection.settings import ConnectionSettings

settings = ConnectionSettings(
    conn_id="c", base_url="https://iotda.cn-north-4.myhuaweicloud.com", region="cn-north-4",
    project_id="p", login="AK", password="SK",
)
headers = authenticator_for(settings).authenticate(Outgoing("GET", settings.host, "/v5/iot/p/x"))
assert headers["Authorization"].startswith("SDK-HMAC-SHA256 Access=AK")
needless = {"requests", "huaweicloudsdkcore.auth.credentials", "simplejson"}
print(sorted(needless & (set(sys.modules) - before)))
"""
)


LAZY = (
    BEGIN
    + """
from iotda_provider.auth.authenticator import authenticator_for
from iotda_provider.connection.settings import ConnectionSettings

for auth_type in ("aksk", "token", "agency", "federation"):
    settings = ConnectionSettings(
        conn_id="c", base_url="https://iotda.cn-north-4.myhuaweicloud.com", region="cn-north-4",
        project_id="p", login="AK", password="SK", auth_type=auth_type,
    )
    assert not authenticator_for(settings).is_ready()
print(sorted({"requests", "huaweicloudsdkcore"} & (set(sys.modules) - before)))
"""
)


def test_nothing_slow_is_loaded_before_prepare_which_runs_in_a_thread():
    answer = subprocess.run(
        [sys.executable, "-c", LAZY], capture_output=True, text=True, check=True
    )

    assert answer.stdout.strip().splitlines()[-1] == "[]"


def test_key_of_the_connection_needs_neither_http_nor_the_sdks_credentials(tmp_path):
    answer = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env=os.environ | {"HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )

    assert answer.stdout.strip().splitlines()[-1] == "[]"
    assert not [path for path in tmp_path.iterdir() if path.name == ".huaweicloud"]
