"""The task of a model is told where model and data leave no doubt, and asked for where they do."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from method_cards.data import Split
from method_cards.errors import InputError
from method_cards.subject import Subject
from method_cards.tasks import contradiction, inferred, told
from tests.helpers import command, differences, state_of, write_project

IMAGES = torch.rand(40, 3, 8, 8)
CLASSES = torch.arange(40) % 5
TOKENS = torch.randint(0, 20, (40, 6))


class Words(nn.Module):
    """Token ids to something."""

    def __init__(self, after: nn.Module) -> None:
        super().__init__()
        self.embedding = nn.Embedding(20, 4)
        self.after = after

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Any:
        return self.after(self.embedding(input_ids))


class Predicted(nn.Module):
    """Numbers of classes, as `predict` of scikit-learn gives them."""

    def forward(self, x: Tensor) -> Tensor:
        return x.argmax(1)


class Named(nn.Module):
    """Its output under a name that nobody knows."""

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"scores": x}


def tokenizer(texts: list[str], **_: Any) -> dict[str, Tensor]:
    ids = torch.tensor([[len(text) % 20, 1] for text in texts])
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def flat(width: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.LazyLinear(width))


def built(model: nn.Module, inputs: Tensor) -> nn.Module:
    model(inputs[:2])
    return model.eval()


CERTAIN = [
    ("image-classification", built(flat(5), IMAGES), IMAGES),
    ("image-classification", built(flat(1), IMAGES), IMAGES),
    ("image-to-image", nn.AvgPool2d(2), IMAGES),
    ("tabular-classification", nn.Linear(6, 5), torch.rand(40, 6)),
    ("text-classification", built(Words(flat(5)), TOKENS), TOKENS),
    ("text-classification", built(Words(flat(5)), TOKENS), {"input_ids": TOKENS}),
    ("text-generation", Words(nn.Linear(4, 20)), TOKENS),
]


@pytest.mark.parametrize(("task", "model", "inputs"), CERTAIN)
def test_a_task_that_can_be_seen_is_told(task: str, model: nn.Module, inputs: Any) -> None:
    """Two examples before and after the model tell the task, and the model and the random numbers stay as they were."""
    before = state_of(model.eval())
    assert inferred(model, Split("test", (inputs, CLASSES))) == task
    assert not differences(before, state_of(model))


def test_texts_are_told_by_their_tokenizer() -> None:
    """Texts go through the tokenizer first."""
    model = built(Words(flat(5)), TOKENS[:, :2])
    split = Split("test", ([f"text {number}" for number in range(40)], CLASSES))
    assert inferred(model, split, tokenizer=tokenizer) == "text-classification"
    with pytest.raises(InputError, match="no tokenizer"):
        inferred(model, split)


def test_texts_that_the_tokenizer_cannot_encode_are_refused() -> None:
    """A tokenizer that raises, such as one without a padding token, is an input error and no traceback."""

    def unpadded(texts: list[str], **_: Any) -> dict[str, Tensor]:
        raise ValueError("the tokenizer does not have a padding token")

    with pytest.raises(
        InputError, match=r"cannot encode 2 texts: ValueError: the tokenizer does not have a padding token"
    ):
        inferred(nn.Linear(2, 2).eval(), Split("test", (["a", "b c"], [0, 1])), tokenizer=unpadded)


def test_names_of_classes_settle_what_the_data_leaves_open() -> None:
    """Images to seven numbers, with five classes in the data, may be features; with seven names they are classes."""
    model = built(flat(7), IMAGES)
    split = Split("test", (IMAGES, CLASSES))
    with pytest.raises(
        InputError, match=r'7 numbers.*5 classes.*task="image-classification" or task="image-feature-extraction"'
    ):
        inferred(model, split)
    assert inferred(model, split, list("abcdefg")) == "image-classification"


DOUBTFUL = [
    (nn.Conv2d(3, 5, 1), IMAGES, "fit several tasks or none"),
    (Words(nn.Linear(4, 3)), TOKENS, "fit several tasks or none"),
    (nn.Identity(), torch.rand(40, 3, 4), "fit several tasks or none"),
    (nn.Linear(7, 5), torch.rand(40, 6), 'cannot be called with examples of the split "test"'),
    (
        nn.Sequential(nn.Conv1d(3, 5, 8), nn.Flatten()),
        torch.rand(40, 3, 8),
        'series and volumes are tables; give task="tabular-class',
    ),
    (Named(), torch.rand(40, 6), "the model returned dict with scores; a torch tensor.*: wrap the model in one whose"),
    (nn.LSTM(6, 2), {"a": torch.rand(40, 6), "b": torch.rand(40, 6)}, "cannot be called"),
]


@pytest.mark.parametrize(("model", "inputs", "message"), DOUBTFUL)
def test_a_doubtful_task_is_asked_for(model: nn.Module, inputs: Any, message: str) -> None:
    """Where it could be another task, or the model fails, the message says so and what to give."""
    with pytest.raises(InputError, match=message):
        inferred(model.eval(), Split("test", (inputs, CLASSES)))


ENCODERS = [
    (built(Words(flat(7)), TOKENS), TOKENS, "7 numbers for a text, and the data has 5 classes"),
    (nn.Linear(6, 7), torch.rand(40, 6), "7 numbers for a row of a table, and the data has 5 classes"),
]


@pytest.mark.parametrize(("model", "inputs", "message"), ENCODERS)
def test_an_encoder_is_not_taken_for_a_classifier(model: nn.Module, inputs: Tensor, message: str) -> None:
    """Vectors that are no logits look like logits, so as many numbers as there are no classes are asked about; names settle it."""
    split = Split("test", (inputs, CLASSES))
    with pytest.raises(InputError, match=message):
        inferred(model.eval(), split)
    assert inferred(model, split, list("abcdefg")).endswith("-classification")


CONTRADICTED = [
    (
        "text-classification",
        built(flat(5), IMAGES),
        IMAGES,
        (),
        "takes texts or token ids",
        "it looks like image-class",
    ),
    (
        "tabular-classification",
        built(flat(5), IMAGES),
        IMAGES,
        (),
        "takes rows of numbers",
        "it looks like image-class",
    ),
    ("image-classification", built(Words(flat(5)), TOKENS), TOKENS, (), "takes images", "it looks like text-class"),
    (
        "image-to-image",
        built(Words(flat(5)), TOKENS),
        {"input_ids": TOKENS},
        (),
        "holds input_ids",
        "text-classification",
    ),
    ("image-classification", nn.Flatten(), ["a text"] * 40, (), "holds texts", "name the task that fits, of "),
    (
        "image-classification",
        built(flat(5), torch.rand(2, 3, 8)),
        torch.rand(40, 3, 8),
        (),
        "holds torch.float32 numbers of shape (3, 8)",
        "name the task that fits",
    ),
    (
        "tabular-classification",
        Predicted(),
        torch.rand(40, 6),
        (),
        "is torch.int64: numbers of classes",
        "logits: mend the model",
    ),
    ("text-classification", Words(nn.Linear(4, 20)), TOKENS, (), "(2, 6, 20); class", "it looks like text-generation"),
    ("text-generation", built(Words(flat(5)), TOKENS), TOKENS, (), "(2, 5), not (batch, token, vocab", "text-class"),
    ("image-classification", nn.AvgPool2d(2), IMAGES, (), "(2, 3, 4, 4)", "it looks like image-to-image"),
    ("image-to-image", built(flat(5), IMAGES), IMAGES, (), "(2, 5); image-to-image needs", "image-classification"),
    (
        "text-classification",
        built(Words(flat(384)), TOKENS),
        TOKENS,
        ("no", "yes"),
        "gives 384 numbers",
        "names 2: name",
    ),
]


@pytest.mark.parametrize(("task", "model", "inputs", "classes", "said", "advised"), CONTRADICTED)
def test_a_task_that_cannot_be_is_contradicted(
    task: str, model: nn.Module, inputs: Any, classes: tuple[str, ...], said: str, advised: str
) -> None:
    """A task that was named, and that data or model contradict, is refused with what was found and what to do."""
    subject = Subject("net", task, model.eval(), {"test": (inputs, CLASSES)}, classes=classes)
    found = contradiction(subject)
    assert found.startswith(f"the task is {task}, ")
    assert said in found
    assert advised in found


@pytest.mark.parametrize(("task", "model", "inputs"), CERTAIN)
def test_a_task_that_can_be_is_not_contradicted(task: str, model: nn.Module, inputs: Any) -> None:
    """What would be told of a model is not refused where it is named; nor is a model that fails, which its checks tell."""
    assert contradiction(Subject("net", task, model.eval(), {"test": (inputs, CLASSES)})) == ""
    broken = Subject("net", "tabular-classification", nn.Linear(7, 5).eval(), {"test": (torch.rand(40, 6), CLASSES)})
    assert contradiction(broken) == ""


def test_a_contradicted_task_is_shown_in_its_file(tmp_path: Path) -> None:
    """`run` of such a subject ends with status 2 before anything is measured, and points to the task in the file."""
    write_project(tmp_path, task="text-generation")
    done = command("run", cwd=tmp_path)
    assert done.returncode == 2
    assert re.search(
        r"method-cards.yaml:\d+:\d+: subjects.toy.task: the task is text-generation, which takes", done.stderr
    )
    assert not (tmp_path / "records").exists()


def test_a_task_is_one_of_those_there_are() -> None:
    """A misspelt task is refused with what was meant."""
    assert told("image-to-image") == "image-to-image"
    with pytest.raises(InputError, match='Did you mean "image-classification"'):
        told("image-clasification")
