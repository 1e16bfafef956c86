"""Errors that are meant for the person who typed the command."""


class UserError(Exception):
    """A wrong input. ``str`` of it is one sentence with the offending value and the remedy."""

    exit_code = 2
    """Of a job that it ends."""


class ConfigError(UserError, ValueError):
    """A config that can't be used; several faults are listed one a line."""
