"""`headgate settings`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from console.cli import exit_codes
from console.cli.stdout import print_text

if TYPE_CHECKING:
    from console.settings import Settings


@click.command()
@click.option("--example", is_flag=True, help="A whole settings file with the defaults.")
def settings(example: bool) -> int:
    """Say what is set for the console, where, and which keys can be set.

    The file is TOML. It is config.toml in the folder of your settings for headgate, by XDG
    ~/.config/headgate/config.toml; HEADGATE_CONFIG names another one.
    """
    from console.settings import settings_path

    if example:
        print_text("\n".join(_example()))
        return exit_codes.OK
    path = settings_path()
    settings = user_settings()
    thresholds = settings.thresholds
    lines = [
        f"{path}{'' if path.exists() else ' (not there: these are the defaults)'}",
        "",
        f"theme         {settings.theme or 'auto'}",
        f"first_screen  {settings.first_screen}",
        f"mouse         {str(settings.mouse).lower()}",
        f"slow          {str(settings.slow).lower()}",
        f"ascii         {str(settings.ascii).lower()}",
        f"thresholds    old_wait {thresholds.old_wait:g} s, lag {thresholds.lag:g} s",
        "",
        "Keys, by the name that [keys] knows:",
    ]
    from console.settings import global_controls

    controls = list(global_controls())
    width = max(len(control.id) for control in controls)
    for control in controls:
        keys = settings.keys.get(control.id, control.shown)
        lines.append(f"  {control.id:<{width}}  {keys:<8}  {control.help}")
    print_text("\n".join(lines))
    return exit_codes.OK


def _example() -> list[str]:
    from console.palettes import THEMES
    from console.settings import Settings, global_controls

    default = Settings()
    lines = [
        f'theme = "auto"  # or {", ".join(THEMES)}',
        f'first_screen = "{default.first_screen}"',
        "mouse = true",
        "slow = false  # true draws every two seconds: for thin links",
        "ascii = false",
        "",
        "[thresholds]  # seconds",
        f"old_wait = {default.thresholds.old_wait:g}",
        f"lag = {default.thresholds.lag:g}",
        "",
        "[keys]  # names of keys as Textual writes them, several with commas",
    ]
    lines += [f'# "{control.id}" = "{control.keys}"' for control in global_controls()]
    return lines


def user_settings() -> Settings:
    """Raises `UserError` where the file can't be understood."""
    from console.settings import SettingsError, read_settings, settings_path
    from engine.errors import UserError

    try:
        return read_settings(settings_path())
    except SettingsError as error:
        raise UserError(str(error)) from error
