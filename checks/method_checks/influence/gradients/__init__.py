"""Gradients of single examples: their squared lengths in closed form, the gradients themselves, and their projections.

`TrainedCopy` is a copy of a subject's model whose parameters can be those of any checkpoint. `objectives` says of what the
gradient is taken. `way_for` looks at the model once and picks how: in closed form, by ``vmap``, or one example at a time;
`values_and_norms` and `gradients_of` then do it.
"""

from method_checks.influence.gradients.copies import TrainedCopy
from method_checks.influence.gradients.objectives import Objective, cross_entropies, margins
from method_checks.influence.gradients.per_example import gradients_of, projection
from method_checks.influence.gradients.ways import Way, values_and_norms, way_for

__all__ = [
    "Objective",
    "TrainedCopy",
    "Way",
    "cross_entropies",
    "gradients_of",
    "margins",
    "projection",
    "values_and_norms",
    "way_for",
]
