"""One typed config per job: YAML in, overrides by ``--set``, errors that name the key.

A job's file ends in::

    if __name__ == "__main__":
        run_job(main)

where ``main(argv)`` calls :func:`job_arguments` with the job's :class:`JobConfig` subclass, whose
fields carry docstrings or descriptions with their units: these are the text of ``--help``.
"""

import argparse
import difflib
import os
import signal
import sys
import textwrap
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, NoReturn, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.fields import FieldInfo

from beholder.config_files import parse_yaml, read_config_file, yaml_fault
from beholder.errors import ConfigError, UserError
from beholder.logs import setup_logging

M = TypeVar("M", bound="JobConfig")


class JobConfig(BaseModel):
    """The base of every config and of its sections: unknown keys refused, immutable.

    A field's docstring (or ``Field(description=...)``) says what it is, with its unit.
    """

    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


# --- reading ------------------------------------------------------------------------------------


def load_config(model_class: type[M], path: str | Path | None, overrides: Sequence[str] = ()) -> M:
    """The config of a YAML file, changed by overrides and validated.

    Args:
        model_class: what it must be.
        path: the YAML file, laid over its ``base``; None starts from the defaults.
        overrides: ``section.key=value`` each, the value parsed as YAML; ``list.0.key=value``
            reaches into a list. The last one wins.

    Raises:
        ConfigError: the file or its base is missing or no YAML mapping, an override has no
            ``=``, a key is unknown (by its full dotted name, with the likely one), missing, or of
            a wrong type.
    """
    data = read_config_file(Path(path)) if path is not None else {}
    keys = [_override(data, text) for text in overrides]
    return validate_config(model_class, data, str(path) if path is not None else "config", keys)


def validate_config(
    model_class: type[M], data: dict[str, Any], where: str, overridden: Sequence[str] = ()
) -> M:
    """A config from data that is already read.

    Args:
        model_class: what it must be.
        data: its fields.
        where: what to call the data's origin in a message.
        overridden: keys that came from ``--set``.

    Raises:
        ConfigError: a key is unknown, missing or of a wrong type.
    """
    try:
        return model_class.model_validate(data)
    except ValidationError as error:
        faults = _faults(model_class, data, error, where, overridden)
        raise ConfigError("\n".join(faults)) from None


def _override(data: dict[str, Any], text: str) -> str:
    """Writes one ``a.b=value`` into the data; returns its key."""
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise ConfigError(f"--set {text}: write it as key=value")
    try:
        parsed = parse_yaml(value)
    except yaml.YAMLError as error:
        raise ConfigError(f"--set {text}: the value is not YAML: {yaml_fault(error)}") from None
    *parents, last = key.split(".")
    node: Any = data
    for name in parents:
        if isinstance(node, dict) and not node.get(name):
            node[name] = {}
        node = _child(node, name, text)
    if isinstance(node, dict):
        node[last] = parsed
    else:
        _child(node, last, text)
        node[int(last)] = parsed
    return key


def _child(node: Any, name: str, text: str) -> Any:
    if isinstance(node, dict):
        return node[name]
    if isinstance(node, list) and name.isdecimal() and int(name) < len(node):
        return node[int(name)]
    held = f"a list of {len(node)}" if isinstance(node, list) else repr(node)
    raise ConfigError(f"--set {text}: there is no '{name}' in {held}")


# --- faults -------------------------------------------------------------------------------------


def _faults(
    model_class: type[BaseModel],
    data: dict[str, Any],
    error: ValidationError,
    where: str,
    overridden: Sequence[str],
) -> list[str]:
    """One sentence a key. A union's branches all complain of one key: they share its sentence."""
    lines: dict[str, list[str]] = {}
    found = error.errors()
    for fault in found:
        depth = len(fault["loc"])
        inside = (o for o in found if o is not fault and o["loc"][:depth] == fault["loc"])
        if fault["type"] == "too_short" and any(inside):
            continue  # a list counts as empty where its only entry is faulty, which is said
        key = _key(data, fault["loc"], missing=fault["type"] == "missing")
        choice = fault["ctx"] if fault["type"] == "union_tag_invalid" else None
        if choice:  # of several sections, by one of their keys
            key = f"{key}.{choice['discriminator'].strip(chr(39))}"
        # A section's own fault may be that of a key which was set in it.
        by_hand = any(f"{key}.".startswith(f"{k}.") or k.startswith(f"{key}.") for k in overridden)
        source = "--set" if by_hand else where
        if fault["type"] == "extra_forbidden":
            text = f"unknown key '{key}': {_hint(model_class, key, fault['loc'])}"
        elif choice:
            text = f"'{key}' is '{choice['tag']}': use one of {choice['expected_tags']}"
        elif fault["type"] == "missing":
            text = f"'{key}' is missing: {_meaning(model_class, key)}"
        else:
            message = fault["msg"].removeprefix("Value error, ")
            if fault["type"] in ("tuple_type", "list_type"):
                message = "write a list, as [a, b]"
            # A section's own message names what is wrong: its whole content doesn't.
            shown = "" if isinstance(fault["input"], Mapping) else f" is {_shown(fault['input'])}"
            named = f"'{key}'{shown}: " if key else ""
            text = named + message[:1].lower() + message[1:]
        lines.setdefault(f"{source}: {key}", []).append(f"{source}: {text}")
    return [min(texts, key=len) for texts in lines.values()]


