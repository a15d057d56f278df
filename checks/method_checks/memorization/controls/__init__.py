"""Subjects of which it is known what they memorised, one module for each kind of data."""
