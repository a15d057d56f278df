"""A model that no check could measure rightly is refused before anything is measured."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from method_cards.errors import InputError
from method_cards.fitness import unfit
from method_cards.live import run
from method_cards.subject import Subject
from tests.helpers import command, differences, state_of, write_project

ROWS, CLASSES = torch.randn(40, 6, generator=torch.Generator().manual_seed(0)), torch.arange(40) % 5


class Changed(nn.Module):
    """A model with something done to its input or output."""

    def __init__(
        self,
        output: Callable[[Tensor], Any] = lambda x: x,
        given: Callable[[Tensor], Tensor] = lambda x: x,
        width: int = 5,
    ) -> None:
        super().__init__()
        self.layer, self.output, self.given = nn.Linear(6, width), output, given

    def forward(self, x: Tensor) -> Any:
        return self.output(self.layer(self.given(x)))


class Pooled(nn.Module):
    """Token ids to logits, by the mean over all tokens or over those that the mask calls content."""

    def __init__(self, masked: bool) -> None:
        super().__init__()
        self.embedding, self.layer, self.masked = nn.Embedding(9, 4), nn.Linear(4, 5), masked

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        weights = attention_mask if self.masked else torch.ones_like(attention_mask)
        found = (self.embedding(input_ids) * weights[..., None]).sum(1) / weights.sum(1, keepdim=True)
        return self.layer(found)  # type: ignore[no-any-return]


def tokenizer(texts: list[str], **_: Any) -> dict[str, Tensor]:
    longest = max(map(len, texts))
    mask = torch.tensor([[place < len(text) for place in range(longest)] for text in texts])
    return {"input_ids": mask.long() * 3, "attention_mask": mask.long()}


TEXTS = ["a" * (1 + number % 7) for number in range(40)]


def found(model: nn.Module, inputs: Any = ROWS, task: str = "tabular-classification") -> str:
    subject = Subject("net", task, model.eval(), {"test": (inputs, CLASSES)}, tokenizer=tokenizer)
    before, random = state_of(model), torch.get_rng_state()
    said = unfit(subject)
    assert not differences(before, state_of(model))
    assert torch.equal(random, torch.get_rng_state())
    return said


UNFIT: list[tuple[nn.Module, str]] = [
    (Changed(given=lambda x: x.view(32, 6)), 'cannot be called with 4 examples of the split "test" (torch.float32 (4, 6)): Run'),
    (Changed().double(), "its parameters are torch.float64 and its inputs torch.float32: convert the data, or the model"),
    (Changed(given=nn.functional.dropout), "gives other outputs each time"),
    (Changed(given=lambda x: x + torch.randn_like(x)), "gives other outputs each time"),
    (nn.Sequential(nn.BatchNorm1d(6, track_running_stats=False), nn.Linear(6, 5)), "with one example alone (ValueError: Expected more"),
    (Changed(lambda z: z.squeeze(), width=1), "with one example alone (CheckError: the model's output has shape ()"),
    (Changed(given=lambda x: x - x.mean(0)), "depend on the examples beside it"),
    (Changed(lambda z: z * (1 + len(z) % 2)), "depend on the examples beside it"),
    (Changed(lambda z: z.softmax(1)), "gives probabilities p, where logits are needed: its losses"),
    (Changed(lambda z: z.softmax(1).detach()), "leave the softmax at its end out, or return `p.log()`"),
    (Changed(lambda z: z.sigmoid(), width=1), "leave the sigmoid at its end out, or return `torch.logit(p)`"),
    (Changed(lambda z: z.sigmoid().squeeze(1), width=1).requires_grad_(False), "leave the sigmoid at its end out"),
]  # fmt: skip


@pytest.mark.parametrize(("model", "said"), UNFIT)
def test_a_model_that_no_check_could_measure_is_told(model: nn.Module, said: str) -> None:
    """What would make every number wrong is found with a few examples, and the message says what to do."""
    assert said in found(model)


@pytest.mark.parametrize(
    "model",
    [
        Changed(),
        Changed(width=1),
        Changed(lambda z: z[:, 0], width=1),
        Changed(lambda z: z.log_softmax(1)),
        Changed(lambda z: z.sigmoid() * 3),
        Changed(lambda z: z.abs()),
        Changed(lambda z: z + 1e-3 * torch.randn_like(z)),
        Changed(lambda z: z * float("nan")),
        Changed(lambda z: z * 0),
        Changed(given=lambda x: x.bfloat16()).bfloat16(),
    ],
)
def test_a_model_that_can_be_measured_is_not_refused(model: nn.Module) -> None:
    """Logits of every form will do, log-probabilities among them; what is not finite, or differs a little, the checks tell."""
    assert found(model) == ""


def test_padding_that_counts_is_told() -> None:
    """A text's outputs that depend on the longest text beside it would make every number depend on the batch."""
    assert "padding that counts as content" in found(Pooled(masked=False), TEXTS, "text-classification")
    assert found(Pooled(masked=True), TEXTS, "text-classification") == ""


def test_names_that_forward_lacks_are_told() -> None:
    """Named inputs that end up in one dictionary, since a name is not among the parameters, are the likeliest mistake."""
    inputs = {"x": ROWS, "kind": CLASSES}
    assert "its forward has no parameters called x, kind: rename them" in found(Changed(), inputs)


def test_token_ids_are_of_the_right_type() -> None:
    """Token ids beyond the vocabulary are told as what they are, without the advice to convert them."""
    inputs = {"input_ids": torch.full((40, 3), 9), "attention_mask": torch.ones(40, 3, dtype=torch.long)}
    said = found(Pooled(masked=True), inputs, "text-classification")
    assert "IndexError: index out of range" in said
    assert "convert" not in said


def test_every_split_is_looked_at() -> None:
    """A split whose examples cannot be read is refused, be it the last."""
    data = {"train": (ROWS, CLASSES), "test": [(ROWS[0], 0, 1)] * 40}
    with pytest.raises(InputError, match=r'data split "test"'):
        unfit(Subject("net", "tabular-classification", Changed().eval(), data))


def test_it_is_refused_from_python_and_from_a_project(tmp_path: Path) -> None:
    """Nothing is measured: an InputError in Python, exit status 2 and the place in the file on the command line."""
    model = Changed(lambda z: z.softmax(1)).eval()
    with pytest.raises(InputError, match="gives probabilities"):
        run(model, {"test": (ROWS, CLASSES)}, "integrated-gradients/completeness", explainer="gradient", progress=False)
    write_project(tmp_path)
    code = (tmp_path / "model.py").read_text()
    (tmp_path / "model.py").write_text(
        code + "\n\ndef soft():\n    return torch.nn.Sequential(build(), torch.nn.Softmax(1)).eval()\n"
    )
    config = (tmp_path / "method-cards.yaml").read_text()
    (tmp_path / "method-cards.yaml").write_text(config.replace("model.py:build", "model.py:soft"))
    done = command("run", cwd=tmp_path)
    assert done.returncode == 2
    assert "subjects.toy.model: the model gives probabilities" in done.stderr
    assert not (tmp_path / "records").exists()
