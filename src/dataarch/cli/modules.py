"""Modules of the user's code that are named on the command line."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

from dataarch.errors import ConfigurationError, shown

__all__ = ["imported"]


def imported(module: str) -> ModuleType:
    """Return a module, which is looked for in the current folder too.

    Raises:
        ConfigurationError: there is no such module, or it cannot be imported.
    """
    if not all(part.isidentifier() for part in module.split(".")):
        raise ConfigurationError(f"{shown(module)} names no module.", hint="Write it as shop.feeds.", value=module)
    if (here := str(Path.cwd())) not in sys.path:
        # the command that is installed has its own folder there instead
        sys.path.insert(0, here)
    try:
        return import_module(module)
    except Exception as broken:
        if isinstance(broken, ModuleNotFoundError) and broken.name and f"{module}.".startswith(f"{broken.name}."):
            raise ConfigurationError(
                f"There is no module {module}.",
                hint="Start in the folder that it is in, or name that folder in PYTHONPATH.",
                value=module,
            ) from None
        raise ConfigurationError(
            f"The module {module} cannot be imported: {type(broken).__name__}: {broken}.",
            hint=f"See all of it with: python -c 'import {module}'.",
            value=module,
        ) from broken
