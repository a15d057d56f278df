"""How many bits of random strings a small GPT can hold: ``python points.py STRINGS:STEPS ...`` adds points to results.json."""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path
from typing import Any

import torch

from gpt import GPT, VOCABULARY, Recipe, code_bits

HERE = Path(__file__).parent
RESULTS = HERE / "results.json"
TOKENS = 32
WIDTH = 32
HELD_OUT = 256


def point(strings: int, steps: int, seed: int = 0) -> dict[str, Any]:
    """Train on so many random strings for so many steps, and count bits."""
    generator = torch.Generator().manual_seed(seed)
    members = torch.randint(VOCABULARY, (strings, TOKENS), generator=generator)
    others = torch.randint(VOCABULARY, (HELD_OUT, TOKENS), generator=generator)
    torch.manual_seed(seed)
    model = GPT(TOKENS, WIDTH)
    before = time.process_time()
    Recipe(steps).train(model, members, generator)
    seconds = time.process_time() - before
    entropy = TOKENS * math.log2(VOCABULARY)
    return {
        "strings": strings,
        "steps": steps,
        "seed": seed,
        "tokens": TOKENS,
        "vocabulary": VOCABULARY,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "dataset_bits": strings * entropy,
        "memorized_bits": strings * entropy - float(code_bits(model, members).sum()),
        "held_out_bits": entropy - float(code_bits(model, others).mean()),
        "cpu_seconds": round(seconds, 1),
    }


def main() -> None:
    """Measure what is asked for, one point after the other; each is written as soon as it is known."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("points", nargs="+", metavar="STRINGS:STEPS")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    torch.set_num_threads(1)
    for text in given.points:
        strings, steps = map(int, text.split(":"))
        found = point(strings, steps, given.seed)
        known = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else []
        same = ("strings", "steps", "seed")
        kept = [row for row in known if any(row[name] != found[name] for name in same)]
        rows = sorted([*kept, found], key=lambda row: (row["steps"], row["strings"], row["seed"]))
        RESULTS.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
        print(found, flush=True)


if __name__ == "__main__":
    main()
