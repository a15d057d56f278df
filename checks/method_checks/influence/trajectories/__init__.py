"""What a training went through, what its checkpoints say of each example, and which labels they make suspect."""

from method_checks.influence.trajectories.audit import audit_list
from method_checks.influence.trajectories.scores import (
    last_checkpoint_self_influence,
    mean_loss,
    placements,
    tracin_self_influence,
    zeroth_order_self_influence,
)
from method_checks.influence.trajectories.trace import Trace, trace
from method_checks.influence.trajectories.trainings import Training, spread_epochs, training_of

__all__ = [
    "Trace",
    "Training",
    "audit_list",
    "last_checkpoint_self_influence",
    "mean_loss",
    "placements",
    "spread_epochs",
    "trace",
    "tracin_self_influence",
    "training_of",
    "zeroth_order_self_influence",
]
