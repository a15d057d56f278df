"""One way to call a model for each task: images, tables, text classification, causal language models."""

from __future__ import annotations

import json
from collections import OrderedDict
from functools import cache
from pathlib import Path
from typing import Any, cast

import pytest
import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor, nn
from torch.utils.data import Dataset

from method_cards import pace
from method_cards.adapters import ADAPTERS, TASKS, as_logits, as_vectors, call, token_ids
from method_cards.check import Context
from method_cards.engine import run_project
from method_cards.errors import CheckError, InputError
from method_cards.execution import Options, Silent, measure
from method_cards.measurement import Measurements
from method_cards.project import Project
from method_cards.registry import Registry
from method_cards.subject import Subject
from method_checks.attribution.completeness import Completeness
from method_checks.attribution.explainers import Gradient, IntegratedGradients
from method_checks.attribution.language_model_attribution import LanguageModelAttribution
from method_checks.attribution.parameter_randomization import ParameterRandomization
from method_checks.memorization.membership_inference import MembershipInference
from tests.helpers import differences, scripted, state_of, step

WORDS = ("[PAD]", "[UNK]", "good", "bad", "very", "not", "film", "plot", "a", "the")


def measured(check: Any, subject: Subject, samples: int = 24, batch: int = 8) -> Measurements:
    status, cause, found = measure(
        step(check, scripted()), Context(subject, samples, 0, batch, scope=check.id), Options(exhaustive=True), Silent()
    )
    assert (status, cause) == ("complete", "")
    return found


# Tables and images


class TwoInputs(nn.Module):
    """Numbers and a category, by name."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(3, 2)
        self.layer = nn.Linear(6, 3)

    def forward(self, numbers: Tensor, category: Tensor) -> Tensor:
        return self.layer(torch.cat([numbers.tanh(), self.embedding(category)], 1))  # type: ignore[no-any-return]


class OneDict(nn.Module):
    """The same, from one dict."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        return self.inner(**batch)  # type: ignore[no-any-return]


class Wrapped(nn.Module):
    """The same, passed on as wrappers do."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        return self.inner(*args, **kwargs)  # type: ignore[no-any-return]


def two_inputs(wrap: Any = lambda model: model) -> Subject:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = wrap(TwoInputs()).eval()
        inputs = {"numbers": torch.randn(64, 4), "category": torch.randint(3, (64,))}
        targets = torch.randint(3, (64,))
    return Subject("two-inputs", "tabular-classification", model, {"train": ({k: v + v.is_floating_point() * 0.1 for k, v in inputs.items()}, targets), "test": (inputs, targets)}, explainer={"method": "integrated-gradients"})  # fmt: skip


@pytest.mark.parametrize("wrap", [lambda model: model, OneDict, Wrapped], ids=["keywords", "one dict", "**kwargs"])
def test_inputs_by_name_reach_the_model(wrap: Any) -> None:
    """Named tensors go in as keywords, or as one dict where the model takes one; the floating-point one is explained."""
    subject = two_inputs(wrap)
    batch = subject.batch("test", (3, 5))
    expected = two_inputs().model(
        **{name: part[[3, 5]] for name, part in cast("Any", subject.split("test"))._pair[0].items()}
    )
    assert torch.equal(subject.outputs(batch), expected)
    assert subject.view(batch).features.shape == (2, 4)
    found = measured(Completeness(), subject)
    assert found.select("gap_above_tolerance", {})[0].values.mean() < 0.2
    assert measured(ParameterRandomization(), subject).select("self_similarity", {})[0].values.min() > 0.999


def test_of_several_inputs_the_explained_one_is_named() -> None:
    """Where several inputs could be explained, the message asks for `attribute_to`, and that decides."""
    inputs = {"left": torch.randn(8, 2), "right": torch.randn(8, 2)}

    class Both(nn.Module):
        def forward(self, left: Tensor, right: Tensor) -> Tensor:
            return torch.cat([left, 2 * right], 1)

    def subject(attribute_to: str) -> Subject:
        return Subject(
            "both",
            "tabular-classification",
            Both().eval(),
            {"test": (inputs, torch.zeros(8))},
            attribute_to=attribute_to,
        )

    unnamed = subject("")
    with pytest.raises(InputError, match="2 floating-point tensors; name the explained one under `attribute_to:`"):
        unnamed.view(unnamed.batch("test", (0,)))
    named = subject("right")
    assert torch.equal(named.view(named.batch("test", (1,))).features, inputs["right"][[1]])


def test_an_mlp_on_a_table_works_unchanged() -> None:
    """Any module that maps a table to logits is measured by every attribution check, and by the membership check."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = nn.Sequential(
            OrderedDict(first=nn.Linear(5, 16), act=nn.GELU(), norm=nn.LayerNorm(16), last=nn.Linear(16, 2))
        ).eval()
        data = {name: (torch.randn(300, 5), torch.randint(2, (300,))) for name in ("train", "test")}
    subject = Subject(
        "mlp", "tabular-classification", model, data, explainer={"method": "integrated-gradients", "steps": 128}
    )
    before = state_of(model)
    assert measured(Completeness(), subject).select("gap_above_tolerance", {})[0].values.mean() < 0.1
    assert (
        measured(ParameterRandomization(), subject).select("signed_similarity", {"position": "full"})[0].values.mean()
        < 0.6
    )
    assert measured(MembershipInference(), subject, samples=256, batch=64).select("membership_auc", {})[0].n == 256
    assert not differences(before, state_of(model))


