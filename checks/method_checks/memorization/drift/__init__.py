"""What one step of gradient ascent on an example changes in a model, and a classifier of such changes."""
