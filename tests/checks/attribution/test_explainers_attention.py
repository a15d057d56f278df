"""Attention rollout follows its paper, and says what to do where a model gives no attentions."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from method_cards.check import Check
from method_cards.errors import CheckError
from method_cards.registry import Registry
from method_cards.subject import Subject
from method_checks.attribution.disconnected_input import DisconnectedInput
from method_checks.attribution.explainers import AttentionRollout
from method_checks.attribution.null_block import NullBlock
from method_checks.attribution.pixel_flipping import PixelFlipping
from method_checks.attribution.relative_feature_importance import RelativeFeatureImportance
from tests.checks.attribution.explained import bert, cnn, draw, images, mlp, table, view_of

ROLLOUT = {"method": "attention-rollout"}


def slow(model: Any, ids: Tensor, mask: Tensor) -> Tensor:
    """The rollout by the paper's recursion, one text and one token at a time."""
    with torch.no_grad():
        attentions = model(input_ids=ids[None], attention_mask=mask[None], output_attentions=True).attentions
    tokens = len(ids)
    held = torch.eye(tokens)
    for attention in attentions:
        mean = torch.stack(list(attention[0])).mean(0)
        new = torch.zeros(tokens, tokens)
        for reader in range(tokens):
            for read in range(tokens):
                new[reader] += (0.5 * mean[reader, read] + 0.5 * (reader == read)) * held[read]
        held = new
    return held


def test_rollout_follows_its_recursion() -> None:
    """Each token's share is what flows to the token that is read, over all layers, averaged over heads."""
    view = view_of(bert(attention="eager"))
    inputs = view.batch.inputs
    assert isinstance(inputs, dict)
    found = {token: view.as_map(AttentionRollout(token=token).explain(view, 0)) for token in ("first", "last", "mean")}
    for example in range(6):
        mask = inputs["attention_mask"][example]
        length = int(mask.sum())
        held = slow(view.model, inputs["input_ids"][example], mask)
        expected = {"first": held[0], "last": held[length - 1], "mean": held[:length].mean(0)}
        for token, map_of in expected.items():
            torch.testing.assert_close(found[token][example], map_of, rtol=1e-4, atol=1e-6)
            assert float(found[token][example].sum()) == pytest.approx(1, abs=1e-5)


def vit(attention: str = "eager") -> Subject:
    from transformers import ViTConfig, ViTForImageClassification

    torch.manual_seed(0)
    config = ViTConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, image_size=8, patch_size=2, num_labels=4,
        attn_implementation=attention,
    )  # fmt: skip
    data = (draw(6, 3, 8, 8), torch.zeros(6, dtype=torch.long))
    return Subject("vit", "image-classification", ViTForImageClassification(config).eval(), {"test": data})


def test_patches_of_an_image_are_a_grid() -> None:
    """For a vision transformer the class token's row, without itself, is the grid of patches, enlarged bilinearly."""
    view = view_of(vit())
    model: Any = view.model
    with torch.no_grad():
        first, second = model(view.features, output_attentions=True).attentions
    one = (first.mean(1) + torch.eye(17)) / 2
    two = (second.mean(1) + torch.eye(17)) / 2
    grid = (two @ one)[:, 0, 1:].reshape(6, 1, 4, 4)
    expected = torch.nn.functional.interpolate(grid, size=(8, 8), mode="bilinear")[:, 0]
    torch.testing.assert_close(view.as_map(AttentionRollout().explain(view, 0)), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("make", [bert, lambda: vit("sdpa")])
def test_a_model_that_gives_no_attentions_is_refused(make: Any) -> None:
    """An implementation without attentions is refused with the way out, and the configuration stays as it was."""
    view = view_of(make())
    model: Any = view.model
    before = model.config.output_attentions
    with pytest.raises(CheckError, match=r'gives no attentions.*attn_implementation="eager"'):
        AttentionRollout().explain(view, 0)
    assert model.config.output_attentions == before


def test_another_kind_of_model_is_refused() -> None:
    """A model that is none of transformers has no attentions to roll out."""
    with pytest.raises(CheckError, match="needs a model of transformers"):
        AttentionRollout().explain(view_of(images(cnn())), 0)


def attribution_checks(task: str) -> list[type[Check]]:
    """All checks of explainers of this kind of input, the cards' own conditions aside."""
    subject = images(cnn()) if task.startswith("image") else table(mlp())
    every = [entry.load() for entry in Registry.installed() if entry.family == "attribution"]
    return [kind for kind in every if not kind().not_applicable(replace(subject, explainer={"method": "gradient"}))]


@pytest.mark.parametrize("subject", [images(cnn()), table(mlp())], ids=["image", "table"])
def test_no_check_applies_to_a_model_without_attentions(subject: Subject) -> None:
    """The plan says so with the reason and the way out that the error would have; it is no error of a check."""
    asked = attribution_checks(subject.task)
    assert len(asked) > 10
    for kind in asked:
        reason = kind().not_applicable(replace(subject, explainer={"method": "attention-rollout"}))
        assert "needs a model of transformers, whose output holds attentions" in reason, kind.id
        assert "gradient" in reason, kind.id


def test_attentions_that_are_not_given_are_told_before_a_run() -> None:
    """A transformer that computes attention without its weights is not applicable, one that gives them is."""
    assert 'attn_implementation="eager"' in PixelFlipping().not_applicable(replace(bert(), explainer=ROLLOUT))
    assert not PixelFlipping().not_applicable(replace(bert(attention="eager"), explainer=ROLLOUT))
    assert not PixelFlipping().not_applicable(replace(vit(), explainer=ROLLOUT))


def test_networks_of_a_checks_own_have_no_attentions() -> None:
    """Where a check explains a network that it has built, the reason names that network."""
    subject = replace(vit(), explainer=ROLLOUT)
    for kind in (RelativeFeatureImportance, NullBlock, DisconnectedInput):
        assert "the network of this check is none" in kind().not_applicable(subject)