@pytest.mark.parametrize("shape", [(7,), (7, 1)])
def test_one_logit_is_two_classes(shape: tuple[int, ...]) -> None:
    """A binary model's logit z becomes logits whose softmax is the sigmoid of z."""
    logits = torch.randn(shape)
    assert torch.allclose(as_logits(logits).softmax(1)[:, 1], logits.flatten().sigmoid())


@pytest.mark.parametrize(
    ("output", "message"),
    [
        (torch.zeros(2, 3, 4), r"shape \(2, 3, 4\); classification needs \(batch, class\)"),
        ("text", "the model returned str"),
        ({"scores": torch.zeros(2, 3)}, "the model returned dict"),
        ([], "the model returned list"),
        (None, "the model returned NoneType"),
    ],
)
def test_an_output_that_is_no_logits_is_refused(output: Any, message: str) -> None:
    """The message says what the model returned and what is needed."""
    with pytest.raises(CheckError, match=message):
        as_logits(output)


def test_integer_inputs_cannot_be_explained() -> None:
    """Pixels as bytes have no gradient: the message says to convert them in the data."""
    model = nn.Flatten().eval()
    subject = Subject(
        "bytes", "image-classification", model, {"test": (torch.zeros(4, 1, 2, 2, dtype=torch.uint8), torch.zeros(4))}
    )
    with pytest.raises(InputError, match=r"inputs are torch.uint8: an explanation needs floating-point inputs"):
        subject.adapter.features(subject.batch("test", (0,)).inputs)


def test_every_task_has_an_adapter() -> None:
    """The tasks that method-cards.yaml may name are those that can be called."""
    assert tuple(ADAPTERS) == TASKS


# Encoders and images to images


