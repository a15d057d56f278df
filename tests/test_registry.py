"""Checks are found by their entry points, or by name, and are what they say they are."""

from __future__ import annotations

from pathlib import Path

import pytest

from method_cards.errors import InputError
from method_cards.registry import Entry, Registry
from tests.helpers import Scripted

CHECK = '''
from typing import ClassVar
from method_cards import Check, Passes

class Nameless(Check):
    """It has no id."""
    quantities: ClassVar = ()
    def measure(self, subject, context): yield from ()
    def passes(self, subject, samples): return Passes()
    def splits(self): return ("test",)
    @classmethod
    def controls(cls): return ()

class Mine(Nameless):
    """It is mine."""
    id: ClassVar[str] = "my/own"

class Partial(Check):
    """It measures nothing."""
    def splits(self): return ()

class Other: pass
'''


def written(folder: Path, text: str = CHECK) -> Path:
    (folder / "mine.py").write_text(text, encoding="utf-8")
    return folder


def test_bundled_checks_are_found_in_order() -> None:
    """All installed checks, by id, each from a package with a version."""
    found = Registry.installed()
    assert list(found.ids) == sorted(found.ids) == [entry.id for entry in found]
    assert len(found) >= 3
    assert all(entry.distribution.split()[-1][0].isdigit() for entry in found)
    assert {entry.family for entry in found} >= {"attribution", "memorization"}


def test_a_check_of_ones_own_is_found_by_its_file(tmp_path: Path) -> None:
    """`path.py:Class` adds a check under its own id, from wherever the run is started."""
    found = Registry.installed(["mine.py:Mine"], written(tmp_path))
    entry = found.get("my/own")
    assert entry.value == f"{tmp_path / 'mine.py'}:Mine"
    assert entry.distribution == "mine.py, not packaged"
    assert entry.load().id == "my/own"


def test_a_check_of_ones_own_is_found_by_its_module() -> None:
    """`package.module:Class` works where the package can be imported."""
    assert Registry.installed(["tests.helpers:Scripted"]).get(Scripted.id).load() is Scripted


def test_an_unknown_check_is_guessed() -> None:
    """A misspelt id says what was meant."""
    with pytest.raises(
        InputError, match=r'no check is called "attribution/completness". Did you mean "attribution/completeness"\?'
    ):
        Registry.installed().get("attribution/completness")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("mine.py:Mien", 'mine.py has no "Mien". Did you mean "Mine"?'),
        ("mine.py:Other", "mine.py:Other is not a subclass of method_cards.Check"),
        ("mine.py:Nameless", "mine.py:Nameless has no id"),
        ("mine.py:Partial", "mine.py:Partial is not complete: write its controls, measure, passes"),
        ("nine.py:Mine", "there is no such file"),
        ("mine.py", "must be of the form"),
    ],
)
def test_what_is_no_check_is_refused(value: str, message: str, tmp_path: Path) -> None:
    """A wrong reference, a class that is no check, or one without an id is bad input."""
    with pytest.raises(InputError) as error:
        Registry.installed([value], written(tmp_path))
    assert message in str(error.value)


def test_no_two_checks_have_one_id(tmp_path: Path) -> None:
    """A check may not take the place of another, and the message names both origins; the same one twice is one."""
    taken = CHECK.replace("my/own", "attribution/completeness")
    with pytest.raises(
        InputError,
        match=r'"attribution/completeness" is registered twice: by method-cards .* and by mine.py, not packaged',
    ):
        Registry.installed(["mine.py:Mine"], written(tmp_path, taken))
    again = written(tmp_path / ".." / tmp_path.name, CHECK.replace("my/own", "my/other"))
    (again / "again.py").write_text(CHECK, encoding="utf-8")
    assert len(Registry.installed(["again.py:Mine", "again.py:Mine"], again)) == len(Registry.installed()) + 1


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("no_such_package_xyz:Check", 'check "a/b" of acme 1.0 cannot be loaded'),
        ("collections:OrderedDict", "is not a subclass of method_cards.Check"),
        ("tests.helpers:Scripted", 'calls itself "toy/scripted"; both must be the same'),
    ],
)
def test_a_broken_entry_point_names_its_package(value: str, message: str) -> None:
    """What another package promised and does not keep is said with the name of that package."""
    with pytest.raises(InputError) as error:
        Entry("a/b", value, "acme 1.0").load()
    assert message in str(error.value)
    assert "acme 1.0" in str(error.value)


def test_a_broken_entry_point_breaks_nothing_else() -> None:
    """Listing does not import: a broken check is an error only for those who use it."""
    found = Registry(
        [Entry("a/b", "no_such_package_xyz:Check", "acme 1.0"), Entry(Scripted.id, "tests.helpers:Scripted", "tests")]
    )
    assert found.ids == ("a/b", "toy/scripted")
    assert found.get("toy/scripted").load() is Scripted
