"""Files at any URL of Airflow's object storage."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import fsspec
import pytest

from iotda_provider.exceptions import IoTDATransportError
from iotda_provider.task_io.stored_files import read_whole, write_whole


def test_what_was_written_is_read_and_nothing_is_none(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b"
    assert read_whole(str(path)) is None
    write_whole(str(path), b"all of it")
    write_whole(f"file://{path}", b"and again")
    assert read_whole(str(path)) == b"and again"
    assert [file.name for file in path.parent.iterdir()] == ["b"]


def test_a_storage_that_is_down_is_not_taken_for_a_file_that_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def down(*_: Any, **__: Any) -> Any:
        raise OSError("no route to host")

    monkeypatch.setattr(type(fsspec.filesystem("file")), "_open", down)
    with pytest.raises(OSError, match="no route"):
        read_whole(str(tmp_path / "a"))


def test_what_can_not_be_written_is_said_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "file" / "below", tmp_path / ("x" * 300), "nope://bucket/file"):
        with pytest.raises(IoTDATransportError) as error:
            write_whole(str(path), b"all of it")
        said = str(error.value)
        assert said.startswith("manifest_path: the file ")
        assert said.endswith("It must lie where every worker and triggerer can read and write.")
        assert "\n" not in said
        assert len(said) < 1500
