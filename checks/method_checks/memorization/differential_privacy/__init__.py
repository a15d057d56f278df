"""Differential privacy from both sides: what noise promises (`gaussian`), and what one training shows of a promise (`one_run`)."""
