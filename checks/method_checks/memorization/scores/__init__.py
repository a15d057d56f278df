"""Membership scores: one number for each example, larger for what a model was trained on."""
