"""The catalog: which folders of cards are found, what must be right in them, and the bibliography."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from method_cards.catalog import CardFolder, Catalog, bundled_cards, card_folders, read_bibliography
from method_cards.errors import DocumentError, InputError, Problem
from tests.helpers import card_data, prescription, question, write_card

CARDS = Path(__file__).parent / "cards"


def folder(root: Path) -> Path:
    """A copy of the folder of cards for tests."""
    return Path(shutil.copytree(CARDS, root / "cards"))


def card(root: Path, name: str, *changes: tuple[str, str], family: str = "attribution") -> Path:
    """Write another card: the sample under another id."""
    path = root / family / name / "card.yaml"
    path.parent.mkdir(parents=True)
    text = (CARDS / "attribution" / "input-gradient" / "card.yaml").read_text(encoding="utf-8")
    for old, new in (("id: input-gradient", f"id: {name}"), *changes):
        assert old in text
        text = text.replace(old, new, 1)
    path.write_text(text, encoding="utf-8")
    return path


def refused(*folders: Path) -> list[Problem]:
    with pytest.raises(DocumentError) as caught:
        Catalog.load(folders)
    return list(caught.value.problems)


def test_cards_are_found_with_their_family_and_works(tmp_path: Path) -> None:
    """A card knows its folder, its family, where it came from, and the works that it rests on."""
    root = folder(tmp_path)
    card(root, "another-card", family="privacy")
    catalog = Catalog.load([CardFolder(root, "some-package")])
    assert catalog.ids == ("input-gradient", "another-card")
    assert [item.family for item in catalog] == ["attribution", "privacy"]
    found = catalog.get("input-gradient")
    assert (found.folder, found.origin) == (root / "attribution" / "input-gradient", "some-package")
    assert list(found.references) == ["simonyan2014", "adebayo2018"]
    assert len(catalog) == 2
    assert "input-gradient" in catalog
    assert "nothing" not in catalog


def test_unknown_cards_get_a_suggestion() -> None:
    """Asking for a misspelt card says which one may be meant."""
    with pytest.raises(InputError, match=r'no card is called "input-gradients"\. Did you mean "input-gradient"\?'):
        Catalog.load([CARDS]).get("input-gradients")


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    """A folder that is not there is an error, not an empty catalog."""
    assert "there is no such folder" in refused(tmp_path / "nothing")[0].message


def test_a_folder_without_cards_is_refused(tmp_path: Path) -> None:
    """A folder that holds no card is an error, not an empty catalog."""
    assert "holds no card" in refused(tmp_path)[0].message


def test_a_card_has_the_name_of_its_folder(tmp_path: Path) -> None:
    """A card whose id is not the name of its folder is refused where the id stands."""
    root = folder(tmp_path)
    (root / "attribution" / "input-gradient").rename(root / "attribution" / "gradient")
    problem = refused(root)[0]
    assert (problem.line, problem.column, problem.field) == (3, 5, "id")
    assert '"input-gradient" stands in the folder "gradient"' in problem.message


def test_two_cards_with_one_id_are_refused(tmp_path: Path) -> None:
    """One id names one card, over all folders; both files are named."""
    root = folder(tmp_path)
    problem = refused(CARDS, root)[0]
    assert problem.path == root / "attribution" / "input-gradient" / "card.yaml"
    assert str(CARDS / "attribution" / "input-gradient" / "card.yaml") in problem.message


def test_one_folder_given_twice_is_read_once() -> None:
    """Naming a folder twice, or one that is found anyway, does no harm."""
    assert len(Catalog.load([CARDS, CARDS / ".." / "cards"])) == 1


def test_all_broken_cards_are_reported_together(tmp_path: Path) -> None:
    """One reading lists every problem of every card, by file and line."""
    root = folder(tmp_path)
    card(root, "card-a", ("status: draft", "status: draf"))
    card(root, "card-b", ("title: Input gradients", "title: no"))
    card(root, "card-c", ("ref: simonyan2014\n", "ref: simonyan2015\n"), ("{ref: simonyan2014,", "{ref: simonyan2015,"))
    problems = refused(root)
    assert [problem.path.parent.name for problem in problems] == ["card-a", "card-b", "card-c"]
    assert 'has no entry "simonyan2015". Did you mean "simonyan2014"?' in problems[2].message
    assert problems[2].field == "evidence.0.ref"
    assert problems[2].line > 100


def test_a_card_without_bibliography_is_refused(tmp_path: Path) -> None:
    """Works that are cited must stand in references.bib; without the file, none does."""
    root = folder(tmp_path)
    (root / "references.bib").unlink()
    assert len(refused(root)) == 2


def test_a_card_in_the_wrong_place_is_refused(tmp_path: Path) -> None:
    """A card is family/card/card.yaml, no deeper and no shallower, and is not called card.yml."""
    root = folder(tmp_path)
    card(root, "shallow", family=".")
    card(root, "misnamed").rename(root / "attribution" / "misnamed" / "card.yml")
    card(root / ".hidden", "not-looked-at")
    messages = [problem.message for problem in refused(root)]
    assert len(messages) == 2
    assert "call it card.yaml" in messages[0]
    assert "stands in the wrong place" in messages[1]


def test_a_card_does_not_lead_out_of_its_folder(tmp_path: Path) -> None:
    """A link to a file elsewhere, or to itself, is not followed."""
    root = folder(tmp_path)
    path = card(root, "linked")
    elsewhere = tmp_path / "elsewhere.yaml"
    path.rename(elsewhere)
    path.symlink_to(elsewhere)
    assert "leads out of" in refused(root)[0].message
    path.unlink()
    path.symlink_to(path)
    assert "Too many levels of symbolic links" in refused(root)[0].message


def test_files_that_a_card_names_are_there(tmp_path: Path) -> None:
    """A notebook in the card's folder that is not there is an error where it is named."""
    root = folder(tmp_path)
    path = card(root, "with-notebook", ("notebook: https://example.org/notebook", "notebook: demo.ipynb"))
    assert refused(root)[0].field == "examples.0.notebook"
    (path.parent / "demo.ipynb").write_text("{}")
    assert len(Catalog.load([root])) == 2