def _key(data: Any, loc: Sequence[int | str], missing: bool) -> str:
    """A dotted name without the branch names that pydantic puts into a union's locations."""
    names: list[str] = []
    for position, part in enumerate(loc):
        further = loc[position + 1 : position + 2]
        if further and isinstance(data, Mapping) and part in data.values() and further[0] in data:
            continue  # a branch that has a key of its own name, as digits has
        try:
            data = data[part]
        except (KeyError, IndexError, TypeError):
            if not (missing and position == len(loc) - 1):
                continue
        names.append(str(part))
    return ".".join(names)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _hint(model_class: type[BaseModel], key: str, loc: Sequence[int | str]) -> str:
    """What the unknown key was likely meant to be."""
    *parents, name = key.split(".")
    patterns = [_pattern(field.name) for field in _fields(model_class)]
    if any(_matches(pattern, key.split(".")) for pattern in patterns):
        return f"it does not belong to '{loc[-2]}'"
    inside = [p[len(parents)] for p in patterns if _matches(p[: len(parents)], parents)]
    siblings = list(dict.fromkeys(inside))
    close = difflib.get_close_matches(name, siblings, n=1, cutoff=0.6)
    if close:
        return f"did you mean '{'.'.join([*parents, close[0]])}'?"
    elsewhere = [f.name for f in _fields(model_class) if f.name.rpartition(".")[2] == name]
    if elsewhere:
        return f"did you mean '{elsewhere[0]}'?"
    return f"use one of {', '.join(siblings)}" if siblings else "see --help for the keys there are"


def _meaning(model_class: type[BaseModel], key: str) -> str:
    """What to write at a missing key."""
    for field in _fields(model_class):
        if _matches(_pattern(field.name), key.split(".")):
            return f"give {field.type}" + (f", {field.description}" if field.description else "")
    return "see --help"


def _pattern(name: str) -> list[str]:
    """A described name's steps; ``*`` and ``<name>`` stand for any."""
    return name.replace("[]", ".*").split(".")


def _matches(pattern: Sequence[str], steps: Sequence[str]) -> bool:
    return len(pattern) == len(steps) and all(
        p in (step, "*", "<name>") for p, step in zip(pattern, steps, strict=True)
    )


# --- describing ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Field:
    """One settable field: dotted name (``mix[].weight`` inside a list), type, default, meaning."""

    name: str
    type: str
    default: str
    description: str


def _fields(model_class: type[BaseModel], prefix: str = "") -> Iterator[Field]:
    """Every leaf field, sections opened."""
    for name, info in model_class.model_fields.items():
        sections = list(_sections(info.annotation))
        for suffix, section in sections:
            yield from _fields(section, f"{prefix}{name}{suffix}.")
        if not sections:
            described = " ".join((info.description or "").split())
            yield Field(f"{prefix}{name}", _type(info.annotation), _default(info), described)


def _sections(annotation: Any) -> Iterator[tuple[str, type[BaseModel]]]:
    """The models inside an annotation, each with ``[]`` or ``.<name>`` where it is one of many."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield "", annotation
        return
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType, typing.Annotated):
        suffix = ""
    elif isinstance(origin, type) and issubclass(origin, Mapping):
        suffix, arguments = ".<name>", arguments[1:]
    else:
        suffix = "[]"
    for argument in arguments:
        for inner, model in _sections(argument):
            yield f"{suffix}{inner}", model


def _type(annotation: Any) -> str:
    """A type as a person reads it: ``'a' | 'b'``, ``int | None``, ``list[str]``."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation is type(None):
        return "none"
    if origin is typing.Annotated:
        return _type(arguments[0])
    if origin is typing.Literal:
        return " | ".join(map(repr, arguments))
    if origin in (typing.Union, types.UnionType):
        return " | ".join(_type(argument) for argument in arguments)
    if origin is not None:
        inside = ", ".join("..." if a is ... else _type(a) for a in arguments)
        return f"{getattr(origin, '__name__', origin)}[{inside}]"
    return getattr(annotation, "__name__", str(annotation))