class Encoder(nn.Module):
    """One convolution, whose map is what it gives."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(1, 5, 3)

    def forward(self, pixel_values: Tensor) -> Any:
        return self.convolution(pixel_values)


def pictures(task: str, model: nn.Module) -> Subject:
    images = torch.rand(12, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    data = {name: (images, torch.arange(12) % 3) for name in ("train", "test")}
    return Subject("pictures", task, model.eval(), data, explainer={"method": "gradient"})


def test_an_encoder_gives_one_vector_for_each_image() -> None:
    """A map is averaged over its places and tokens over the sequence; vectors stay as they are."""
    values = torch.arange(24.0).reshape(1, 4, 2, 3)
    assert as_vectors(values).tolist() == [[2.5, 8.5, 14.5, 20.5]]
    assert torch.equal(as_vectors(values.flatten(2).transpose(1, 2)), as_vectors(values))
    assert torch.equal(as_vectors((values.flatten(1), "anything")), values.flatten(1))
    subject = pictures("image-feature-extraction", Encoder())
    batch = subject.batch("test", range(12))
    assert isinstance(batch.inputs, Tensor)
    assert torch.allclose(subject.outputs(batch), subject.model(batch.inputs).mean((2, 3)))


def test_an_output_that_is_no_representation_is_refused() -> None:
    """One number for each image, or five axes, are no vectors: the message says which shapes are."""
    for wrong in (torch.zeros(4), torch.zeros(4, 1, 2, 2, 2)):
        with pytest.raises(CheckError, match=r"a representation is \(batch, width\)"):
            as_vectors(wrong)


def test_the_vector_of_a_hugging_face_encoder_is_its_pooled_output() -> None:
    """What the model itself calls pooled is taken; without a pooler, the mean over tokens."""
    size = {"image_size": 8, "patch_size": 4, "num_channels": 1, "hidden_size": 8, "intermediate_size": 8}
    config = transformers.ViTConfig(**size, num_hidden_layers=1, num_attention_heads=2)
    for pooled in (True, False):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = transformers.ViTModel(config, add_pooling_layer=pooled)
        subject = pictures("image-feature-extraction", model)
        batch = subject.batch("test", range(12))
        with torch.no_grad():
            given = model.eval()(batch.inputs)
        expected = given.pooler_output if pooled else given.last_hidden_state.mean(1)
        assert torch.allclose(subject.outputs(batch), expected)


def test_an_image_to_image_model_gives_images_of_any_size() -> None:
    """Four axes are images, also smaller ones; vectors are refused."""
    subject = pictures("image-to-image", nn.AvgPool2d(2))
    assert subject.outputs(subject.batch("test", range(3))).shape == (3, 1, 4, 4)
    flat = pictures("image-to-image", nn.Flatten())
    with pytest.raises(CheckError, match=r"shape \(3, 64\); image-to-image needs"):
        flat.outputs(flat.batch("test", range(3)))


@pytest.mark.parametrize("task", ["image-feature-extraction", "image-to-image"])
def test_what_needs_classes_or_a_loss_does_not_apply_to_them(task: str) -> None:
    """No class, no loss: attribution and membership checks say so beforehand, a loss is refused, and the pace can be measured."""
    subject = pictures(task, Encoder() if task == "image-feature-extraction" else nn.AvgPool2d(2))
    for check in (Completeness(), ParameterRandomization(), LanguageModelAttribution()):
        assert task in check.not_applicable(subject)
    assert "has no loss" in MembershipInference().not_applicable(subject)
    with pytest.raises(CheckError, match="has no loss"):
        subject.losses(subject.batch("test", range(3)))
    assert pace.measured(subject, "test") is not None


def test_of_all_bundled_checks_only_their_own_apply_to_them() -> None:
    """Whatever a subject offers, a check that was not made for an encoder or an obfuscation says so before anything is run."""
    own = {
        "image-feature-extraction": {"memorization/deja-vu"},
        "image-to-image": {"privacy/obfuscation-discrimination", "privacy/obfuscation-reversal"},
    }
    for task, expected in own.items():
        model = Encoder() if task == "image-feature-extraction" else nn.AvgPool2d(2)
        subject = pictures(task, model)
        subject.reference = model
        subject.train = lambda _inputs, _targets, _seed, model=model: model
        entries = [entry for entry in Registry.installed() if entry.distribution.startswith("method-cards ")]
        assert {entry.id for entry in entries if not entry.load()().not_applicable(subject)} == expected


# Text classification


@cache
def bert() -> nn.Module:
    """A BERT of two layers with random weights, so large that its outputs differ."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = transformers.BertConfig(
            vocab_size=len(WORDS), hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
            max_position_embeddings=16, num_labels=3, pad_token_id=0, initializer_range=0.5,
        )  # fmt: skip
        model: nn.Module = transformers.BertForSequenceClassification(config)
        return model.eval()


@cache
def tokenizer() -> Any:
    """A word-level tokenizer, as real as any."""
    words = Tokenizer(models.WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="[PAD]", unk_token="[UNK]", model_max_length=12
    )


def texts(count: int = 40) -> list[str]:
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(2, 8, (count,), generator=generator).tolist()
    return [
        " ".join(WORDS[2 + int(word)] for word in torch.randint(8, (length,), generator=generator))
        for length in lengths
    ]


class TokenIds(Dataset[tuple[dict[str, Tensor], int]]):
    """Texts that were encoded beforehand, padded to one length."""

    def __init__(self) -> None:
        self.encoded = tokenizer()(texts(), padding="max_length", max_length=10, return_tensors="pt")

    def __len__(self) -> int:
        return len(self.encoded["input_ids"])

    def __getitem__(self, index: int) -> tuple[dict[str, Tensor], int]:
        return {name: part[index] for name, part in self.encoded.items()}, index % 3


