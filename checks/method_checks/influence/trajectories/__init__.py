"""What a training went through, and what its checkpoints say of each example."""

from method_checks.influence.trajectories.scores import (
    last_checkpoint_self_influence,
    mean_loss,
    tracin_self_influence,
    zeroth_order_self_influence,
)
from method_checks.influence.trajectories.trace import Trace, trace

__all__ = [
    "Trace",
    "last_checkpoint_self_influence",
    "mean_loss",
    "trace",
    "tracin_self_influence",
    "zeroth_order_self_influence",
]
