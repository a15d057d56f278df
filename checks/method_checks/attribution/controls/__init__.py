"""Subjects with known answers for the attribution checks: a small network trained on digits, and explainers of every kind."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from method_cards.adapters import CLASSIFICATION
from method_cards.lazy import torch
from method_cards.subject import Subject
from method_checks.attribution.explainers import METHODS

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor, nn

Kind: TypeAlias = Literal["digits", "words", "table"]
"""The data that a control is made of."""

Examples: TypeAlias = "tuple[Tensor, Tensor]"
"""Inputs and classes."""

TEST = 600
"""How many digits, and texts, are held out."""

CLASSES, OWN, VOCABULARY, LENGTH, SIGNAL = 4, 6, 60, 16, 3
"""Of `words`: classes, tokens that each class has, tokens that there are, tokens of a text, tokens of its class in a text."""


def not_applicable(subject: Subject, explainer: object) -> str:
    """Why an attribution check says nothing about a subject; empty when it applies."""
    if subject.explainer is None and explainer is None:
        return "The subject ships no explanation method; name one under `explainer:` if it does."
    if subject.task not in CLASSIFICATION:
        return f"Attribution checks explain the class of a classifier; a{'n' * subject.task.startswith('i')} {subject.task} model has none."
    kind = METHODS.get(method_of(subject, explainer))
    return kind.unsuited(subject) if kind else ""


def method_of(subject: Subject, explainer: object) -> str:
    """The name of the explainer that a check is to use: its own parameter, or else the subject's; empty for a function."""
    given = subject.explainer if explainer is None else explainer
    return str(given.get("method", "") if isinstance(given, Mapping) else getattr(given, "method", ""))


def digits_by(method: str, **parameters: Any) -> Callable[[int], Subject]:
    """A builder of digit classifiers that ship this explainer.

    Args:
        method: The explainer's ``method``.
        **parameters: Its parameters.

    Returns:
        A function from a seed to a subject: the seed decides the split, the initial weights and the order of training.
    """
    return _Builder("digits", method, tuple(parameters.items()))


def words_by(method: str, **parameters: Any) -> Callable[[int], Subject]:
    """A builder of text classifiers that ship this explainer: `words` are classified by a few of their tokens."""
    return _Builder("words", method, tuple(parameters.items()))


def table_by(method: str, **parameters: Any) -> Callable[[int], Subject]:
    """A builder of classifiers of a table, scikit-learn's breast cancer data, that ship this explainer."""
    return _Builder("table", method, tuple(parameters.items()))


class _Builder:
    """A function of the seed that can be sent to another process."""

    def __init__(self, kind: Kind, method: str, parameters: tuple[tuple[str, Any], ...]) -> None:
        self._kind = kind
        self._explainer = {"method": method, **dict(parameters)}

    def __call__(self, seed: int) -> Subject:
        train, test = _DATA[self._kind](seed)
        return Subject(
            self._kind,
            _TASKS[self._kind],
            trained(seed, self._kind),
            {"train": train, "test": test},
            explainer=self._explainer,
        )


def trained(seed: int, kind: Kind = "digits") -> nn.Module:
    """A classifier of these data; a new copy each time, trained once in a process."""
    model = _NETWORKS[kind](seed)
    model.load_state_dict(_trained(seed, kind))
    return model


@lru_cache(maxsize=128)
def _trained(seed: int, kind: Kind) -> dict[str, Tensor]:
    train, _ = _DATA[kind](seed)
    model = _NETWORKS[kind](seed)
    fit(model, *train, seed=seed)
    return model.state_dict()


@lru_cache(maxsize=4)
def digits(seed: int) -> tuple[Examples, Examples]:
    """scikit-learn's digits, ``(n, 1, 8, 8)`` in [0, 1], split at random into train and test."""
    from sklearn.datasets import load_digits

    data = load_digits()
    images = torch.tensor(data.images, dtype=torch.float32)[:, None] / 16
    targets = torch.tensor(data.target)
    return _halves(images, targets, TEST, seed)


@lru_cache(maxsize=4)
def table(seed: int) -> tuple[Examples, Examples]:
    """scikit-learn's breast cancer data, 30 standardised columns, split at random into train and test (200)."""
    from sklearn.datasets import load_breast_cancer

    data = load_breast_cancer()
    columns = torch.tensor(data.data, dtype=torch.float32)
    return _halves((columns - columns.mean(0)) / columns.std(0), torch.tensor(data.target), 200, seed)


