"""Where cards are found, and all that were found.

A folder of cards holds a folder for each family, in it a folder for each card with its ``card.yaml``, and one
``references.bib``.
"""

from method_cards.catalog.bibliography import Reference, read_bibliography
from method_cards.catalog.catalog import Catalog, LoadedCard
from method_cards.catalog.folders import CardFolder, bundled_cards, card_folders

__all__ = ["CardFolder", "Catalog", "LoadedCard", "Reference", "bundled_cards", "card_folders", "read_bibliography"]
