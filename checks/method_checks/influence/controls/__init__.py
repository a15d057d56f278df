"""Subjects of which it is known how their training examples act on them."""
