"""Shadow models: many models trained like the subject's on random halves of one pool, to learn what each example changes."""
