"""Training again: a recipe that can be followed as often as a check needs, one model at a time or many in one stack."""

from method_cards.training.many import Train, train_many
from method_cards.training.recipe import Checkpoint, Recipe, State

__all__ = ["Checkpoint", "Recipe", "State", "Train", "train_many"]
