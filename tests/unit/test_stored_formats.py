"""What earlier versions have stored is read, and what no version has written is refused in a line.

The golden files are in ``tests/golden``; tests/integration/*/test_stored_formats.py write them, go
on with them, and fail where the present version writes something of another shape.
"""

from __future__ import annotations

import copy
import importlib
import json
import pkgutil
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
from tests import stored_formats
from tests.stored_formats import differences

from iotda_provider import triggers as triggers_package
from iotda_provider.airflow_support.trigger_events import Event
from iotda_provider.exceptions import IoTDAError
from iotda_provider.guards import rules_from_json, rules_to_json
from iotda_provider.guards.lab.recorded_looks import looks_of, read_audit
from iotda_provider.release.at_rest import RestJob
from iotda_provider.release.confirm_job import ConfirmJob
from iotda_provider.release.create_job import CreateJob
from iotda_provider.release.ledger import Ledger
from iotda_provider.release.manifest import BegunWave, Manifest
from iotda_provider.release.open_question import QuestionJob
from iotda_provider.release.storage import ReleaseFiles
from iotda_provider.release.trial_job import TrialPlan
from iotda_provider.release.watch_wave import WatchJob
from iotda_provider.rollout_guard import GuardPlan, Memory, Outcome
from iotda_provider.rollout_guard.signature import Signature
from iotda_provider.triggers.base import IoTDATrigger
from iotda_provider.ui.xcom_shapes import header_of, live_of

JOBS: dict[str, Any] = {
    "CreateWaveTrigger": CreateJob,
    "ConfirmWaveTrigger": ConfirmJob,
    "WatchWaveTrigger": WatchJob,
    "AtRestTrigger": RestJob,
    "OpenQuestionTrigger": QuestionJob,
}


def stored() -> Iterator[tuple[str, Any]]:
    """Every golden file of every version, by its name."""
    for path in sorted(stored_formats.GOLDEN.glob("*/*.json")):
        yield f"{path.parent.name} {path.stem}", json.loads(path.read_text())


def triggers() -> list[Any]:
    """The classpath and arguments of each."""
    return [
        pytest.param(trigger, id=f"{name} {trigger['classpath'].rpartition('.')[2]}")
        for name, left in stored()
        for trigger in left.get("triggers", ())
    ]


def job_of(name: str) -> Any:
    """The job of a trigger of that class."""
    found = [param.values[0] for param in triggers()]
    return next(one["arguments"]["job"] for one in found if one["classpath"].endswith(f".{name}"))


def xcoms(key: str) -> list[Any]:
    """The XComs of that key, of releases and of guards."""
    found = []
    for _, left in stored():
        for name, value in left.get("xcoms", {}).items():
            if name.rpartition(" ")[2] == key:
                found.append(value)
    assert found, key
    return found


def memories() -> Iterator[Any]:
    """Every memory of a guard, wherever it was kept."""
    for _, left in stored():
        noted = left.get("task_state_store") or ()
        yield from noted if isinstance(noted, list) else ()
        variables = left.get("variables", {}).items()
        yield from (one["value"] for name, one in variables if "guard_memory" in name)
        if left.get("handed_back"):
            yield left["handed_back"]
    yield from xcoms("guard_state")


# --- what was stored is read ----------------------------------------------------------------------


@pytest.mark.parametrize("trigger", triggers())
def test_a_trigger_is_made_of_its_saved_arguments(trigger: Any) -> None:
    module, _, name = trigger["classpath"].rpartition(".")
    made = getattr(importlib.import_module(module), name)(**trigger["arguments"])
    again = json.loads(json.dumps(made.serialize()[1]))
    assert {key: again[key] for key in trigger["arguments"]} == trigger["arguments"]
    assert isinstance(made.batch_task_ids, tuple)
    if name in JOBS:
        job = JOBS[name].from_json(trigger["arguments"]["job"])
        assert job.to_json() == trigger["arguments"]["job"]
    if files := trigger["arguments"].get("files"):
        assert ReleaseFiles.from_json(files).to_json() == files
    if plan := trigger["arguments"].get("plan"):
        assert GuardPlan.from_dict(plan).to_dict() == plan
    if hasattr(made, "audience"):
        assert made.audience() is not None


