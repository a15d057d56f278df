"""Estimates of how much each training example moves a model's output for each test example, and how they are judged.

Each gives one number for each pair, ``(train, test)``: positive when training on the example raises the log-odds of the test
example's class. `datamodels` compares their sums over subsets with models that were trained on these subsets.
"""

from method_checks.influence.estimators.datamodels import (
    linear_datamodelling_scores,
    random_halves,
    rank_correlations,
)
from method_checks.influence.estimators.features import last_layer_features
from method_checks.influence.estimators.influences import Method, influences_by
from method_checks.influence.estimators.representer import representer_values
from method_checks.influence.estimators.similarity import cosine_similarities, same_class
from method_checks.influence.estimators.trak import trak_scores
from method_checks.influence.estimators.truth import TRAININGS, Truth, truth_of

__all__ = [
    "TRAININGS",
    "Method",
    "Truth",
    "cosine_similarities",
    "influences_by",
    "last_layer_features",
    "linear_datamodelling_scores",
    "random_halves",
    "rank_correlations",
    "representer_values",
    "same_class",
    "trak_scores",
    "truth_of",
]
