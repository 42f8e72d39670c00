"""Read a flat YAML file into a settings model; every mistake is one clear line."""

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from fedapt_crypto.errors import InvalidInput
from fedapt_crypto.private_files import PRIVATE_FILE_MODE, write_atomically
from fedapt_secure.config import ranges
from fedapt_secure.process.paths import check_path

SessionDelta = Annotated[float, ranges.SESSION_DELTA]
"""δ of one session, in (0, `LARGEST_DELTA`]."""


class Settings(BaseModel):
    """Base of all settings: frozen, no unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


SettingsT = TypeVar("SettingsT", bound=BaseModel)


class _FlatLoader(yaml.SafeLoader):
    """Safe YAML in which a repeated key is a mistake, not a silent last word, and nothing refers to itself.

    Aliases and merged keys let a short file stand for any number of values.
    """

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            event: Any = self.get_event()  # type: ignore[no-untyped-call]
            problem = "an alias (*) stands here: write out what it is"
            raise yaml.composer.ComposerError(None, None, problem, event.start_mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(
                    None, None, f"{key!r} stands here twice", node.start_mark
                )
        return super().construct_mapping(node, deep)


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a flat YAML mapping.

    Raises:
        InvalidInput: If the file cannot be read, is not YAML, or is not a flat mapping.
    """
    try:
        fields = yaml.load(path.read_text(encoding="utf-8"), _FlatLoader)  # noqa: S506 - a SafeLoader
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise InvalidInput(f"cannot read {path}: {reason}") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark is not None else ""
        problem = getattr(error, "problem", None) or "not YAML"
        raise InvalidInput(f"{path}{where}: {problem}") from None
    except (ValueError, KeyError, AttributeError, RecursionError):
        # What PyYAML lets through from values that look like numbers or dates and are none.
        raise InvalidInput(f"{path}: a value is not what its notation says; put it in quotes") from None
    if fields is None:
        return {}
    if not isinstance(fields, dict) or not all(isinstance(key, str) for key in fields):
        raise InvalidInput(f"{path}: expected 'option: value' lines")
    return fields


def build(
    model: type[SettingsT], fields: Mapping[str, Any], *, source: str, as_options: bool = False
) -> SettingsT:
    """Validate fields into ``model``.

    Args:
        model: What to build.
        fields: Plain values.
        source: Where they come from, for messages.
        as_options: Name fields in messages as options of the command line.

    Raises:
        InvalidInput: For an unknown key (with the nearest known one) or a value that does not fit.
    """
    for key in fields:
        if key not in model.model_fields:
            near = difflib.get_close_matches(key, model.model_fields, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(model.model_fields)}"
            raise InvalidInput(f"{source}: unknown option {key!r}; {hint}")
    try:
        built = model.model_validate(dict(fields))
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        message = first["msg"].removeprefix("Value error, ")
        field = model.model_fields.get(where)
        if first["type"] == "string_pattern_mismatch" and field is not None and field.description:
            message = f"give {field.description}"  # a person reads no regular expressions
        if as_options and where:
            where = "--" + where.replace("_", "-")
        raise InvalidInput(f"{source}: {where}: {message}" if where else f"{source}: {message}") from None
    for name in model.model_fields:
        value = getattr(built, name)
        if isinstance(value, Path):
            check_path(value, f"{source}: {'--' + name.replace('_', '-') if as_options else name}")
    return built


def write_yaml(path: Path, settings: BaseModel, *, comment: str, mode: int = PRIVATE_FILE_MODE) -> None:
    """Write settings so that `read_yaml` and `build` give them back."""
    fields = settings.model_dump(mode="json")
    text = "".join(f"# {line}\n" for line in comment.splitlines())
    text += yaml.safe_dump(fields, sort_keys=False, allow_unicode=True)
    write_atomically(path, text.encode(), mode=mode)
