"""How cells are made: one generator for each kind of column."""

from engine.generators.build import build_generators

__all__ = ["build_generators"]