@lru_cache(maxsize=4)
def words(seed: int) -> tuple[Examples, Examples]:
    """Made-up texts, ``(n, LENGTH)`` token ids, 1,200 to train on and `TEST` held out.

    Each text holds `SIGNAL` tokens of its class, at random places; token ``1 + c * OWN + k`` is the k-th of class c.
    All others are neutral, numbered from ``1 + CLASSES * OWN``; token 0 of the vocabulary is never drawn, and can stand for "nothing".
    """
    rng = torch.Generator().manual_seed(seed)
    examples = 1200 + TEST
    targets = torch.randint(CLASSES, (examples,), generator=rng)
    tokens = torch.randint(1 + CLASSES * OWN, VOCABULARY, (examples, LENGTH), generator=rng)
    places = torch.rand(examples, LENGTH, generator=rng).argsort(1)[:, :SIGNAL]
    own = 1 + targets[:, None] * OWN + torch.randint(OWN, (examples, SIGNAL), generator=rng)
    return _halves(tokens.scatter(1, places, own), targets, TEST, seed)


def _halves(inputs: Tensor, targets: Tensor, held_out: int, seed: int) -> tuple[Examples, Examples]:
    order = torch.randperm(len(targets), generator=torch.Generator().manual_seed(seed))
    train, test = order[held_out:], order[:held_out]
    return (inputs[train], targets[train]), (inputs[test], targets[test])


def network(seed: int) -> nn.Module:
    """Two convolutions and two linear layers with ReLU, in evaluation mode, about 20,000 parameters."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layers = torch.nn.Sequential(
            torch.nn.Conv2d(1, 16, 3, padding=1),
            torch.nn.ReLU(),
            torch.nn.Conv2d(16, 32, 3, padding=1),
            torch.nn.ReLU(),
            torch.nn.MaxPool2d(2),
            torch.nn.Flatten(),
            torch.nn.Linear(512, 32),
            torch.nn.ReLU(),
            torch.nn.Linear(32, 10),
        )
    return layers.eval()


def reader(seed: int) -> nn.Module:
    """Token embeddings of width 16, a convolution over three tokens, the mean over the text, two linear layers."""

    class Reader(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = torch.nn.Embedding(VOCABULARY, 16)
            self.shapes = torch.nn.Conv1d(16, 32, 3, padding=1)
            self.hidden = torch.nn.Linear(32, 32)
            self.logits = torch.nn.Linear(32, CLASSES)

        def forward(self, tokens: Tensor) -> Tensor:
            found = torch.relu(self.shapes(self.embedding(tokens).transpose(1, 2))).mean(2)
            logits: Tensor = self.logits(torch.relu(self.hidden(found)))
            return logits

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Reader().eval()


def perceptron(seed: int) -> nn.Module:
    """Two hidden layers of 32 with ReLU over the 30 columns of `table`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layers = torch.nn.Sequential(
            torch.nn.Linear(30, 32), torch.nn.ReLU(), torch.nn.Linear(32, 32), torch.nn.ReLU(), torch.nn.Linear(32, 2)
        )
    return layers.eval()


def fit(model: nn.Module, inputs: Tensor, targets: Tensor, *, seed: int, epochs: int = 8, batch: int = 64) -> None:
    """Train a classifier by Adam on cross-entropy, in evaluation mode, in an order that follows from the seed."""
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(epochs):
        for chosen in torch.randperm(len(targets), generator=generator).split(batch):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(inputs[chosen]), targets[chosen]).backward()
            optimizer.step()
    model.requires_grad_(requires_grad=True)
    optimizer.zero_grad(set_to_none=True)


_DATA: Mapping[Kind, Callable[[int], tuple[Examples, Examples]]] = {"digits": digits, "words": words, "table": table}
_NETWORKS: Mapping[Kind, Callable[[int], nn.Module]] = {"digits": network, "words": reader, "table": perceptron}
_TASKS: Mapping[Kind, str] = {
    "digits": "image-classification",
    "words": "text-classification",
    "table": "tabular-classification",
}