def text_subject(data: Any, **options: Any) -> Subject:
    return Subject(
        "bert", "text-classification", bert(), {"test": data}, explainer={"method": "integrated-gradients"}, **options
    )


def test_texts_and_their_token_ids_are_one_and_the_same() -> None:
    """Texts with a tokenizer give the logits and maps that their token ids give, whatever the padding."""
    from_texts = text_subject((texts(), torch.arange(40) % 3), tokenizer=tokenizer())
    from_ids = text_subject(TokenIds())
    chosen = (4, 8, 15, 16, 23)
    one, other = (subject.batch("test", chosen) for subject in (from_texts, from_ids))
    assert torch.allclose(from_texts.outputs(one), from_ids.outputs(other), atol=1e-5)
    maps = []
    for subject, batch in ((from_texts, one), (from_ids, other)):
        view = subject.view(batch)
        assert view.mask is not None
        found = view.as_map(Gradient().explain(view, 0))
        maps.append(torch.cat([row[kept] for row, kept in zip(found, view.mask, strict=True)]))
    assert torch.allclose(maps[0], maps[1], atol=1e-5)


@pytest.mark.parametrize("kind", ["texts", "ids"])
def test_text_classification_works_end_to_end(kind: str) -> None:
    """A Hugging Face classifier is measured by the attribution checks, on token embeddings, without a word of glue."""
    subject = (
        text_subject((texts(), torch.arange(40) % 3), tokenizer=tokenizer())
        if kind == "texts"
        else text_subject(TokenIds())
    )
    before = state_of(subject.model)
    gaps = measured(Completeness(explainer=IntegratedGradients(steps=64)), subject)
    assert gaps.select("completeness_gap", {})[0].values.mean() < 0.05
    found = measured(ParameterRandomization(explainer=Gradient()), subject)
    assert found.select("self_similarity", {})[0].values.min() > 0.999
    assert abs(found.select("signed_null_similarity", {})[0].values.mean()) < 0.5
    assert found.pictures["maps"].columns[0] == "trained"
    assert not differences(before, state_of(subject.model))


def test_replaced_embeddings_are_what_the_model_sees() -> None:
    """The logits at the model's own embeddings are its own; at others they are others, and no hook stays behind."""
    subject = text_subject(TokenIds())
    view = subject.view(subject.batch("test", (0, 1, 2)))
    with torch.no_grad():
        same, other = view.outputs(view.features, view.rows), view.outputs(view.features * 0, view.rows)
    assert torch.allclose(same, subject.outputs(view.batch), atol=1e-6)
    assert not torch.allclose(same, other, atol=1e-3)
    assert not any(module._forward_hooks for module in subject.model.modules())


def test_a_plain_tensor_of_token_ids_will_do() -> None:
    """A model that takes a tensor of ids, and has one embedding layer, needs no names."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Embedding(10, 4), nn.Flatten(), nn.Tanh(), nn.Linear(24, 3)).eval()
    data = torch.randint(10, (40, 6), generator=torch.Generator().manual_seed(0)), torch.zeros(40)
    subject = Subject(
        "plain", "text-classification", model, {"test": data}, explainer={"method": "integrated-gradients"}
    )
    assert measured(Completeness(), subject).select("completeness_gap", {})[0].values.mean() < 0.05


def test_padding_that_the_embedding_declares_is_no_content() -> None:
    """Without an attention mask, tokens that the embedding layer holds for padding count as such; other layers declare none."""
    ids = torch.tensor([[3, 2, 0, 0], [1, 2, 3, 4]])
    model = nn.ModuleDict({"embedding": nn.Embedding(6, 4, padding_idx=0)})
    adapter = ADAPTERS["text-classification"](model)
    expected = [[True, True, False, False], [True] * 4]
    for inputs in (ids, {"input_ids": ids}):
        found = adapter.mask(inputs)
        assert found is not None
        assert found.tolist() == expected
    model["embedding"] = nn.Embedding(6, 4)
    assert adapter.mask(ids) is None
    assert ADAPTERS["text-classification"](nn.ModuleDict()).mask(ids) is None
    assert adapter.mask({"inputs_embeds": torch.zeros(2, 4, 4)}) is None


class Summed(nn.Module):
    """Token ids to logits, over the sum of those that are not padding."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.layer = nn.Embedding(10, 8), nn.Linear(8, 2)
        with torch.no_grad():
            self.embedding.weight[0] = 0

    def forward(self, ids: Tensor) -> Tensor:
        return self.layer(self.embedding(ids).tanh().sum(1))  # type: ignore[no-any-return]


