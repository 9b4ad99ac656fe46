"""The dashboard for Grafana is one that it can import: Grafana's JSON model, as far as we use it.

https://grafana.com/docs/grafana/latest/dashboards/build-dashboards/view-dashboard-json-model/
That its queries name what guards emit is shown in tests/integration/rollout_guard/test_metrics.py.
"""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]
DASHBOARD: dict[str, Any] = json.loads(
    (ROOT / "docs" / "grafana-dashboard.json").read_text(encoding="utf-8")
)
PANELS: list[dict[str, Any]] = DASHBOARD["panels"]
VARIABLES: dict[str, dict[str, Any]] = {
    variable["name"]: variable for variable in DASHBOARD["templating"]["list"]
}
PROMETHEUS = {"type": "prometheus", "uid": "${datasource}"}


def test_it_is_a_dashboard_of_its_own() -> None:
    assert DASHBOARD["title"]
    assert re.fullmatch(r"[\w-]{1,40}", DASHBOARD["uid"])
    assert "id" not in DASHBOARD, "an id belongs to one Grafana"
    # From this version on, a panel and a variable name their data source by an object.
    assert DASHBOARD["schemaVersion"] >= 36


def test_the_reader_chooses_the_data_source_when_it_is_imported() -> None:
    assert VARIABLES["datasource"]["type"] == "datasource"
    assert VARIABLES["datasource"]["query"] == "prometheus"
    for variable in VARIABLES.values():
        if variable["type"] == "query":
            assert variable["datasource"] == PROMETHEUS
            assert variable["query"]["query"].startswith("label_values(")
    for panel in PANELS:
        assert panel["datasource"] == PROMETHEUS


def test_every_variable_is_used_and_every_used_one_is_there() -> None:
    used = set(re.findall(r"\$\{?([a-z]\w*)", json.dumps(PANELS)))
    assert used == set(VARIABLES)


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: str(panel["title"]))
def test_a_panel_is_whole(panel: dict[str, Any]) -> None:
    assert panel["type"] == "timeseries"
    assert panel["title"]
    assert panel["description"]
    place = panel["gridPos"]
    assert place["x"] >= 0
    assert place["x"] + place["w"] <= 24, "a dashboard is 24 columns wide"
    targets = panel["targets"]
    assert len({target["refId"] for target in targets}) == len(targets) > 0
    for target in targets:
        assert target["expr"].count("(") == target["expr"].count(")")
        assert target["expr"].count("{") == target["expr"].count("}")
        assert target["legendFormat"]
        # A label in the legend is one that the query keeps.
        kept = re.search(r"by \(([^)]*)\)", target["expr"])
        assert kept
        labels = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
        assert labels <= set(kept[1].split(", "))


def test_no_panel_covers_another() -> None:
    assert len({panel["id"] for panel in PANELS}) == len(PANELS)
    for one, other in itertools.combinations([panel["gridPos"] for panel in PANELS], 2):
        assert (
            one["x"] + one["w"] <= other["x"]
            or other["x"] + other["w"] <= one["x"]
            or one["y"] + one["h"] <= other["y"]
            or other["y"] + other["h"] <= one["y"]
        )
