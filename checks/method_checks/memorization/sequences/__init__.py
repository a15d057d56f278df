"""Sequences of tokens as causal language models see them: what is predicted, how likely it is, and what is content."""
