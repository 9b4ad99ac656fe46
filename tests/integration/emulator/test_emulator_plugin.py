"""The pytest plugin as users' own projects have it: by installing the provider and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

import iotda_provider
from iotda_provider.emulator import Emulator

pytest_plugins = ("pytester",)

PLUGIN = "iotda_provider.emulator.pytest_plugin"


@pytest.fixture
def run(
    pytester: pytest.Pytester, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Run:
    installed = request.config.pluginmanager.has_plugin("iotda_emulator")
    monkeypatch.setenv("PYTHONPATH", str(Path(iotda_provider.__file__).parents[1]))
    pytester.makeini("[pytest]")  # a project of its own, below this one's folder though it is
    return Run(pytester, [] if installed else ["-p", PLUGIN])


class Run:
    """Runs a project's tests in a process of their own."""

    def __init__(self, pytester: pytest.Pytester, options: list[str]) -> None:
        self._pytester = pytester
        self._options = options

    def __call__(self, source: str) -> pytest.RunResult:
        self._pytester.makepyfile(source)
        return self._pytester.runpytest_subprocess(*self._options, "--strict-markers")


def test_an_emulator_for_who_asks_and_a_connection_in_force(run: Run) -> None:
    """One process shows all of it; its first test runs before anybody asks for an emulator."""
    result = run(
        """
        import json, os, sys, urllib.request
        import pytest

        def test_loading_the_plugin_imports_no_web_framework():
            assert not {"fastapi", "uvicorn", "starlette", "sqlite3"} & set(sys.modules)

        @pytest.mark.iotda_emulator(scenario={"devices": 5, "batch_tasks": [{}]}, speed=0, seed=3)
        def test_marked(iotda_emulator, iotda_connection):
            assert iotda_emulator.instance.settings.seed == 3
            in_force = json.loads(os.environ["AIRFLOW_CONN_IOTDA_DEFAULT"])
            assert in_force == iotda_connection
            assert in_force["conn_type"] == "iotda"
            assert in_force["host"] == iotda_emulator.url
            assert in_force["extra"]["project_id"]

        @pytest.mark.iotda_emulator({"devices": 7})
        def test_marked_without_the_name_of_the_scenario(iotda_emulator):
            assert iotda_emulator.instance.scenario.devices == 7

        def test_gone_afterwards():
            assert "AIRFLOW_CONN_IOTDA_DEFAULT" not in os.environ

        def test_several(iotda_emulator_factory):
            one, two = iotda_emulator_factory(), iotda_emulator_factory({"devices": 2}, speed=0)
            assert one.url != two.url
            for emulator in (one, two):
                with pytest.raises(urllib.error.HTTPError) as refusal:
                    urllib.request.urlopen(emulator.url)
                assert refusal.value.code == 404
                refusal.value.close()

        @pytest.mark.iotda_emulator(scenario={"devises": 5})
        def test_a_wrong_scenario_fails_the_test_in_one_line(iotda_emulator):
            pass
        """
    )
    result.assert_outcomes(passed=5, errors=1)
    result.stdout.fnmatch_lines(["*ScenarioError: devises is not a known field*"])


def test_airflow_reads_the_connection(iotda_emulator: Emulator, iotda_connection: object) -> None:
    from airflow.providers.common.compat.sdk import BaseHook

    connection = BaseHook.get_connection("iotda_default")
    assert connection.host == iotda_emulator.url
    assert connection.extra_dejson["region"] == "cn-north-4"
