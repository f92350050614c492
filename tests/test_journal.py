"""The journal: whole records survive whatever happens between two of them."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict

from autosparse.errors import StorageError
from autosparse.journal import Journal, read_journal, stored_safely


class Note(BaseModel):
    model_config = ConfigDict(extra="forbid")

    number: int
    text: str = ""


def open_notes(path: Path) -> Journal[Note]:
    return Journal(path, Note)


def test_a_journal_that_does_not_exist_is_empty_and_makes_no_file(tmp_path: Path) -> None:
    path = tmp_path / "notes.jsonl"
    assert open_notes(path).records == ()
    assert not path.exists()


def test_records_come_back_in_order(tmp_path: Path) -> None:
    path = tmp_path / "notes.jsonl"
    journal = open_notes(path)
    notes = tuple(Note(number=n) for n in range(5))
    for note in notes:
        journal.append(note)
    assert journal.records == notes
    assert open_notes(path).records == notes


@given(st.text())
def test_any_text_stays_on_its_line(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.mktemp("journal") / "notes.jsonl"
    journal = open_notes(path)
    for number in range(2):
        journal.append(Note(number=number, text=text))
    assert path.read_bytes().count(b"\n") == 2
    assert open_notes(path).records == journal.records


def test_a_kill_at_any_byte_of_the_last_record_costs_only_that_one(tmp_path: Path) -> None:
    path = tmp_path / "notes.jsonl"
    journal = open_notes(path)
    for number in range(3):
        journal.append(Note(number=number, text="some text"))
    whole = path.read_bytes()
    start = whole[:-1].rfind(b"\n") + 1
    for end in range(start, len(whole)):
        path.write_bytes(whole[:end])
        reopened = open_notes(path)
        assert [note.number for note in reopened.records] == [0, 1]
        reopened.append(Note(number=7))
        assert [note.number for note in open_notes(path).records] == [0, 1, 7]


@pytest.mark.parametrize(
    "line",
    [b"{}", b"", b"not json", b'{"number": 1, "more": 2}', b'{"number": "x"}', b"\xff\xfe", b"[1]"],
)
def test_a_damaged_line_is_named_and_nothing_is_changed(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "notes.jsonl"
    content = b'{"number": 1}\n' + line + b'\n{"number": 3}\n'
    path.write_bytes(content)
    with pytest.raises(StorageError, match=r"line 2 of .*notes\.jsonl is damaged") as caught:
        open_notes(path)
    assert "output directory" in caught.value.hint
    assert path.read_bytes() == content


# The largest size of a file stands in for a full disk: both stop a write in the middle.
_FULL_DISK = """
import resource, sys
from pathlib import Path
from tests.test_journal import Note, open_notes
from autosparse.errors import StorageError

path, size = Path(sys.argv[1]), int(sys.argv[2])
journal = open_notes(path)
journal.append(Note(number=1))
resource.setrlimit(resource.RLIMIT_FSIZE, (size // 2, resource.RLIM_INFINITY))
try:
    journal.append(Note(number=2, text="x" * size))
except StorageError:
    assert len(journal.records) == 1
else:
    sys.exit("the record was larger than the disk")
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
journal.append(Note(number=3))
"""


@pytest.mark.parametrize("size", [1000, 100_000], ids=["in one piece", "in several"])
def test_what_a_full_disk_cuts_off_is_taken_back(tmp_path: Path, size: int) -> None:
    path = tmp_path / "notes.jsonl"
    arguments = [sys.executable, "-c", _FULL_DISK, str(path), str(size)]
    subprocess.run(arguments, check=True, timeout=60)
    assert [note.number for note in open_notes(path).records] == [1, 3]


def test_a_full_disk_is_told_with_what_to_do() -> None:
    with (
        pytest.raises(StorageError, match="the disk is full") as caught,
        stored_safely(Path("notes")),
    ):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert "--resume" in caught.value.hint


def test_other_errors_of_the_disk_name_the_file() -> None:
    with (
        pytest.raises(StorageError, match="cannot write notes: Read-only file system"),
        stored_safely(Path("notes")),
    ):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))


def test_what_is_no_error_of_the_disk_goes_through() -> None:
    with pytest.raises(KeyError), stored_safely(Path("notes")):
        raise KeyError("other")


def test_a_journal_in_a_directory_that_is_gone_is_a_storage_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="No such file or directory"):
        open_notes(tmp_path / "gone" / "notes.jsonl").append(Note(number=1))


def test_what_another_process_writes_is_read_without_touching_it(tmp_path: Path) -> None:
    path = tmp_path / "notes.jsonl"
    assert read_journal(path, Note) == []
    assert not path.exists()
    journal = open_notes(path)
    journal.append(Note(number=1))
    torn = path.read_bytes() + b'{"number": 2'
    path.write_bytes(torn)
    assert read_journal(path, Note) == [Note(number=1)]
    assert path.read_bytes() == torn
    path.write_bytes(b"no note\n")
    with pytest.raises(StorageError, match="line 1"):
        read_journal(path, Note)