def _default(info: FieldInfo) -> str:
    if info.is_required():
        return "required"
    value = info.get_default(call_default_factory=True, validated_data={})
    return f"default {'none' if value is None else value}"


def describe(model_class: type[BaseModel]) -> str:
    """Every field by its dotted name, with type, default and description, for ``--help``."""
    lines = []
    for field in _fields(model_class):
        lines.append(f"  {field.name}  ({field.type}, {field.default})")
        lines += textwrap.wrap(
            field.description, 92, initial_indent=" " * 6, subsequent_indent=" " * 6
        )
    return "\n".join(lines)


def dump_config(config: BaseModel) -> str:
    """The resolved config as YAML, defaults included: :func:`load_config` reads it back equal."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


# --- the command line ---------------------------------------------------------------------------


@dataclass(frozen=True)
class JobArguments(Generic[M]):
    """A parsed command line.

    Attributes:
        config: the resolved config.
        flags: the job's own switches by name, as ``{"dry-run": True}``.
    """

    config: M
    flags: Mapping[str, bool]


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message}: see --help")


def job_arguments(
    model_class: type[M],
    argv: Sequence[str],
    description: str,
    flags: Mapping[str, str] = types.MappingProxyType({}),
    options: Mapping[str, str] = types.MappingProxyType({}),
) -> JobArguments[M]:
    """The command line that every job has: ``--config FILE``, ``--set KEY=VALUE``, ``--help``.

    Args:
        model_class: the job's config.
        argv: the arguments, without the program's name.
        description: what the job does; shown by ``--help``.
        flags: switches of the job's own by name with their help, as ``{"dry-run": "..."}``.
        options: short spellings of config keys, as ``{"golden": "golden"}``: ``--golden DIR``
            is then ``--set golden=DIR``, taken as a string and not as YAML.

    Raises:
        ConfigError: an unknown argument, or whatever :func:`load_config` refuses.
    """
    parser = _Parser(
        description=description,
        epilog=f"config fields, for the file and for --set:\n{describe(model_class)}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--config",
        metavar="FILE",
        help="YAML file with the config; with 'base: OTHER.yaml', only what differs from that "
        "file, whose path is relative to this one",
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="change one config field"
    )
    for flag, text in flags.items():
        parser.add_argument(f"--{flag}", action="store_true", help=text, dest=f"flag {flag}")
    for option, key in options.items():
        parser.add_argument(
            f"--{option}", dest=f"option {option}", metavar="VALUE", help=f"the same as --set {key}"
        )
    parsed = vars(parser.parse_args(list(argv)))
    given = {key: parsed[f"option {option}"] for option, key in options.items()}
    quoted = [f"{k}={yaml.safe_dump(v)}" for k, v in given.items() if v is not None]
    config = load_config(model_class, parsed["config"], [*quoted, *parsed["set"]])
    return JobArguments(config, {flag: parsed[f"flag {flag}"] for flag in flags})


def _end_ray() -> None:
    """Ends a job's connection to Ray, which passes its workers' lines on until then.

    What is printed behind this is a job's last line. Jobs that know nothing of Ray never import it.
    """
    if "ray" in sys.modules:
        sys.modules["ray"].shutdown()


def run_job(main: Callable[[list[str]], int | None]) -> NoReturn:
    """Runs a job's ``main(argv)`` and exits: 0 or what it returned, after a user's error its
    ``exit_code``, which is 2 as a rule.

    A :class:`UserError` becomes one line on stderr, without a traceback unless the environment
    variable ``BEHOLDER_DEBUG`` is 1. An interrupt exits with 130, a reader that has seen enough
    (``| head``) with 141, as a shell would.
    """
    setup_logging()
    # Asked to end, it cleans up as after an interrupt.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        code = main(sys.argv[1:]) or 0
        sys.stdout.flush()
        sys.exit(code)
    except UserError as error:
        if os.environ.get("BEHOLDER_DEBUG") == "1":
            raise
        _end_ray()
        # Ray raises a worker's error wrapped into its traceback, the original as `cause`.
        cause = getattr(error, "cause", None)
        print(f"error: {cause if isinstance(cause, UserError) else error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
