"""Whatever form data has, it becomes numbered examples; what has no such form is refused with a way out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from method_cards.data import Split, fingerprint
from method_cards.errors import InputError

INPUTS, TARGETS = torch.arange(20.0).reshape(10, 2), torch.arange(10) % 3


class Examples(Dataset[tuple[Any, Any]]):
    """A map-style dataset, as most people write it."""

    def __init__(self, make: Any, count: int = 10) -> None:
        self._make, self._count = make, count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        return self._make(index)  # type: ignore[no-any-return]


class Stream(IterableDataset[tuple[Tensor, Tensor]]):
    """A dataset that gives batches and has no length."""

    def __iter__(self) -> Any:
        return zip(INPUTS.split(4), TARGETS.split(4), strict=True)


FORMS = {
    "pair of tensors": (INPUTS, TARGETS),
    "pair in a list": [INPUTS, TARGETS],
    "targets in a list": (INPUTS, TARGETS.tolist()),
    "targets in a column": (INPUTS, TARGETS[:, None]),
    "targets as floats": (INPUTS, TARGETS.float()),
    "TensorDataset": TensorDataset(INPUTS, TARGETS),
    "map-style dataset": Examples(lambda index: (INPUTS[index], int(TARGETS[index]))),
    "dataset of arrays": Examples(lambda index: (INPUTS[index].numpy(), TARGETS[index].numpy())),
    "list of examples": [(INPUTS[index], int(TARGETS[index])) for index in range(10)],
    "DataLoader": DataLoader(TensorDataset(INPUTS, TARGETS), batch_size=3),
    "generator of batches": "generator",
    "list of batches": list(zip(INPUTS.split(4), TARGETS.split(4), strict=True)),
    "two batches": list(zip(INPUTS.split(5), TARGETS.split(5), strict=True)),
    "stream": Stream(),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_examples(form: str) -> None:
    """The same examples under the same numbers, whatever they were given as."""
    source: Any = zip(INPUTS.split(4), TARGETS.split(4), strict=True) if form == "generator of batches" else FORMS[form]
    split = Split("test", source)
    assert len(split) == 10
    inputs, targets = split.take((7, 0, 3))
    assert isinstance(inputs, Tensor)
    assert torch.equal(inputs, INPUTS[[7, 0, 3]])
    assert torch.equal(targets, TARGETS[[7, 0, 3]])
    assert targets.dtype == torch.int64


@pytest.mark.parametrize(
    "source",
    [
        ({"x": INPUTS, "y": INPUTS + 1}, TARGETS),
        Examples(lambda index: ({"x": INPUTS[index], "y": INPUTS[index] + 1}, int(TARGETS[index]))),
        iter(
            [
                ({"x": INPUTS[:6], "y": INPUTS[:6] + 1}, TARGETS[:6]),
                ({"x": INPUTS[6:], "y": INPUTS[6:] + 1}, TARGETS[6:]),
            ]
        ),
    ],
    ids=["pair", "dataset", "batches"],
)
def test_inputs_may_be_tensors_by_name(source: Any) -> None:
    """Several named inputs stay together."""
    inputs, targets = Split("test", source).take((2, 9))
    assert isinstance(inputs, dict)
    assert torch.equal(inputs["y"], INPUTS[[2, 9]] + 1)
    assert torch.equal(targets, TARGETS[[2, 9]])


@pytest.mark.parametrize(
    "source",
    [
        (["a", "b", "c"], torch.tensor([0, 1, 0])),
        (["a", "b", "c"], [0, 1, 0]),
        [("a", 0), ("b", 1), ("c", 0)],
        Examples(lambda index: ("abc"[index], index % 2), 3),
        iter([(["a", "b"], [0, 1]), (["c"], [0])]),
    ],
    ids=["pair", "lists", "list of examples", "dataset", "batches"],
)
def test_inputs_may_be_texts(source: Any) -> None:
    """Texts stay texts until a tokenizer sees them."""
    inputs, targets = Split("test", source).take((2, 1))
    assert inputs == ["c", "b"]
    assert targets.tolist() == [0, 1]


def test_two_texts_are_two_texts() -> None:
    """A pair of lists of two is inputs and targets, not two examples."""
    inputs, targets = Split("test", (["a", "b"], [0, 1])).take((1,))
    assert (inputs, targets.tolist()) == (["b"], [1])


@pytest.mark.parametrize(
    "source",
    [(torch.zeros(0, 2), torch.zeros(0, dtype=torch.long)), [], iter([]), Examples(None, 0), ([], []), DataLoader(TensorDataset(INPUTS[:0], TARGETS[:0]))],
    ids=["tensors", "list", "iterator", "dataset", "texts", "loader"],
)  # fmt: skip
def test_an_empty_split_is_refused(source: Any) -> None:
    """Nothing can be measured on no examples, and nothing ever passes on them."""
    with pytest.raises(InputError, match='"test" is empty'):
        Split("test", source)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (3, "is a int; give a torch Dataset"),
        (None, "is a NoneType; give a torch Dataset"),
        ("train.csv", "is a str; give a torch Dataset"),
        ({"x": INPUTS}, "is a dict with the keys x; give a torch Dataset"),
        (INPUTS, "is a Tensor; give a torch Dataset"),
        ((INPUTS, TARGETS[:4]), r"\[10\] inputs but 4 targets"),
        (({"x": INPUTS, "y": INPUTS[:3]}, TARGETS), r"\[3, 10\] inputs but 10 targets"),
        ((INPUTS, TARGETS + 0.5), "must be class numbers"),
        ((INPUTS, torch.full((10,), float("nan"))), "must be class numbers"),
        ((INPUTS, 3), "targets are a int; give a tensor of class numbers"),
        ((INPUTS, torch.tensor(3)), "targets are a Tensor; give a tensor of class numbers"),
        ((INPUTS, ["cat"] * 10), "targets are a list of 10; give a tensor of class numbers: the place of each name"),
        ((INPUTS.numpy(), TARGETS), r"inputs are a ndarray; give a tensor.*: `torch.as_tensor\(array\)`"),
        (iter([INPUTS, INPUTS]), "batches must be pairs"),
        (iter(zip(INPUTS, TARGETS, strict=True)), r"one example at a time, not batches; give DataLoader\("),
        ([{"x": INPUTS[0], "label": 1}], "is a list of 1, each a dict with the keys x, label; give a torch Dataset"),
        ((INPUTS, torch.eye(10)), r"give one integer for each example; of one-hot rows, `targets.argmax\(-1\)`"),
        ((INPUTS.to_sparse(), TARGETS), r"inputs are a torch.sparse_coo tensor; give a dense one"),
        ((INPUTS, TARGETS, TARGETS), "is a tuple of 3; give a torch Dataset"),
    ],
)
def test_data_of_another_form_is_refused(source: Any, message: str) -> None:
    """The message says what the data is and what it should be."""
    with pytest.raises(InputError, match=message):
        Split("test", source)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda index: INPUTS[index], "item 2 is a Tensor; a Dataset must give pairs"),
        (lambda index: {"x": INPUTS[index], "label": 1}, "item 2 is a dict with the keys x, label; a Dataset must"),
        (lambda index: (INPUTS[index], INPUTS[index]), "item 2 has the target"),
        (lambda index: (INPUTS[index], "cat"), "item 2 has the target 'cat'; it must be a class number"),
        (lambda index: (INPUTS[index], 0.5), "must be a class number"),
        (lambda index: (INPUTS[index, : 1 + index % 2], 0), "examples cannot be put into one batch"),
        (lambda index: (INPUTS[index + 100], 0), "item 2 of 10 cannot be read: IndexError: index 102 is out of bounds"),
    ],
)
def test_a_dataset_with_other_items_is_refused(make: Any, message: str) -> None:
    """What is wrong with an item is said when it is read, with its number."""
    with pytest.raises(InputError, match=message):
        Split("test", Examples(make)).take((2, 3))


def test_data_takes_no_part_in_gradients() -> None:
    """Inputs that somebody takes gradients of are read as plain numbers, and stay as they are."""
    inputs = INPUTS.clone().requires_grad_()
    for given in (inputs, {"x": inputs}):
        taken, _ = Split("test", (given, TARGETS)).take((0, 1))
        assert not (taken["x"] if isinstance(taken, dict) else taken).requires_grad  # type: ignore[union-attr]  # no texts
    assert inputs.requires_grad


def test_examples_are_drawn_without_replacement_from_the_seed() -> None:
    """The same seed draws the same examples, another one others, more samples begin with the fewer, and none comes twice."""
    split = Split("test", (INPUTS, TARGETS))
    assert split.draw(4, 0) == split.draw(4, 0) == split.draw(10, 0)[:4]
    assert sorted(split.draw(None, 1)) == sorted(split.draw(99, 2)) == list(range(10))
    assert split.draw(None, 1) != split.draw(None, 2)


def test_drawing_is_uniform() -> None:
    """Each example is drawn first about as often as any other."""
    split = Split("test", (INPUTS, TARGETS))
    counts = np.bincount([split.draw(1, seed)[0] for seed in range(2000)], minlength=10)
    assert ((counts - 200) ** 2 / 200).sum() < 27.9  # chi-squared with 9 degrees of freedom, one in a thousand


def test_a_fingerprint_is_of_values_whatever_their_strides() -> None:
    """The same numbers have one fingerprint, even where a dimension of size 1 has a stride of its own."""
    one, other = torch.arange(10.0)[::5][:1], torch.zeros(1)
    assert one.stride() != other.stride()
    assert fingerprint(one, TARGETS) == fingerprint(other, TARGETS)


def test_a_fingerprint_depends_on_values_types_shapes_and_names() -> None:
    """Anything that could change a result changes the digest; the same data gives the same."""
    digests = {
        fingerprint(INPUTS, TARGETS),
        fingerprint(INPUTS + 1e-6, TARGETS),
        fingerprint(INPUTS.double(), TARGETS),
        fingerprint(INPUTS.reshape(10, 1, 2), TARGETS),
        fingerprint(INPUTS, TARGETS + 1),
        fingerprint({"x": INPUTS}, TARGETS),
        fingerprint({"y": INPUTS}, TARGETS),
        fingerprint(["a", "b"], TARGETS[:2]),
        fingerprint(["b", "a"], TARGETS[:2]),
    }
    assert len(digests) == 9
    assert fingerprint(INPUTS.T.contiguous().T, TARGETS) == fingerprint(INPUTS, TARGETS)
    assert fingerprint({"x": INPUTS, "y": INPUTS}, TARGETS) == fingerprint({"y": INPUTS, "x": INPUTS}, TARGETS)
