"""What the attribution checks cost beside the passes that they need, and beside their peers. Run: ``python -m benchmarks.attribution``.

Everything is timed side by side in one process, in CPU seconds of one thread (on a GPU: wall seconds), no early stopping. For each check:

* floor: the forward and backward passes that its definition needs (`Check.passes`), at the block that is best for each example, the
  least of what is measured before and after. Passes of a smooth network count as those of the network, although Softplus costs more
  than ReLU; a random network explains 64 examples at once and no more, although the best block may be larger.
* seconds: of the check, all of its measurements, nulls and pictures included; the least of the rounds.
* over floor: seconds over floor. Below 1.15 on the ResNet-18 and below 1.5 on the digits CNN is the aim.

A line below it for each peer, Quantus 0.6 or Captum 0.9, on the same examples with the settings named. A peer answers less: one seed,
no null, no interval. Its passes are those that it makes, and its floor is theirs. So its `over floor` is also the limit: nothing that
makes these passes can be faster than the peer by more than that. `as set` is its seconds over ours, each at its own settings; `same work`
is its seconds over floor over ours.

Quantus is not among the dependencies (LGPL);
``pip install --no-deps quantus==0.6.0 cachetools pandas scikit-image opencv-python-headless`` makes it importable. Without it the
column is empty.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("PYTEST", "1")  # no progress bars of Quantus

import argparse
import contextlib
import io
import statistics
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.util import find_spec
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from benchmarks.engine_overhead import digits, digits_cnn, images, resnet18
from method_cards.check import Check, Context, Passes
from method_cards.pace import SIZES
from method_cards.randomness import seeded
from method_cards.registry import Registry
from method_cards.subject import Subject, preserved

GRADIENT = {"method": "gradient"}
MULTIPLIED = {"method": "input-x-gradient"}
SAMPLES = 64
T = TypeVar("T")
QUIET = {"disable_warnings": True, "display_progressbar": False}


@dataclass(frozen=True)
class Setting:
    """A network and its examples."""

    name: str
    model: nn.Module
    inputs: Tensor
    targets: Tensor

    def subject(self) -> Subject:
        """As the checks see it."""
        return Subject(
            "model", "image-classification", self.model, {"test": (self.inputs, self.targets)}, explainer=GRADIENT
        )

    def arrays(self) -> tuple[Any, Any]:
        """As Quantus sees it."""
        return self.inputs.cpu().numpy(), self.targets.cpu().numpy()

    @lru_cache(maxsize=4)  # noqa: B019  (two settings, which live as long as the process)
    def maps(self, *, multiplied: bool = False) -> Any:
        """Gradients, or gradients times the input, made before the clock starts."""
        leaf = self.inputs.clone().requires_grad_()
        (found,) = torch.autograd.grad(self.model(leaf).gather(1, self.targets[:, None]).sum(), leaf)
        return (found * self.inputs if multiplied else found).cpu().numpy()


Peer = Callable[[Setting], object]


@dataclass(frozen=True)
class Case:
    """A check, and what others call the same.

    Attributes:
        check: Its id.
        parameters: Of the check, for each network.
        peers: By name, for each network.
    """

    check: str
    parameters: Mapping[str, Mapping[str, Any]]
    peers: Mapping[str, Mapping[str, Peer]] = field(default_factory=dict)


def quantus() -> Any:
    """The peer, imported late: it takes seconds."""
    import quantus as found  # type: ignore[import-not-found,unused-ignore]  # not a dependency

    return found


def explained() -> dict[str, Any]:
    """Quantus' own gradient."""
    return {"explain_func": quantus().explain, "explain_func_kwargs": {"method": "Saliency"}}


def mprt(setting: Setting) -> object:
    """Model-parameter randomisation, every layer, one seed."""
    return quantus().MPRT(**QUIET)(setting.model, *setting.arrays(), **explained())


def efficient(setting: Setting) -> object:
    """Efficient MPRT: the trained and one fully random network."""
    return quantus().EfficientMPRT(**QUIET)(setting.model, *setting.arrays(), **explained())


