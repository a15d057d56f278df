"""Cards, checks and records as people read them: pages, notebooks, the terminal. Nothing here measures, and nothing needs torch."""
