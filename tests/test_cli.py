"""What the command line says to bad input that no command expects: a message and status 2, never a traceback."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from method_cards import record
from method_cards.errors import InputError
from method_cards.project import Project
from method_cards.render import build, notebook
from method_cards.render.figures import Drawer
from tests.helpers import command, project, write_project
from tests.render import project as projects


def test_a_name_that_no_file_can_have_is_told(tmp_path: Path) -> None:
    """A name that is longer than the system takes is bad input."""
    done = command("list", "--project", "x" * 5000, cwd=tmp_path)
    assert done.returncode == 2
    assert "File name too long" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere all names of files are Unicode")
def test_a_name_that_is_no_unicode_is_written_out(tmp_path: Path) -> None:
    """A folder whose name no encoding can say is used, and its name is shown with escapes."""
    done = command("init", os.fsdecode(b"na\xffme"), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "na\\udcffme" in done.stdout


@pytest.mark.parametrize("arguments", [["--sarif", "-"], ["--format", "json"]])
def test_programs_get_utf_8(arguments: list[str], tmp_path: Path) -> None:
    """What a program reads from standard output is UTF-8, whatever the terminal's encoding is."""
    projects.write(tmp_path)
    done = command("report", "digits-guided", *arguments, cwd=tmp_path, env={"PYTHONIOENCODING": "ascii"})
    assert done.returncode == 0, done.stderr
    json.loads(done.stdout)
    assert not done.stdout.isascii()


def test_a_site_goes_into_a_folder(tmp_path: Path) -> None:
    """A file in the place of the folder, and a page in another encoding that asks for the board, are told with their path."""
    loaded = project(tmp_path)
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(InputError, match=r"file.*: cannot be written: "):
        build.write_markdown(loaded, tmp_path / "file")
    (tmp_path / "pages").mkdir()
    (tmp_path / "pages" / "own.md").write_bytes("<!-- method-cards: board --> \xe9".encode("latin-1"))
    with pytest.raises(InputError, match=r"own\.md: asks for the board and is not UTF-8"):
        build.write_markdown(loaded, tmp_path / "pages")


def test_a_notebook_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When writing fails half-way, the notebook that was there stays; it takes the place of a link to itself."""
    loaded = project(tmp_path)
    path = notebook.write(loaded, "toy")
    before = path.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(notebook, "to_json", lambda _: "half \ud800")
        with pytest.raises(UnicodeEncodeError):
            notebook.write(loaded, "toy")
    assert path.read_bytes() == before
    (tmp_path / "loop.ipynb").symlink_to(tmp_path / "loop.ipynb")
    assert notebook.write(loaded, "toy", tmp_path / "loop.ipynb").is_file()


def test_drawings_need_no_cache(tmp_path: Path) -> None:
    """A cache that cannot be written, or that holds something else, costs time and nothing else."""
    (tmp_path / "cache").write_text("", encoding="utf-8")
    drawer = Drawer(tmp_path / "cache")
    assert drawer._kept("a.svg", lambda: "<svg/>") == "<svg/>"
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "a.svg").write_bytes(b"\xff\xfe")
    assert Drawer(tmp_path / "folder")._kept("a.svg", lambda: "<svg/>") == "<svg/>"
    assert (tmp_path / "folder" / "a.svg").read_text(encoding="utf-8") == "<svg/>"


def test_a_record_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    """A folder that is no folder is bad input, with the path."""
    projects.write(tmp_path / "p")
    kept = record.read(record.find(tmp_path / "p" / "records")[0])
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(InputError, match=r"record\.json: cannot be written"):
        record.write(kept, tmp_path / "file")


def test_two_waivers_for_one_prescription_are_refused(tmp_path: Path) -> None:
    """The one that expires later must not hide behind the other: one of them is to go."""
    waiver = {"prescription": "toy-card/first", "reason": "It is a toy.", "expires": "2026-01-01"}
    write_project(tmp_path, waivers=[waiver, {**waiver, "expires": "2027-01-01"}])
    with pytest.raises(InputError, match=r"waivers.1.prescription: another waiver above is for this prescription"):
        Project.load(tmp_path)
