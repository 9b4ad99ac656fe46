"""The ids of a release's devices: from a list, from text of one, or from a file."""

from __future__ import annotations

import hashlib
import json
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import fsspec
import pytest

from iotda_provider.exceptions import IoTDAConfigError, IoTDAError, IoTDATransportError
from iotda_provider.release import device_ids
from iotda_provider.release.device_ids import (
    MOST_IN_XCOM,
    hand_over,
    iter_ids,
    read_devices,
    write_ids,
)

IDS = ["5c8f_node-1", "5c8f_node-2", "861234567890123", "a" * 128]
MANY = [f"5c8fb9d0e2f14a5b9c0d1e2f_{n:07}" for n in range(MOST_IN_XCOM + 1)]


def in_file(tmp_path: Path, data: bytes | str) -> str:
    path = tmp_path / "devices.txt"
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return str(path)


def refused(value: Any, name: str = "devices") -> str:
    with pytest.raises(IoTDAConfigError) as raised:
        read_devices(value, name)
    said = str(raised.value)
    assert said.startswith(name)
    assert "\n" not in said
    assert len(said) < 1500
    return said


@pytest.mark.parametrize(
    "value",
    [IDS, tuple(IDS), iter(IDS), json.dumps(IDS), str(IDS), f"\n  {json.dumps(IDS)} ", IDS + IDS],
    ids=["list", "tuple", "generator", "JSON", "as Jinja renders it", "spaces", "repeated"],
)
def test_a_list_in_every_form_is_read_once_and_in_order(value: Any) -> None:
    assert read_devices(value) == IDS


def test_a_list_of_30000_may_be_text_as_jinja_renders_it() -> None:
    assert read_devices(str(MANY)) == read_devices(json.dumps(MANY)) == MANY


def test_an_empty_list_is_a_list_and_nothing_is_none() -> None:
    assert read_devices([]) == read_devices("[]") == []
    for nothing in ("", "  ", "None", "null", None):
        assert "None" in refused(nothing) or "rendered to nothing" in refused(nothing)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ([1, 2], "devices[0] is not a device id"),
        ([IDS], "devices[0] is not a device id"),
        (["ok", "two words"], "devices[1] is not a device id"),
        (["a" * 129], "devices[0] is not a device id"),
        ({"a": 1}, "must be a list of device ids"),
        (b"[]", "must be a list of device ids"),
        (5, "the int 5"),
        ('["a", ', "is no list such as"),
        ("[" * 100_000, "is no list such as"),
        ("('a', 'b')", "must be a list of device ids"),
        ('{"url": "x"}', "must be a list of device ids"),
        ("LazySelectSequence([5 items])", "| list"),
        ("x" * 5000, "at most 1024 characters"),
        ("a\nb", "without line breaks"),
        ("a\0b", "without line breaks"),
        ("nowhere://bucket/devices.txt", "nowhere"),
    ],
)
def test_what_names_no_devices_is_refused_in_one_line(value: Any, said: str) -> None:
    assert said in refused(value)


@pytest.mark.parametrize(
    "text",
    [
        "\n".join(IDS),
        "\n".join(IDS) + "\n",
        "\r\n".join(IDS) + "\r\n",
        "\r".join(IDS),
        "\ufeff" + "\n".join(IDS),
        "\n\n" + "  \n\t".join(IDS) + "\n \n\n",
        "\n".join(IDS + IDS),
    ],
    ids=["no end", "end", "Windows", "Macintosh", "byte order mark", "blank lines", "repeated"],
)
def test_a_file_has_one_id_a_line(tmp_path: Path, text: str) -> None:
    path = in_file(tmp_path, text)
    assert read_devices(path) == read_devices(f"file://{path}") == list(iter_ids(path)) == IDS


def test_a_file_without_ids_names_no_device(tmp_path: Path) -> None:
    assert read_devices(in_file(tmp_path, "")) == read_devices(in_file(tmp_path, "\n \n")) == []


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ("device_id,name\na,b\n", "line 1"),
        ("ok\nnode-1,x\n", "line 2"),
        ('"quoted"\n', "'\"'"),
        ("ok\n" + "a" * 129, "129 characters"),
        ("ok\n" + "a" * 10_000_000, "line 2"),
        (b"\0" * 10_000_000, "'\\x00'"),
        ("\n".join(IDS).encode("utf-16"), "UTF-8"),
        ("\n".join(IDS).encode("utf-16-le"), "'\\x00'"),
        ("ger\u00e4t-1\n".encode("latin-1"), "UTF-8"),
        ("ger\u00e4t-1\n", "'\\xe4'"),
        ("node-1\u200b\n", "'\\u200b'"),
        (b"\x1f\x8b\x08\x00\xff", "UTF-8"),
        ('["a", "b"]\n', "'['"),
    ],
)
def test_a_line_that_is_no_id_is_named_by_its_number(
    tmp_path: Path, data: bytes | str, said: str
) -> None:
    assert said in refused(in_file(tmp_path, data))


def test_the_text_of_a_wrong_file_is_not_shown(tmp_path: Path) -> None:
    assert "hunter" not in refused(in_file(tmp_path, "sql_alchemy_conn = db://admin:hunter2@db\n"))


