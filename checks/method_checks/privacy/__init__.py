"""Checks of what a method that is meant to hide something leaves to be seen."""
