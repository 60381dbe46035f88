"""Find the functions of derived features in the repository's folder, without importing them."""

from __future__ import annotations

import ast
import hashlib
from pathlib import Path

from featurekit.errors import FeatureKitError, name_hint
from featurekit.loader.files import UnreadableFileError, read_bytes
from featurekit.models.derived import FunctionSource


class FunctionError(FeatureKitError):
    """The function of a derived feature is not where it is declared, or takes other arguments."""


def function_source(root: Path, callable_path: str, inputs: int) -> FunctionSource:
    """Return what is known of a function's module.

    Args:
        root: The repository's folder.
        callable_path: The function, as `module:function`.
        inputs: The number of arguments that it is called with.

    Raises:
        FunctionError: There is no such module or function, or it takes other arguments.
    """
    module, _, name = callable_path.partition(":")
    file = module_file(root, module)
    try:
        data = read_bytes(file)
        tree = ast.parse(data, file.name)
    except UnreadableFileError as error:
        raise FunctionError(f"cannot read {file.name}: {error}") from error
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise FunctionError(f"{file.name} is not valid Python: {error}") from error
    functions = {each.name: each for each in tree.body if isinstance(each, ast.FunctionDef)}
    if name not in functions:
        raise FunctionError(
            f"no function '{name}' in {file.name}", hint=name_hint(name, functions)
        )
    _check_arguments(functions[name].args, name, inputs)
    return FunctionSource(hashlib.sha256(data).hexdigest())


def module_file(root: Path, module: str) -> Path:
    """Return the file of a module in the repository's folder.

    Raises:
        FunctionError: There is none.
    """
    path = Path(*module.split("."))
    for file in (root / path.with_suffix(".py"), root / path / "__init__.py"):
        if file.is_file():
            return file
    raise FunctionError(
        f"no module '{module}' in the repository's folder",
        hint=f"expected the file {path.with_suffix('.py').as_posix()}",
    )


def _check_arguments(arguments: ast.arguments, name: str, inputs: int) -> None:
    most = len(arguments.posonlyargs) + len(arguments.args)
    least = most - len(arguments.defaults)
    is_called = least <= inputs and (inputs <= most or arguments.vararg is not None)
    is_called &= None not in arguments.kw_defaults
    if not is_called:
        takes = f"{least}" if least == most else f"{least} to {most}"
        raise FunctionError(
            f"the function '{name}' takes {takes} positional arguments, and inputs has {inputs}",
            hint="list one input for each argument, in order",
        )
