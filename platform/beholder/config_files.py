"""Config files: YAML mappings, of which one may say only what differs from another.

``base: other.yaml``, a path relative to the file, lays the file over that one: mappings merge key
by key, everything else replaces what is below, lists too. A base may have a base.
"""

from pathlib import Path
from typing import Any

import yaml

from beholder.errors import ConfigError

BASE = "base"
"""The key that names the file below; no config has a field of this name at its top."""


def read_config_file(path: Path) -> dict[str, Any]:
    """The content of a file and of all files below it, without ``base``.

    Raises:
        ConfigError: a file is missing, can't be read or is no YAML mapping, or a base leads back
            to a file above it.
    """
    return _read(path, ())


class _OnceLoader(yaml.SafeLoader):
    """PyYAML's safe loader, which takes a key once: it would silently keep the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if key.tag == "tag:yaml.org,2002:str" and key.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"give key '{key.value}' once, not again", key.start_mark
                )
            seen.add(key.value)
        return super().construct_mapping(node, deep)

    def construct_yaml_timestamp(self, node: yaml.ScalarNode) -> Any:
        """A date; one that no calendar has stays text, of which whoever reads it says more."""
        try:
            return super().construct_yaml_timestamp(node)
        except ValueError:
            return self.construct_scalar(node)


_OnceLoader.add_constructor("tag:yaml.org,2002:timestamp", _OnceLoader.construct_yaml_timestamp)


def parse_yaml(text: str) -> Any:
    """The content of one YAML document.

    Raises:
        yaml.YAMLError: it is none, or gives a key of one mapping twice.
    """
    return yaml.load(text, _OnceLoader)


def yaml_fault(error: yaml.YAMLError) -> str:
    """PyYAML's several lines as one."""
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or str(error)
    at = f" in line {mark.line + 1}, column {mark.column + 1}" if mark is not None else ""
    return f"{problem}{at}"


def _read(path: Path, above: tuple[Path, ...]) -> dict[str, Any]:
    data = _mapping(path, above)
    base = data.pop(BASE, None)
    if base is None:
        return data
    if not isinstance(base, str):
        raise ConfigError(
            f"config file '{path}': base is {base!r}: write the path of one config file, relative "
            "to this one"
        )
    below, chain = path.parent / base, (*above, path)
    if below.resolve() in [file.resolve() for file in chain]:
        names = " -> ".join(str(file) for file in (*chain, below))
        raise ConfigError(f"config file '{path}': base goes round in a circle, {names}: end it")
    return _laid_over(_read(below, chain), data)


def _mapping(path: Path, above: tuple[Path, ...]) -> dict[str, Any]:
    try:
        data = parse_yaml(path.read_text("utf-8"))
    except (FileNotFoundError, IsADirectoryError):
        remedy = f"correct base in '{above[-1]}'" if above else "name one of configs/"
        raise ConfigError(f"config file '{path}' does not exist: {remedy}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"config file '{path}' can't be read: {error}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"config file '{path}' is not YAML: {yaml_fault(error)}") from None
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise ConfigError(
            f"config file '{path}' holds a {type(data).__name__}: write 'key: value' lines"
        )
    return data


def _laid_over(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        old = below.get(key)
        if isinstance(old, dict) and isinstance(value, dict):
            merged[key] = _laid_over(old, value)
        else:
            merged[key] = value
    return merged
