"""Configurations of other programs, as workflows."""