def smooth(samples: int) -> Peer:
    """Smooth MPRT."""
    return lambda setting: quantus().SmoothMPRT(nr_samples=samples, **QUIET)(
        setting.model, *setting.arrays(), **explained()
    )


def sensitivity(samples: int) -> Peer:
    """Max-sensitivity."""
    return lambda setting: quantus().MaxSensitivity(nr_samples=samples, lower_bound=0.02, **QUIET)(
        setting.model, *setting.arrays(), **explained()
    )


def captum_sensitivity(samples: int) -> Peer:
    """Captum's max-sensitivity, 64 rows at once, which is its best."""

    def call(setting: Setting) -> object:
        from captum.attr import Saliency
        from captum.metrics import sensitivity_max

        return sensitivity_max(
            Saliency(setting.model).attribute,
            setting.inputs,
            n_perturb_samples=samples,
            target=setting.targets,
            max_examples_per_batch=64,
        )

    return call


def infidelity(patch: int, draws: int) -> Peer:
    """Infidelity by removal of patches."""
    return lambda setting: quantus().Infidelity(n_perturb_samples=draws, perturb_patch_sizes=[patch], **QUIET)(
        setting.model, *setting.arrays(), a_batch=setting.maps().copy()
    )


def captum_infidelity(draws: int) -> Peer:
    """Captum's infidelity under Gaussian noise, 64 rows at once."""

    def noise(inputs: Tensor) -> tuple[Tensor, Tensor]:
        change = 0.1 * torch.randn_like(inputs)
        return change, inputs - change

    def call(setting: Setting) -> object:
        from captum.metrics import infidelity as measured

        return measured(
            setting.model,
            noise,
            setting.inputs,
            torch.from_numpy(setting.maps()).to(setting.inputs),
            target=setting.targets,
            n_perturb_samples=draws,
            max_examples_per_batch=64,
        )

    return call


def flipping(step: int) -> Peer:
    """Pixel flipping, so many features at each step."""
    return lambda setting: quantus().PixelFlipping(features_in_step=step, **QUIET)(
        setting.model, *setting.arrays(), a_batch=setting.maps(multiplied=True).copy()
    )


def road(setting: Setting) -> object:
    """ROAD at nine percentages; three channels raise in Quantus 0.6."""
    return quantus().ROAD(percentages=list(range(10, 100, 10)), **QUIET)(
        setting.model, *setting.arrays(), a_batch=setting.maps(multiplied=True).copy()
    )


def regions(patch: int) -> Peer:
    """Region perturbation, which is removal patch by patch."""
    return lambda setting: quantus().RegionPerturbation(patch_size=patch, **QUIET)(
        setting.model, *setting.arrays(), a_batch=setting.maps(multiplied=True).copy()
    )