def test_maps_of_texts_are_compared_where_padding_is_all_zero() -> None:
    """Many equal numbers in embeddings are no background of an image: maps of tokens are compared over all of them."""
    torch.manual_seed(0)
    ids = torch.randint(1, 10, (24, 8)) * (torch.arange(8) < torch.randint(2, 4, (24, 1)))
    subject = Subject(
        "sum", "text-classification", Summed().eval(), {"test": (ids, ids[:, 0] % 2)}, explainer={"method": "gradient"}
    )
    found = measured(ParameterRandomization(), subject)
    assert list(found)


def test_an_embedding_of_whole_texts_cannot_be_explained() -> None:
    """An EmbeddingBag gives one vector for all tokens, so that there is nothing to attribute to each."""
    model = nn.Sequential(OrderedDict(bag=nn.EmbeddingBag(10, 4), layer=nn.Linear(4, 2))).eval()
    ids = torch.randint(0, 10, (6, 5))
    adapter = ADAPTERS["text-classification"](model, "bag")
    assert adapter.outputs(ids).shape == (6, 2)
    with pytest.raises(InputError, match="an explanation needs a vector for each token"):
        adapter.features(ids)
    with pytest.raises(InputError, match="the model has 0 embedding layers"):
        ADAPTERS["text-classification"](model).features(ids)


def test_texts_without_a_tokenizer_are_refused() -> None:
    """The message says where to name one."""
    subject = text_subject((texts(), torch.arange(40) % 3))
    with pytest.raises(InputError, match="name one under `tokenizer:`"):
        subject.batch("test", (0,))


def test_of_several_embeddings_the_token_embedding_is_named() -> None:
    """Two embedding layers are one too many, and a wrong name is said to be wrong."""

    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.tokens, self.positions = nn.Embedding(10, 4), nn.Embedding(6, 4)

        def forward(self, ids: Tensor) -> Tensor:
            return (self.tokens(ids) + self.positions(torch.arange(ids.shape[1]))).mean(1)  # type: ignore[no-any-return]

    def subject(attribute_to: str) -> Subject:
        data = torch.zeros(8, 6, dtype=torch.long), torch.zeros(8)
        return Subject("two", "text-classification", Two().eval(), {"test": data}, attribute_to=attribute_to)

    for attribute_to, message in (
        ("", "has 2 embedding layers; name the token embedding"),
        ("token", "is not a layer of the model"),
    ):
        wrong = subject(attribute_to)
        with pytest.raises(InputError, match=message):
            wrong.view(wrong.batch("test", (0,)))
    right = subject("tokens")
    assert right.view(right.batch("test", (0,))).features.shape == (1, 6, 4)


def test_inputs_without_token_ids_are_refused() -> None:
    """The message says what there is instead."""
    with pytest.raises(InputError, match=r"inputs \['attention_mask'\] hold no `input_ids`"):
        token_ids({"attention_mask": torch.ones(1, 2)})


# Causal language models


@cache
def gpt() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = transformers.GPT2Config(
            vocab_size=len(WORDS),
            n_positions=16,
            n_embd=16,
            n_layer=2,
            n_head=2,
            initializer_range=0.5,
            bos_token_id=0,
            eos_token_id=0,
        )
        model: nn.Module = transformers.GPT2LMHeadModel(config)
        return model.eval()


def language_subject(count: int = 40) -> Subject:
    data = texts(count), torch.zeros(count)
    other = [f"{text} a" for text in texts(count)], torch.zeros(count)
    return Subject("gpt", "text-generation", gpt(), {"train": data, "test": other}, tokenizer=tokenizer())


def test_the_loss_of_a_language_model_is_hugging_faces_own() -> None:
    """Each text's loss is the one that the model computes for that text alone, so padding and the other texts do not count."""
    subject = language_subject()
    found = subject.losses(subject.batch("train", range(12)))
    for text, loss in zip(texts()[:12], found, strict=True):
        ids = tokenizer()(text, return_tensors="pt")["input_ids"]
        with torch.no_grad():
            expected = gpt()(input_ids=ids, labels=ids).loss
        assert loss.item() == pytest.approx(expected.item(), abs=1e-5)


