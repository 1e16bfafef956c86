"""The base of every error that is meant for the person who typed the command."""


class UserError(Exception):
    """A wrong input. ``str`` of it is one sentence with the offending value and the remedy."""