CASES = (
    Case(
        "attribution/parameter-randomization",
        {"D": {"explainer": GRADIENT, "seeds": 2}, "R": {"explainer": GRADIENT, "seeds": 2}},
        {"D": {"Quantus MPRT": mprt}, "R": {"Quantus MPRT": mprt}},
    ),
    Case(
        "attribution/efficient-parameter-randomization",
        {"D": {"explainer": GRADIENT, "seeds": 2}, "R": {"explainer": GRADIENT, "seeds": 2}},
        {"D": {"Quantus Efficient MPRT": efficient}, "R": {"Quantus Efficient MPRT": efficient}},
    ),
    Case(
        "attribution/smooth-parameter-randomization",
        {"D": {"explainer": GRADIENT, "draws": 50}, "R": {"explainer": GRADIENT, "draws": 5}},
        {"D": {"Quantus Smooth MPRT n=50": smooth(50)}},
    ),
    Case(
        "attribution/max-sensitivity",
        {"D": {"explainer": GRADIENT, "draws": 200}, "R": {"explainer": GRADIENT, "draws": 4}},
        {
            "D": {"Quantus n=200": sensitivity(200), "Captum n=200": captum_sensitivity(200)},
            "R": {"Quantus n=4": sensitivity(4), "Captum n=4": captum_sensitivity(4)},
        },
    ),
    Case(
        "attribution/infidelity",
        {"D": {"explainer": GRADIENT, "draws": 200}, "R": {"explainer": GRADIENT, "draws": 15}},
        {
            "D": {"Quantus patch=4 n=10": infidelity(4, 10), "Captum n=200": captum_infidelity(200)},
            "R": {"Quantus patch=16 n=1": infidelity(16, 1), "Captum n=15": captum_infidelity(15)},
        },
    ),
    Case(
        "attribution/smooth-activation",
        {
            "D": {"explainer": GRADIENT, "draws": 60, "points": 10},
            "R": {"explainer": GRADIENT, "draws": 15, "points": 2},
        },
    ),
    Case(
        "attribution/pixel-flipping",
        {
            "D": {"explainer": MULTIPLIED, "steps": 64, "orders": 1},
            "R": {"explainer": MULTIPLIED, "steps": 16, "orders": 1},
        },
        {"D": {"Quantus step=1": flipping(1)}, "R": {"Quantus step=512": flipping(512)}},
    ),
    Case(
        "attribution/road",
        {"D": {"explainer": MULTIPLIED, "orders": 1}, "R": {"explainer": MULTIPLIED, "orders": 1}},
        {"D": {"Quantus ROAD": road}},
    ),
    Case(
        "attribution/selectivity",
        {
            "D": {"explainer": MULTIPLIED, "side": 2, "orders": 1},
            "R": {"explainer": MULTIPLIED, "side": 16, "orders": 1},
        },
        {"D": {"Quantus Region Perturbation": regions(2)}, "R": {"Quantus Region Perturbation": regions(16)}},
    ),
    Case("attribution/random-logit", {"D": {"explainer": GRADIENT}, "R": {"explainer": GRADIENT}}),
    Case("attribution/insertion-deletion", {"D": {"explainer": MULTIPLIED, "orders": 1}}),
)
NETWORKS = {"D": "digits CNN, 1×8×8", "R": "ResNet-18, 3×64×64"}