def test_every_job_of_a_trigger_is_read() -> None:
    saved = [param.values[0] for param in triggers()]
    named = {one["classpath"].rpartition(".")[2] for one in saved if "job" in one["arguments"]}
    assert named == set(JOBS)


def test_events_are_read() -> None:
    for _, left in stored():
        for event in left.get("events", ()):
            read = Event.read(event, event["batch_task_ids"])
            assert read.status == event["status"]


def test_memories_are_read_whole() -> None:
    for memory in memories():
        read = Memory.from_json(memory, tuple(memory["batch_task_ids"])).to_json()
        assert read.keys() == memory.keys() - {"signature"}
        # Failures of ended batch tasks are left out: whoever may edit a note must cause none.
        assert read.pop("ended").keys() == memory["ended"].keys()
        assert read == {key: memory[key] for key in read}


def test_results_and_audits_are_read() -> None:
    results = [one for one in xcoms("return_value") if isinstance(one, dict) and "evidence" in one]
    assert results
    for result in results:
        assert Outcome.from_result(result).to_result() == result
    for audit in xcoms("audit"):
        read = read_audit(json.dumps(audit))
        assert rules_to_json(rules_from_json(read.header["rules"])) == read.header["rules"]
        looks = list(looks_of(read.records))
        assert len(looks) >= len(read.records) > 5


def test_the_page_reads_what_was_left_for_it() -> None:
    for rollout in xcoms("rollout"):
        header = header_of(rollout)
        assert header is not None
        assert header.rules == rollout["rules"]
    for live in xcoms("live"):
        read = live_of(live)
        assert read is not None
        assert read.batch_task_ids == live["batch_task_ids"]


def test_what_is_written_down_of_a_release_is_read() -> None:
    for manifest in xcoms("manifest"):
        assert Manifest.from_json(manifest).to_json() == manifest
    for begun in xcoms("begun_1"):
        wave = BegunWave.from_json(begun)
        assert json.loads(json.dumps(wave.to_json())) == begun
    for trial in xcoms("trial"):
        assert TrialPlan.from_json(trial).to_json() == trial
    for _, left in stored():
        confirmed = left.get("xcoms", {}).get("plan confirmed_1_1")
        if confirmed:
            ledger = Ledger(confirmed["batch_task_id"], left["xcoms"]["plan wave_1"])
            assert ledger.merge(confirmed)
            assert len(ledger.accepted) == confirmed["confirmed"]


# --- how golden files are compared ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda it: it.pop("verdict"), "x.verdict is not written any more"),
        (lambda it: it.update(more=1), "x.more is new"),
        (lambda it: it.update(verdict=None), "x.verdict was text, and is null"),
        (lambda it: it["progress"].update(fail="1"), "x.progress.fail was number, and is text"),
        (lambda it: it["looks"][0].update(at=None), "x.looks[].at: null is new"),
        (lambda it: it["looks"].append(1), "x.looks[]: number is new"),
    ],
)
def test_a_change_of_shape_is_found(change: Callable[[Any], Any], said: str) -> None:
    old: Any = {"verdict": "a", "progress": {"fail": 1}, "looks": [{"at": 1}, {"at": 2.5}]}
    new = copy.deepcopy(old)
    assert not list(differences(old, new, "x"))
    change(new)
    found = list(differences(old, new, "x"))
    assert any(line.startswith(said.partition(":")[0]) for line in found), found
    assert said in found


def test_who_changes_a_format_is_told_what_to_do() -> None:
    if stored_formats.WRITES:
        pytest.skip("golden files are being written")
    left = stored_formats.golden("guard_in_worker")
    left["xcoms"]["return_value"].pop("guard_lost")
    with pytest.raises(AssertionError) as failure:
        stored_formats.check("guard_in_worker", left)
    said = str(failure.value)
    assert "guard_in_worker.xcoms.return_value.guard_lost is not written any more" in said
    assert "keep tests/golden/" in said
    assert "make golden" in said