def test_a_file_that_is_not_there_or_no_file_is_refused(tmp_path: Path) -> None:
    assert "is not there" in refused(str(tmp_path / "nothing.txt"))
    assert "is not there" in refused(str(tmp_path))
    assert "is not there" in refused("/dev/zero")
    assert "begin with [" in refused("device-1")


def test_a_storage_that_is_down_is_another_error(monkeypatch: pytest.MonkeyPatch) -> None:
    filesystem: Any = fsspec.filesystem("file")

    def down(*_: Any, **__: Any) -> Any:
        raise OSError("no route to host")

    monkeypatch.setattr(type(filesystem), "info", down)
    with pytest.raises(IoTDATransportError, match="devices"):
        read_devices("/somewhere/devices.txt")


def test_more_than_a_million_are_refused_before_all_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device_ids, "MOST_DEVICES", 1000)
    monkeypatch.setattr(device_ids, "_MOST_READ", 2000)
    path = in_file(tmp_path, "".join(f"node-{n}\n" for n in range(1001)))
    for value in (path, (f"node-{n}" for n in iter(int, 1)), [f"node-{n}" for n in range(1001)]):
        said = refused(value)
        assert "1000 devices" in said
    assert "1000 devices" in refused(in_file(tmp_path, "same\n" * 2001))
    assert "2000 lines" in refused(in_file(tmp_path, "\n" * 2001))


@pytest.mark.parametrize("ids", [IDS, [], MANY], ids=["few", "none", "many"])
def test_what_is_written_is_read_by_its_reference(tmp_path: Path, ids: list[str]) -> None:
    path = tmp_path / "new" / "release.json.devices"
    reference = write_ids(str(path), ids)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert reference == f"{path}#{len(ids)}-{digest[:16]}"  # as release-in-waves.md says
    assert read_devices(reference) == ids
    assert read_devices(str(path)) == ids
    assert [file.name for file in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text + "one-more\n",
        lambda text: text[: len(text) // 2],
        lambda text: text.replace("node-1", "node-9"),
        lambda text: "",
        lambda text: "\n".join(reversed(text.split("\n"))),
        lambda text: text + text,
    ],
    ids=["longer", "cut off", "another id", "empty", "another order", "twice"],
)
def test_a_file_that_was_changed_since_is_noticed(tmp_path: Path, change: Any) -> None:
    path = tmp_path / "devices"
    reference = write_ids(str(path), IDS)
    path.write_text(change(path.read_text()))
    assert "is not the one that was written with 4 device(s)" in refused(reference)


def test_a_write_that_fails_leaves_the_file_before(tmp_path: Path) -> None:
    path = tmp_path / "devices"
    reference = write_ids(str(path), IDS)
    with pytest.raises(IoTDATransportError, match="can't be written now"):  # but for one half
        write_ids(str(path), [*(f"other-{n}" for n in range(20_000)), "\ud800"])
    assert read_devices(reference) == IDS
    assert list(tmp_path.iterdir()) == [path]


def test_object_storages_hold_files_too() -> None:
    try:
        from airflow.sdk.io import attach
    except ImportError:  # Airflow 2
        from airflow.io.store import attach
    attach("memory", fs=fsspec.filesystem("memory"))
    reference = write_ids("memory://bucket/release.json.devices", IDS)
    assert read_devices(reference) == IDS
    with pytest.raises(IoTDAConfigError, match="is not there"):
        read_devices("memory://bucket/other")


def test_xcoms_hold_the_ids_up_to_30000_without_a_path(tmp_path: Path) -> None:
    assert hand_over(MANY[:MOST_IN_XCOM], None, "devices") == MANY[:MOST_IN_XCOM]
    with pytest.raises(IoTDAConfigError, match=r"30001 device.*set manifest_path") as raised:
        hand_over(MANY, None, "devices")
    assert len(str(raised.value)) < 1500
    for ids in (IDS, MANY):
        handed = hand_over(ids, str(tmp_path / "release.json"), "devices")
        assert isinstance(handed, str)
        assert len(handed) < 1500
        assert read_devices(handed) == ids


def test_a_device_takes_at_most_50_bytes_beside_its_id(tmp_path: Path) -> None:
    few, many = 3_000, 22_000  # at which a table of hashes has just doubled
    reference = {
        n: write_ids(str(tmp_path / str(n)), [f"5c8fb9d0e2f14a5b_{i:07}" for i in range(n)])
        for n in (few, many)
    }

    def peak(value: str) -> int:
        tracemalloc.start()
        try:
            held = read_devices(value)
            return tracemalloc.get_traced_memory()[1] - sum(map(sys.getsizeof, held))
        finally:
            tracemalloc.stop()

    for shape in (lambda n: reference[n], lambda n: reference[n].split("#")[0]):
        assert (peak(shape(many)) - peak(shape(few))) / (many - few) <= 50


def test_reading_in_blocks_keeps_nothing(tmp_path: Path) -> None:
    reference = write_ids(str(tmp_path / "devices"), MANY)
    tracemalloc.start()
    try:
        assert sum(1 for _ in iter_ids(reference)) == len(MANY)
        assert tracemalloc.get_traced_memory()[1] < 10 * len(MANY)
    finally:
        tracemalloc.stop()


def test_every_error_is_one_of_ours(tmp_path: Path) -> None:
    for odd in (float("nan"), True, object(), {1, "a"}, "\ud800", [None], 10**5000, "http://["):
        with pytest.raises(IoTDAError):
            read_devices(odd)
