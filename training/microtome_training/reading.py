"""From a recipe's file to a `Recipe`: every key known, every value of its type.

A recipe is a shipped name or a YAML file with the fields of `Recipe`; `--set section.key=value`
changes single values, each read as YAML. Messages name keys by their dotted path.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, get_args, get_origin, get_type_hints

import yaml

from microtome.errors import SettingError
from microtome_training.recipe import Recipe

REFERENCE_BASE = "kimia-reference"
"""What settings files of the reference, which only name a network, are fitted by."""
SHIPPED = resources.files("microtome_training") / "recipes"


def shipped_recipes() -> list[str]:
    """Names of the recipes that come with the package, sorted."""
    return sorted(
        file.name.removesuffix(".yaml") for file in SHIPPED.iterdir() if file.name.endswith(".yaml")
    )


def load_recipe(names: Sequence[str], overrides: Iterable[str] = ()) -> Recipe:
    """Read a recipe.

    Args:
        names: a shipped recipe or a YAML file; or several settings files of the LGFFEM reference,
            which are merged and fitted by the shipped recipe `REFERENCE_BASE`.
        overrides: `section.key=value`, applied in order.

    Raises:
        SettingError: no such recipe, no YAML, an unknown key, or a value that can't be right.
    """
    if not names:
        raise SettingError(
            "name a recipe: a shipped one or a YAML file",
            remedy=f"Shipped are {', '.join(shipped_recipes())}.",
        )
    if len(names) == 1:
        return build_recipe(_read(names[0]), overrides)
    return build_recipe(_from_reference(names), overrides)


def build_recipe(content: Mapping[str, Any], overrides: Iterable[str] = ()) -> Recipe:
    """Make a recipe of plain mappings, e.g. those of the reference's settings files.

    Raises:
        As `load_recipe`.
    """
    tree = {key: dict(value) if _is_table(value) else value for key, value in content.items()}
    for override in overrides:
        _override(tree, override)
    recipe: Recipe = _build(Recipe, tree, "")
    return recipe


def recipe_facts(recipe: Recipe) -> dict[str, Any]:
    """The recipe as plain values for JSON; `build_recipe` reads them back."""
    facts: dict[str, Any] = dataclasses.asdict(recipe)
    return facts


def _read(name: str) -> dict[str, Any]:
    path = SHIPPED / f"{name}.yaml" if name in shipped_recipes() else Path(name)
    if not path.is_file():
        close = difflib.get_close_matches(name, shipped_recipes(), n=3)
        raise SettingError(
            f"there is no recipe {name!r}, nor a file of that name",
            remedy=f"Did you mean {', '.join(close)}?"
            if close
            else f"Shipped are {', '.join(shipped_recipes())}.",
        )
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise SettingError(f"the recipe {name} can't be read: {error}") from None
    if not _is_table(content):
        raise SettingError(f"the recipe {name} must hold one table of sections")
    return dict(content)


def _from_reference(names: Sequence[str]) -> dict[str, Any]:
    """A recipe of the LGFFEM reference's settings files: backbone, neck, head."""
    from microtome.models.reference_settings import read_reference_settings

    if len(names) != 3:
        raise SettingError(
            f"{len(names)} recipes were named, but one is fitted at a time",
            remedy="Only the LGFFEM reference's settings are three files: backbone, neck, head.",
        )
    network = read_reference_settings(*names)
    tree = _read(REFERENCE_BASE)
    tree["name"] = "lgffem-reference"
    tree["model"] = {**tree["model"], "config": dataclasses.asdict(network)}
    return tree


def _override(tree: dict[str, Any], text: str) -> None:
    path, mark, value = text.partition("=")
    if not mark:
        raise SettingError(f"--set {text} needs the form section.key=value")
    *sections, key = path.strip().split(".")
    for section in sections:
        inner = tree.setdefault(section, {})
        if not _is_table(inner):
            raise SettingError(f"--set {text}: {section} is no section")
        tree[section] = tree = dict(inner)
    try:
        tree[key] = yaml.safe_load(value)
    except yaml.YAMLError:
        raise SettingError(f"--set {text}: the value is no YAML") from None


def _build(kind: type[Any], tree: Mapping[str, Any], path: str) -> Any:
    """A frozen value of dataclass `kind` from a table."""
    fields = {field.name: field for field in dataclasses.fields(kind)}
    for key in tree:
        if key not in fields:
            close = difflib.get_close_matches(str(key), fields, n=1)
            raise SettingError(
                f"the recipe has an unknown key {_join(path, key)}",
                remedy=f"Did you mean {close[0]}?"
                if close
                else f"Known are {', '.join(sorted(fields))}.",
            )
    for name, field in fields.items():
        required = (
            field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        )
        if required and name not in tree:
            raise SettingError(f"the recipe lacks {_join(path, name)}")
    hints = get_type_hints(kind)
    values = {key: _convert(hints[key], value, _join(path, key)) for key, value in tree.items()}
    try:
        return kind(**values)
    except SettingError as error:
        where = f"{path}." if path else ""
        raise SettingError(f"in the recipe, {where}{error.message}", remedy=error.remedy) from None


def _convert(hint: Any, value: Any, path: str) -> Any:
    """The value in the type that the field is annotated with."""
    if isinstance(hint, UnionType):
        if value is None and NoneType in get_args(hint):
            return None
        hint = next(kind for kind in get_args(hint) if kind is not NoneType)
    origin = get_origin(hint)
    if dataclasses.is_dataclass(hint) or origin is Mapping:
        if not _is_table(value):
            raise SettingError(f"in the recipe, {path} must be a table of keys, not {value!r}")
        return dict(value) if origin is Mapping else _build(hint, value, path)
    if origin is tuple:
        return _convert_list(get_args(hint), value, path)
    if hint is float:
        return _number(value, path)
    if origin is not Literal and (type(value) is not hint):
        raise SettingError(f"in the recipe, {path} must be {_NAMES[hint]}, not {value!r}")
    return value


def _number(value: Any, path: str) -> float:
    """A float; YAML 1.1 takes `1e-3`, with no point, for text."""
    try:
        if isinstance(value, bool):
            raise TypeError
        return float(value)
    except (TypeError, ValueError):
        raise SettingError(f"in the recipe, {path} must be a number, not {value!r}") from None


def _convert_list(kinds: tuple[Any, ...], value: Any, path: str) -> tuple[Any, ...]:
    fixed = Ellipsis not in kinds
    if not isinstance(value, list | tuple) or (fixed and len(value) != len(kinds)):
        size = f"{len(kinds)} values" if fixed else "values"
        raise SettingError(f"in the recipe, {path} must be a list of {size}, not {value!r}")
    return tuple(_convert(kinds[0], one, path) for one in value)


_NAMES = {str: "text", int: "a whole number", bool: "true or false"}


def _join(path: str, key: object) -> str:
    return f"{path}.{key}" if path else str(key)


def _is_table(value: object) -> bool:
    return isinstance(value, Mapping)