def test_every_trigger_has_a_golden_file() -> None:
    """Whoever adds a trigger adds a run to tests/integration/release/test_stored_formats.py."""
    for module in pkgutil.iter_modules(triggers_package.__path__):
        importlib.import_module(f"{triggers_package.__name__}.{module.name}")
    known = {param.values[0]["classpath"] for param in triggers()}
    wanted = [IoTDATrigger]
    for kind in wanted:
        wanted += kind.__subclasses__()
    concrete = [kind for kind in wanted if not kind.__abstractmethods__]
    ours = {
        f"{kind.__module__}.{kind.__qualname__}"
        for kind in concrete
        if kind.__module__.startswith("iotda_provider.")
    }
    assert ours == known


# --- what a later version has written -------------------------------------------------------------

#: A reader, and what it reads, of which each field is changed in turn.
READERS: dict[str, tuple[Callable[[Any], Any], Callable[[], Any]]] = {
    "Manifest": (Manifest.from_json, lambda: xcoms("manifest")[0]),
    "BegunWave": (BegunWave.from_json, lambda: xcoms("begun_1")[0]),
    "TrialPlan": (TrialPlan.from_json, lambda: xcoms("trial")[0]),
    "Outcome": (
        Outcome.from_result,
        lambda: stored_formats.golden("guard_in_worker")["xcoms"]["return_value"],
    ),
    "GuardPlan": (
        GuardPlan.from_dict,
        lambda: stored_formats.golden("guard_in_triggerer")["triggers"][0]["arguments"]["plan"],
    ),
    "an audit": (
        lambda audit: list(looks_of(read_audit(json.dumps(audit)).records)),
        lambda: xcoms("audit")[0][1:2],
    ),
    **{job.__name__: (job.from_json, partial(job_of, name)) for name, job in JOBS.items()},
}
WRONG = (None, 7, -1, "text", [], {}, [None], {"version": 99}, True, 1e300)


@pytest.mark.parametrize("name", READERS)
def test_what_another_version_has_changed_is_read_or_refused_in_a_line(name: str) -> None:
    """A field more, a field less, or one of another type: never a KeyError, nor a TypeError."""
    read, stored_value = READERS[name]
    original = stored_value()
    read(copy.deepcopy(original))
    bad = []
    for place in [(), *places(original)]:
        for wrong in ("gone", "more", *WRONG):
            changed = change(original, place, wrong)
            try:
                read(changed)
            except (ValueError, IoTDAError) as error:
                if "\n" in str(error) or not 10 < len(str(error)) < 1500:
                    bad.append((place, wrong, str(error)))
            except Exception as error:  # noqa: BLE001 - the kind that is looked for
                bad.append((place, wrong, repr(error)))
    assert not bad


def places(value: Any, *before: Any) -> Iterator[tuple[Any, ...]]:
    """The way to every field and first member, down to three levels."""
    inner = value.items() if isinstance(value, dict) else list(enumerate(value))[:1]
    for key, one in inner:
        yield (*before, key)
        if isinstance(one, (dict, list)) and len(before) < 2:
            yield from places(one, *before, key)


def change(original: Any, place: tuple[Any, ...], wrong: Any) -> Any:
    """A copy that is wrong in one place."""
    if not place:
        return wrong
    changed = copy.deepcopy(original)
    inner = changed
    for key in place[:-1]:
        inner = inner[key]
    if wrong == "gone":
        del inner[place[-1]]
    elif wrong == "more" and isinstance(inner, dict):
        inner["of_a_later_version"] = 1
    else:
        inner[place[-1]] = wrong
    return changed


@pytest.mark.parametrize("version", [0, 2, 99, "2", None])
def test_a_memory_of_another_version_is_none_and_somebody_is_told(
    version: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """The guard counts anew: it may stop later, never sooner."""
    memory = stored_formats.golden("guard_in_worker")["task_state_store"][0]
    ids = tuple(memory["batch_task_ids"])
    found = Signature(None, {}).recall({**memory, "version": version}, batch_task_ids=ids)
    assert found.looks == 0
    assert not found.state
    assert "format" in caplog.text
    assert "anew" in caplog.text


@pytest.mark.parametrize("field", ["rollout", "live"])
def test_the_page_leaves_out_what_it_does_not_know(field: str) -> None:
    read = header_of if field == "rollout" else live_of
    for original in xcoms(field)[:3]:
        for place in [(), *places(original)]:
            for wrong in ("gone", "more", *WRONG):
                read(change(original, place, wrong))
