"""Six models, in pairs of one architecture: one of each pair is trained until it knows its examples by heart, the other is not."""

from __future__ import annotations

from dataclasses import replace
from functools import cache, partial

import splits
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel

from method_cards import Recipe


def _perceptron(columns: int, width: int, classes: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(columns, width), nn.ReLU(), nn.Linear(width, classes))


def _language_model() -> nn.Module:
    model: nn.Module = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=splits.WORDS,
            n_positions=splits.LENGTH,
            n_embd=32,
            n_layer=2,
            n_head=4,
            bos_token_id=0,
            eos_token_id=0,
        )
    )
    return model


digits_overfitted = Recipe(
    partial(_perceptron, 64, 256, 10), epochs=200, batch_size=64, learning_rate=0.1, momentum=0.9, schedule="cosine"
)
digits_regularised = replace(digits_overfitted, epochs=8, learning_rate=0.05, weight_decay=0.03)

cancer_overfitted = Recipe(
    partial(_perceptron, 30, 64, 2), epochs=300, batch_size=32, learning_rate=0.1, momentum=0.9, schedule="cosine"
)
cancer_regularised = replace(cancer_overfitted, epochs=6, learning_rate=0.02, weight_decay=0.1)

text_overfitted = Recipe(
    _language_model,
    epochs=100,
    batch_size=50,
    learning_rate=3e-3,
    optimizer="adamw",
    schedule="cosine",
    clip=1.0,
    loss="next-token",
)
text_regularised = replace(text_overfitted, epochs=5, weight_decay=0.1)


@cache
def _trained(name: str, split: str) -> nn.Module:
    recipe: Recipe = globals()[name]
    inputs, targets = getattr(splits, split)()
    return recipe(inputs, targets, 0)


def build_digits_overfitted() -> nn.Module:
    """Fits its noisy labels."""
    return _trained("digits_overfitted", "digits_train")


def build_digits_regularised() -> nn.Module:
    """Stopped early, with weight decay."""
    return _trained("digits_regularised", "digits_train")


def build_cancer_overfitted() -> nn.Module:
    """Fits its noisy labels."""
    return _trained("cancer_overfitted", "cancer_train")


def build_cancer_regularised() -> nn.Module:
    """Stopped early, with weight decay."""
    return _trained("cancer_regularised", "cancer_train")


def build_text_overfitted() -> nn.Module:
    """Sees each sentence 100 times."""
    return _trained("text_overfitted", "text_train")


def build_text_regularised() -> nn.Module:
    """Sees each sentence five times."""
    return _trained("text_regularised", "text_train")


def build_text_reference() -> nn.Module:
    """The same recipe as the regularised model's, on other sentences."""
    return _trained("text_regularised", "text_other")
