"""Differential privacy seen from both sides: what noise promises (`gaussian`), and what one training shows against a promise (`one_run`)."""
