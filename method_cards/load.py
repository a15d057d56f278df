"""Load what ``method-cards.yaml`` names: Python callables and weights. Nothing else of a person's code is ever run."""

from __future__ import annotations

import ast
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
    source, name = _parts(reference)
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


def missing(reference: str, folder: Path) -> str:
    """Why a reference cannot be loaded, as far as that can be told without running any code; empty where nothing is known against it.

    Args:
        reference: As for `attribute`. Of one into a package nothing is known before it is imported.
        folder: The folder of ``method-cards.yaml``.
    """
    try:
        source, name = _parts(reference)
        if not source.endswith(".py"):
            return ""
        names = _names(_existing(folder / source))
    except InputError as error:
        return str(error)
    if names is None or name in names:
        return ""
    return f'{source} has no "{name}".{did_you_mean(name, [known for known in names if not known.startswith("_")])}'


def missing_weights(path: Path) -> str:
    """Why there are no weights in this file; empty where there may be some."""
    return (
        "" if path.is_file() else f"{path}: there is no such weights file; train the model first, or correct the path"
    )


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
    if problem := missing_weights(path):
        raise InputError(problem)
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


def _parts(reference: str) -> tuple[str, str]:
    """The file or module of a reference, and the name in it."""
    source, colon, name = reference.rpartition(":")
    if not colon or not source or not name.isidentifier():
        raise InputError(f'"{reference}" must be of the form path.py:name or package.module:name')
    return source, name


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise InputError(f"{path}: there is no such file")
    return path


def _names(path: Path) -> set[str] | None:
    """What the top level of a Python file binds; None where only running it would tell."""
    try:
        tree = ast.parse(path.read_bytes())
    except SyntaxError as error:
        raise InputError(f"{path}:{error.lineno or 1}: is not Python: {error.msg}") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
    except (RecursionError, MemoryError):
        return None
    found: set[str] = set()
    inside: list[ast.AST] = [tree]
    while inside:
        node = inside.pop()
        if isinstance(node, ast.Import | ast.ImportFrom):
            found |= {alias.asname or alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
            continue  # what is bound in it is its own
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
        inside += ast.iter_child_nodes(node)
    return None if found & {"*", "__getattr__"} or _binds_otherwise(tree) else found


def _binds_otherwise(tree: ast.Module) -> bool:
    """Whether code may bind names of the module in a way that cannot be seen in it."""
    return any(
        isinstance(node, ast.Global | ast.Match)
        or (isinstance(node, ast.Name) and node.id in {"globals", "vars", "locals", "exec", "setattr"})
        for node in ast.walk(tree)
    )


def _file(path: Path) -> Any:
    resolved = _existing(path).resolve()
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