def test_padded_texts_have_the_loss_of_the_whole_batch() -> None:
    """Weighted by their tokens, the losses of a padded batch add up to the loss that Hugging Face gives for the batch."""
    subject = language_subject()
    batch = subject.batch("train", range(8))
    assert isinstance(batch.inputs, dict)
    labels = batch.inputs["input_ids"].masked_fill(batch.inputs["attention_mask"] == 0, -100)
    with torch.no_grad():
        expected = gpt()(**batch.inputs, labels=labels).loss
    weights = (labels[:, 1:] != -100).sum(1)
    assert ((subject.losses(batch) * weights).sum() / weights.sum()).item() == pytest.approx(expected.item(), abs=1e-5)


class Bigrams(nn.Module):
    """A language model whose next token depends on the last one alone."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding.from_pretrained(torch.randn(9, 9, generator=torch.Generator().manual_seed(0)))

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        return self.table(input_ids)  # type: ignore[no-any-return]


def test_padding_on_the_left_counts_no_token_more() -> None:
    """A text's first token follows nothing but padding, so it is not counted: the loss is that of the text without padding."""
    model = Bigrams().eval()
    ids, mask = torch.tensor([[0, 0, 5, 3, 8], [4, 2, 7, 1, 6]]), torch.tensor([[0, 0, 1, 1, 1], [1, 1, 1, 1, 1]])
    padded = {"input_ids": ids, "attention_mask": mask}
    subject = Subject("table", "text-generation", model, {"train": (padded, torch.zeros(2, dtype=torch.long))})
    expected = [
        torch.nn.functional.cross_entropy(model(row[kept])[:-1], row[kept][1:]).item()
        for row, kept in zip(ids, mask.bool(), strict=True)
    ]
    assert subject.losses(subject.batch("train", [0, 1])).tolist() == pytest.approx(expected, rel=1e-6)


def test_membership_is_measured_on_a_language_model() -> None:
    """The scores of the membership check are the negative losses of the texts."""
    subject = language_subject()
    found = measured(MembershipInference(), subject, samples=40)
    indices = Context(subject, 40, 0).indices("train")
    expected = -subject.losses(subject.batch("train", indices)).numpy()
    assert found.select("membership_auc", {})[0].values == pytest.approx(expected, abs=1e-5)


def test_attribution_checks_do_not_apply_to_language_models() -> None:
    """There is no single class to explain, and the reason is given beforehand."""
    subject = language_subject()
    subject.explainer = {"method": "gradient"}
    for check in (Completeness(), ParameterRandomization()):
        assert "text-generation model has none" in check.not_applicable(subject)


def test_a_model_is_called_as_its_forward_says() -> None:
    """Names that forward does not have are not forced on it."""

    class Takes(nn.Module):
        def forward(self, batch: Any) -> Any:
            return batch

    assert call(Takes(), {"x": torch.ones(1)}) == {"x": torch.ones(1)}
    assert torch.equal(call(Takes(), torch.ones(1)), torch.ones(1))


# From method-cards.yaml

TEXT_PROJECT = """
import torch
from tests.test_adapters import bert, texts, tokenizer

def build():
    return bert()

def words():
    return tokenizer()

def test():
    return texts(), torch.arange(40) % 3
"""


def test_a_text_classifier_with_its_tokenizer_is_run_from_a_project(tmp_path: Path) -> None:
    """The tokenizer that method-cards.yaml names encodes the texts of the split, and the bundled card is decided."""
    (tmp_path / "model.py").write_text(TEXT_PROJECT, encoding="utf-8")
    subject = {
        "task": "text-classification",
        "model": "model.py:build",
        "tokenizer": "model.py:words",
        "data": {"test": "model.py:test"},
        "explainer": {"method": "integrated-gradients", "steps": 32},
        "cards": ["integrated-gradients"],
    }
    (tmp_path / "method-cards.yaml").write_text(
        json.dumps({"schema_version": 1, "samples": 40, "subjects": {"bert": subject}}), encoding="utf-8"
    )
    found = run_project(Project.load(tmp_path), "bert")
    assert found.executions
    assert all(execution.status in ("complete", "stopped_early") for execution in found.executions)
    assert all(split.sha256 for execution in found.executions for split in execution.splits)
