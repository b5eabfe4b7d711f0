"""`UserModules`: imports the user's Python, whatever the files beside the workflow are called."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from pydantic import ValidationError

from engine.errors import UserError
from engine.workflow.mistakes import first_mistake

OWN_FOLDER = Path(__file__).resolve().parents[2]


class UserModules:
    """Modules of one folder, loaded from their files under names of their own.

    The folder goes to the end of `sys.path`, so that user files can import their neighbours, but a
    neighbour called `engine.py` hides nothing of headgate.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._loaded: dict[Path, ModuleType] = {}
        # Our own folder comes first, also if headgate is installed with an import hook that is used
        # only after `sys.path`.
        for folder_path in (str(OWN_FOLDER), str(folder)):
            if folder_path not in sys.path:
                sys.path.append(folder_path)

    def load_file(self, path: Path) -> ModuleType:
        """Raises `UserError` with the type, message and line of whatever the file raises."""
        path = path.resolve()
        digest = hashlib.sha256(str(path).encode("utf-8", "surrogateescape")).hexdigest()[:12]
        name = f"headgate_user_{path.stem}_{digest}"
        spec = importlib.util.spec_from_file_location(name, path)
        if spec is None or spec.loader is None:
            raise UserError(f"{path} can't be imported as Python")
        module = importlib.util.module_from_spec(spec)
        # Registered while it runs: dataclasses and pickle look their module up by name.
        sys.modules[name] = module
        try:
            spec.loader.exec_module(module)
        except (Exception, SystemExit) as error:
            del sys.modules[name]
            raise UserError(_mishap(error, path)) from None
        self._loaded[path] = module
        return module

    def function(self, reference: str, column: str, workflow_path: Path) -> Callable[..., Any]:
        """The callable that `module:function` names, seen from the workflow's folder."""
        module_name, _, function_name = reference.partition(":")
        where = f'{workflow_path}: column "{column}" names the function "{reference}"'
        module = self._module(module_name, where)
        function = getattr(module, function_name, None)
        if function is None:
            raise UserError(f'{where}, but there is no "{function_name}" in that module')
        if not callable(function):
            raise UserError(f'{where}, but "{function_name}" is a {type(function).__name__}')
        checked: Callable[..., Any] = function
        return checked

    def _module(self, name: str, where: str) -> ModuleType:
        file = self._folder / f"{name}.py"
        if file.is_file():
            return self._loaded.get(file.resolve()) or self.load_file(file)
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name is not None and (name + ".").startswith(error.name + "."):
                raise UserError(
                    f'{where}, but there is no module "{name}" in {self._folder}'
                ) from None
            raise UserError(f"{where}: {_mishap(error, None)}") from None
        except (Exception, SystemExit) as error:
            raise UserError(f"{where}: {_mishap(error, None)}") from None


def _mishap(error: BaseException, path: Path | None) -> str:
    """One sentence: where the user's module went wrong, and how."""
    if isinstance(error, SyntaxError):
        return f"{error.filename}, line {error.lineno}: SyntaxError: {error.msg}"
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if path is None or f.filename == str(path)]
    where = f"{own[-1].filename}, line {own[-1].lineno}" if own else str(path)
    if isinstance(error, ValidationError):
        return f"{where}: {first_mistake(error, None)}"
    message = " ".join(str(error).split())
    return f"{where}: {type(error).__name__}" + (f": {message}" if message else "")
