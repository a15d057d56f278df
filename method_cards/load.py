"""Load what ``method-cards.yaml`` names: Python callables and weights. Nothing else of a person's code is ever run."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import pickle
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from method_cards.errors import InputError, did_you_mean
from method_cards.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor, nn


def attribute(reference: str, folder: Path) -> Any:
    """What ``path.py:name`` or ``package.module:name`` names.

    Args:
        reference: The name; paths are relative to ``folder``, which is also where the file's own imports are looked for.
        folder: The folder of ``method-cards.yaml``.

    Raises:
        InputError: The reference has no colon, the file or module is missing, cannot be imported, or has no such name.
    """
    source, colon, name = reference.rpartition(":")
    if not colon or not name.isidentifier():
        raise InputError(f'"{reference}" must be of the form path.py:name or package.module:name')
    try:
        module = _file(folder / source) if source.endswith(".py") else importlib.import_module(source)
    except InputError:
        raise
    except (Exception, SystemExit) as error:  # a script without a main guard may exit when it is imported
        raise InputError(f'"{reference}" cannot be imported: {type(error).__name__}: {error}{_place(error)}') from error
    if not hasattr(module, name):
        public = [key for key in vars(module) if not key.startswith("_")]
        raise InputError(f'"{reference}": {source} has no "{name}".{did_you_mean(name, public)}')
    return getattr(module, name)


def called(reference: str, folder: Path, *arguments: Any) -> Any:
    """What the callable of this reference returns.

    Raises:
        InputError: The reference is wrong, is not callable, or raises.
    """
    function = attribute(reference, folder)
    if not callable(function):
        raise InputError(f'"{reference}" is a {type(function).__name__}; it must be callable')
    try:
        return function(*arguments)
    except (Exception, SystemExit) as error:  # a script without a main guard may exit when it is imported
        raise InputError(f'"{reference}" raised {type(error).__name__}: {error}{_place(error)}') from error


def state(path: Path, *, trust: bool = False) -> dict[str, Tensor]:
    """Parameters and buffers by name from a safetensors file or a state dict.

    Args:
        path: The file.
        trust: Whether to unpickle a file that can run code. Only for files whose author is trusted like one's own code.

    Raises:
        InputError: The file is missing, damaged, holds something else, or could run code and is not trusted.
    """
    if not path.is_file():
        raise InputError(f"{path}: there is no such weights file; train the model first, or correct the path")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            loaded = load_file(path)
            return dict(loaded)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about pickle protocols: what matters is whether the file is refused
            loaded = torch.load(path, map_location="cpu", weights_only=not trust)
    except pickle.UnpicklingError as error:
        raise InputError(
            f"{path}: refused, since loading it could run code: {str(error).splitlines()[0]} Save `model.state_dict()` with safetensors or "
            "torch.save, or set `trust: true` for this subject if you trust the author of the file like your own code"
        ) from error
    except Exception as error:
        raise InputError(
            f"{path}: cannot be read as weights: {type(error).__name__}: {str(error) or 'the file is empty or cut off'}"
        ) from error
    if isinstance(loaded, torch.nn.Module):
        return loaded.state_dict()
    if not isinstance(loaded, dict) or not all(
        isinstance(key, str) and isinstance(value, torch.Tensor) for key, value in loaded.items()
    ):
        raise InputError(
            f"{path}: holds a {type(loaded).__name__}, not a state dict (tensors by name); save `model.state_dict()`"
        )
    return loaded


def fill(model: nn.Module, weights: dict[str, Tensor], origin: str) -> None:
    """Put weights into a model.

    Raises:
        InputError: Names or shapes differ; both sides are named.
    """
    if not isinstance(model, torch.nn.Module):
        raise InputError(
            f"the model is a {type(model).__name__}, not a torch.nn.Module; the callable must return a module"
        )
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        details = " ".join(line.strip() for line in str(error).splitlines()[1:5])
        raise InputError(f"{origin}: the weights do not fit the model: {details}") from error


def _file(path: Path) -> Any:
    if not path.is_file():
        raise InputError(f"{path}: there is no such file")
    resolved = path.resolve()
    name = f"method_cards_project_{hashlib.sha256(str(resolved).encode()).hexdigest()[:12]}_{path.stem}"
    if name in sys.modules:
        return sys.modules[name]
    if str(resolved.parent) not in sys.path:
        sys.path.insert(0, str(resolved.parent))
    spec = importlib.util.spec_from_file_location(name, resolved)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _place(error: BaseException) -> str:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return f" ({trace.tb_frame.f_code.co_filename}:{trace.tb_lineno})" if trace is not None else ""
