"""How long it takes to load and validate cards: 1,000 of them should take a few seconds.

Writes realistic cards into a temporary folder, each a variant of the card that the tests use, and reads them as
``method-cards`` does. Usage: ``python benchmarks/load_cards.py [--cards 1000]``.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import time
from pathlib import Path

from method_cards import document
from method_cards.card import Card
from method_cards.catalog import Catalog
from method_cards.document.reader import LOADER

SAMPLE = Path(__file__).parents[1] / "tests" / "cards"


def main() -> None:
    """Write the cards, load them, print the seconds as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cards", type=int, default=1000)
    count: int = parser.parse_args().cards
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        paths = write(root, count)
        start = time.perf_counter()
        documents = [document.load(path) for path in paths]
        read = time.perf_counter()
        for item in documents:
            item.validate(Card)
        validated = time.perf_counter()
        assert len(Catalog.load([root])) == count
        finished = time.perf_counter()
    figures = {
        "cards": count,
        "bytes_per_card": len("\n".join(documents[0].lines).encode()),
        "parser": LOADER.__name__,
        "seconds_reading_yaml": round(read - start, 3),
        "seconds_validating": round(validated - read, 3),
        "seconds_catalog": round(finished - validated, 3),
    }
    print(json.dumps(figures, indent=2))


def write(root: Path, count: int) -> list[Path]:
    """Write ``count`` cards of ten families into a folder.

    Args:
        root: The folder.
        count: How many.

    Returns:
        Their files.
    """
    text = (SAMPLE / "attribution" / "input-gradient" / "card.yaml").read_text(encoding="utf-8")
    shutil.copy(SAMPLE / "references.bib", root)
    paths = [root / f"family-{number % 10}" / f"card-{number}" / "card.yaml" for number in range(count)]
    for path in paths:
        path.parent.mkdir(parents=True)
        path.write_text(text.replace("id: input-gradient", f"id: {path.parent.name}", 1), encoding="utf-8")
    return paths


if __name__ == "__main__":
    main()