def test_references_between_cards_are_checked(tmp_path: Path) -> None:
    """A related card, or a prescription of another card, that does not exist is an error with a suggestion."""
    root = folder(tmp_path)
    related = "related_cards:\n  - {id: input-gradien, relation: refines}\nchangelog:"
    card(
        root, "refers", ("changelog:", related), ("[report-preprocessing]\n    map", "[input-gradient/report]\n    map")
    )
    problems = refused(root)
    assert [problem.field for problem in problems] == ["prescriptions.0.related_to.0", "related_cards.0.id"]
    assert 'no prescription is called "input-gradient/report".' in problems[0].message
    assert 'no card is called "input-gradien". Did you mean "input-gradient"?' in problems[1].message


def test_references_between_cards_may_cross_folders(tmp_path: Path) -> None:
    """A person's own card may relate to one of another folder."""
    root = folder(tmp_path)
    shutil.rmtree(root / "attribution")
    card(root, "refers", ("changelog:", "related_cards:\n  - {id: input-gradient, relation: refines}\nchangelog:"))
    assert Catalog.load([CARDS, root]).ids == ("input-gradient", "refers")


def test_bundled_cards_are_found_through_the_entry_point() -> None:
    """The bundled cards come in through the same door as those of other packages."""
    assert Path(str(bundled_cards())) in [found.path for found in card_folders()]
    assert "method-cards" in [found.origin for found in card_folders()]
    assert card_folders([CARDS])[-1] == CardFolder(CARDS, str(CARDS))


