"""A copy of a subject's model whose parameters can be set, so that the subject's own stay as they are."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING

from method_cards.errors import CheckError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor, nn

    from method_cards.adapters import Adapter
    from method_cards.subject import Subject


@dataclass(frozen=True)
class TrainedCopy:
    """A model in evaluation mode, and how it is called.

    Attributes:
        model: The copy. Only the parameters that training changes require gradients.
        adapter: How it is called.
    """

    model: nn.Module
    adapter: Adapter

    @classmethod
    def of(cls, subject: Subject, model: nn.Module | None = None) -> TrainedCopy:
        """A copy of the subject's model, or of another one of the same kind, such as one that was trained anew.

        Frozen parameters stay frozen; where all are, as after ``requires_grad_(False)`` for inference, all count as trained.

        Raises:
            CheckError: The model has no parameters.
        """
        copied = deepcopy(subject.model if model is None else model).eval()
        parameters = list(copied.parameters())
        if not parameters:
            raise CheckError(
                f'the model of "{subject.id}" has no parameters, so no training example can have influenced it'
            )
        if not any(parameter.requires_grad for parameter in parameters):
            copied.requires_grad_(requires_grad=True)
        adapter = type(subject.adapter)(copied, subject.attribute_to, subject.tokenizer)
        return cls(copied, adapter)

    @property
    def trained(self) -> dict[str, nn.Parameter]:
        """The parameters that gradients are taken of, by name."""
        return {name: each for name, each in self.model.named_parameters() if each.requires_grad}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Set parameters and buffers.

        Raises:
            CheckError: They are those of another architecture.
        """
        try:
            self.model.load_state_dict(dict(state))
        except RuntimeError as error:
            reason = str(error).splitlines()[-1].strip()
            raise CheckError(f"a checkpoint does not fit the subject's model: {reason}") from error
        self.model.eval()
