"""Inside the user's Python: records its Data Designer runs for `headgate exec`.

Only the standard library, Python 3.10 or newer, and nothing of headgate: it need not be installed
where this runs. No failure of it may ever reach the user's run.
"""

from __future__ import annotations


def start() -> None:
    """Wait for Data Designer to be imported. Raises anything: the caller swallows it."""
    from headgate_bootstrap import control, imports

    parent = control.open_control()
    if parent is None:
        return
    parent.mark("loaded")
    imports.after_import("data_designer.engine.resources.resource_provider", _hook)
    imports.after_import("data_designer.interface", _noticed)


def _hook(module: object) -> None:
    from headgate_bootstrap import data_designer

    data_designer.hook(module)


def _noticed(module: object) -> None:
    from headgate_bootstrap import data_designer

    data_designer.noticed()