def test_a_broken_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package whose entry point fails is named, with its error."""
    info = tmp_path / "broken_cards-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: broken-cards\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[method_cards.cards]\nbroken = no_such_module:cards\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(InputError, match=r'package broken-cards .* "broken" .* ModuleNotFoundError'):
        card_folders()
    (info / "entry_points.txt").write_text("[method_cards.cards]\nbroken = builtins:list\n")
    with pytest.raises(InputError, match=r"gives \[\], not a folder"):
        card_folders()


BIBLIOGRAPHY = r"""
@string{venue = "Proceedings of {ICML}"}
@inproceedings{first2020,
  title = {{A}xioms: a {\'e}tude \& more},
  author = {van der Berg, Jan and M{\"u}ller, Karl-Rudolf},
  booktitle = venue, year = 2020, doi = {10.1000/xyz123},
}
@article{second2021, title = "Title?", author = {Kim, Been}, journal = {JMLR}, year = "2021", url = {https://jmlr.org/x} }
@misc{third2022, title = {Many hands}, author = {A, B and C, D and E, F and G, H and I, J and K, L and M, N and O, P and Q, R},
  year = {2022}, eprint = {2201.00001v2}, archivePrefix = {arXiv}}
@misc{fourth2023, title = {By DOI}, author = {Kim, Been and Lee, Ann}, year = {2023}, doi = {10.48550/arXiv.2301.00002}}
"""


def test_references_are_shown_in_one_style(tmp_path: Path) -> None:
    """Authors, title, venue, year and identifier; accents are letters, and the best link is chosen."""
    (tmp_path / "references.bib").write_text(BIBLIOGRAPHY, encoding="utf-8")
    works = read_bibliography(tmp_path / "references.bib")
    assert [(works[key].format(), works[key].link, works[key].short) for key in works] == [
        (
            "Jan van der Berg and Karl-Rudolf Müller. Axioms: a étude & more. Proceedings of ICML, 2020. doi:10.1000/xyz123.",
            "https://doi.org/10.1000/xyz123",
            "van der Berg and Müller 2020",
        ),
        ("Been Kim. Title? JMLR, 2021.", "https://jmlr.org/x", "Kim 2021"),
        (
            "B A, D C, F E, H G, J I, L K, N M, P O et al. Many hands. arXiv, 2022. arXiv:2201.00001v2.",
            "https://arxiv.org/abs/2201.00001v2",
            "A et al. 2022",
        ),
        (
            "Been Kim and Ann Lee. By DOI. arXiv, 2023. doi:10.48550/arXiv.2301.00002.",
            "https://doi.org/10.48550/arXiv.2301.00002",
            "Kim and Lee 2023",
        ),
    ]
    assert works["fourth2023"].arxiv == "2301.00002"


@pytest.mark.parametrize(
    ("entry", "line", "message"),
    [
        ("@misc{a, title = {T}, year = 2020}", 1, "has no author"),
        ("@misc{a, author = {B, C}, year = 2020}", 1, "has no title"),
        ("@misc{a, author = {B, C}, title = {T}}", 1, "has no year"),
        ("\n@misc{a, author = {B, C}, title = {T}, year = 2020, url = {javascript:alert(1)}}", 2, "is not of the form"),
        ("@misc{a, author = {B, C}, title = {T}, year = 2020, doi = {abc}}", 1, "is not of the form"),
        ("@misc{a, author = {B, C}, title = {T}, year = 2020, arxiv = {12}}", 1, "is not of the form"),
        ("@misc{a, author = {B, C}, title = {T}, year = 2020}\n\n@misc{a, title = {U}}", 3, "Duplicate"),
        ("@misc{a, author = {B, C}, title = {never closed, year = 2020}\n", 1, "not valid BibTeX"),
    ],
)
def test_a_wrong_bibliography_is_refused(tmp_path: Path, entry: str, line: int, message: str) -> None:
    """A work without author, title or year, with a wrong identifier, or twice, is refused with its line."""
    (tmp_path / "references.bib").write_text(entry, encoding="utf-8")
    with pytest.raises(DocumentError) as caught:
        read_bibliography(tmp_path / "references.bib")
    assert message in caught.value.problems[0].message
    assert caught.value.problems[0].line == line


def test_a_wrong_bibliography_does_not_make_every_citation_wrong(tmp_path: Path) -> None:
    """Where references.bib cannot be read, that alone is reported."""
    root = folder(tmp_path)
    with (root / "references.bib").open("a", encoding="utf-8") as file:
        file.write("@misc{x, title = {T}}\n")
    assert {problem.path.name for problem in refused(root)} == {"references.bib"}


def test_a_prescription_takes_over_the_check_of_another_card(tmp_path: Path) -> None:
    """It has the other one's criteria and error rates, which stand in one place only."""
    write_card(tmp_path, card_data([prescription("sound")], "home"))
    write_card(tmp_path, card_data([prescription("own"), prescription("taken", checked_as="home/sound")], "guest"))
    catalog = Catalog.load([tmp_path])
    guest, home = catalog.get("guest"), catalog.get("home")
    taken = guest.card.prescriptions[1]
    assert taken.check == home.card.prescriptions[0].check
    assert guest.home(taken) == (home, "sound")
    assert guest.home(guest.card.prescriptions[0]) == (guest, "own")


@pytest.mark.parametrize("wanted", ["home/soun", "home/asked", "guest/taken", "nowhere/sound"])
def test_only_a_check_of_its_own_can_be_taken_over(tmp_path: Path, wanted: str) -> None:
    """Neither a question, nor a check that is taken over itself, nor what does not exist."""
    write_card(tmp_path, card_data([prescription("sound"), question("asked")], "home"))
    write_card(tmp_path, card_data([prescription("own"), prescription("taken", checked_as=wanted)], "guest"))
    (problem,) = refused(tmp_path)
    assert problem.field == "prescriptions.1.checked_as"
    assert problem.message.startswith(f'no prescription with a check of its own is called "{wanted}".')
    assert problem.line > 1