def main() -> None:
    """Time every case and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="a part of the ids of the checks to time")
    parser.add_argument("--networks", nargs="*", default=list(NETWORKS), choices=list(NETWORKS))
    parser.add_argument("--rounds", type=int, default=3, help="the least of so many rounds counts")
    parser.add_argument("--no-peers", action="store_true")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    with_peers = not options.no_peers
    if with_peers and find_spec("quantus") is None:
        print("Quantus is not installed: its column stays empty (see the top of this file)")
    for network in options.networks:
        setting = setting_of(network, options.device)
        print(f"\n{NETWORKS[network]}, {SAMPLES} examples, {clock_name(options.device)}")
        names = ("forward", "backward", "floor", "seconds", "over floor", "as set", "same work")
        print(f"{'check, and its peers':<46}" + "".join(f"{name:>11}" for name in names))
        for case in CASES:
            if options.only in case.check and network in case.parameters:
                print(line(case, network, setting, options.rounds, with_peers=with_peers), flush=True)


def setting_of(network: str, device: str) -> Setting:
    """A network and its examples on a device."""
    model, (inputs, targets) = (digits_cnn(), digits()) if network == "D" else (resnet18(), images())
    return Setting(
        network, model.to(device), inputs[:SAMPLES].contiguous().to(device), targets[:SAMPLES].contiguous().to(device)
    )


def clock_name(device: str) -> str:
    """What is counted."""
    return "CPU seconds of one thread" if device == "cpu" else f"wall seconds, {torch.cuda.get_device_name()}"


def line(case: Case, network: str, setting: Setting, rounds: int, *, with_peers: bool) -> str:
    """The figures of one case, and below them those of its peers."""
    subject = setting.subject()
    check = Registry.installed().get(case.check).load().model_validate(dict(case.parameters[network]))
    before = best_pass(subject, backward=False), best_pass(subject, backward=True)
    subject.block = before[1][1]
    ours = min(spent(subject, lambda: measured(check, subject)) for _ in range(rounds))
    peers = {}
    for name, peer in case.peers.get(network, {}).items():
        if with_peers and (find_spec("quantus") is not None or not name.startswith("Quantus")):
            seconds = min(spent(subject, lambda peer=peer: silent(peer, setting)) for _ in range(rounds))  # type: ignore[misc]
            peers[name] = seconds, passed(setting.model, lambda peer=peer: silent(peer, setting))  # type: ignore[misc]
    after = best_pass(subject, backward=False), best_pass(subject, backward=True)
    each = min(before[0][0], after[0][0]), min(before[1][0], after[1][0])
    passes = check.passes(subject, SAMPLES)
    own = ours / floor(passes, each)
    told = cells(case.check, passes, each, ours)
    for name, (seconds, theirs) in peers.items():
        told += "\n" + cells(f"    {name}", theirs, each, seconds)
        told += f"{seconds / ours:>11.1f}{seconds / floor(theirs, each) / own:>11.1f}"
    return told


def floor(passes: Passes, each: tuple[float, float]) -> float:
    """Seconds of these passes, where one forward and one backward take so many."""
    return passes.forward * each[0] + passes.backward * each[1]


def cells(name: str, passes: Passes, each: tuple[float, float], seconds: float) -> str:
    """The first columns of a line."""
    least = floor(passes, each)
    counts = f"{passes.forward:>11,}{passes.backward:>11,}"
    return f"{name:<46}{counts}{least:>11.3f}{seconds:>11.3f}{seconds / least:>11.2f}"


def passed(model: nn.Module, call: Callable[[], object]) -> Passes:
    """How many examples go through the network, and through copies that are made of it: forward alone, and backward too."""
    seen = {False: 0, True: 0}

    def count(_: nn.Module, given: tuple[Tensor, ...]) -> None:
        seen[torch.is_grad_enabled() and given[0].requires_grad] += len(given[0])

    handle = model.register_forward_pre_hook(count)
    try:
        call()
    finally:
        handle.remove()
    return Passes(seen[False], seen[True])


def measured(check: Check, subject: Subject) -> None:
    """All measurements of a check."""
    context = Context(subject, SAMPLES, batch_size=SAMPLES, scope=check.id)
    with preserved(subject), seeded(0):
        for _ in check.measure(subject, context):
            pass


def silent(peer: Peer, setting: Setting) -> None:
    """A peer without its messages; where it raises, so does the benchmark."""
    silent_call(lambda: peer(setting))


def silent_call(call: Callable[[], T]) -> T:
    """A call without its messages."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        return call()


def spent(subject: Subject, way: Callable[[], object]) -> float:
    """CPU seconds of one call; wall seconds on a GPU."""
    on_gpu = subject.device.type == "cuda"
    clock = time.perf_counter if on_gpu else time.process_time
    if on_gpu:
        torch.cuda.synchronize()
    began = clock()
    way()
    if on_gpu:
        torch.cuda.synchronize()
    return clock() - began


def best_pass(subject: Subject, *, backward: bool) -> tuple[float, int]:
    """Seconds of one example in the block that is fastest for each, and that block."""
    view = subject.view(subject.batch("test", range(SAMPLES)))
    found = []
    for block in SIZES:
        rows = torch.arange(block, device=subject.device) % SAMPLES
        features = view.features[rows]

        def once(features: Tensor = features, rows: Tensor = rows) -> None:
            with torch.set_grad_enabled(backward):
                leaf = features.detach().requires_grad_(backward)
                logits = view.outputs(leaf, rows)
                if backward:
                    torch.autograd.grad(logits.amax(1).sum(), leaf)

        seconds = [spent(subject, once) for _ in range(3)]
        found.append((statistics.median(seconds) / block, block))
        if max(seconds) > 1:
            break
    return min(found)


if __name__ == "__main__":
    main()
