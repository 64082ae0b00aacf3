"""Reading a manifest: YAML, `--set` overrides, and messages that name the place, the rule and the value."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from sgv_data.errors import ManifestError
from sgv_data.manifest import Manifest
from sgv_data.package_data import packaged_folder

_SOURCE_KINDS = ("folder", "webdataset", "scenes", "table", "llava", "parquet", "img2dataset")


def load_manifest(path: Path, overrides: Iterable[str] = (), runs: Path = Path("runs")) -> Manifest:
    """The manifest at `path` (or the packaged one of that name) with `key.path=value` overrides applied.

    Relative picture paths in the file count from the file's folder, those in overrides from the current folder.
    `runs` is where `captioner.base_model: run:NAME` looks for the run of that name.

    Raises:
        ManifestError: with one line per mistake.
    """
    path, overrides = _find(path), tuple(overrides)
    values = _read_yaml(path)
    _anchor_paths(values, path.parent)
    for override in overrides:
        _apply(values, override)
    _anchor_paths(values, Path.cwd())
    _find_run(values, runs)
    try:
        return Manifest.model_validate(values).came_from(path.absolute(), overrides)
    except ValidationError as exc:
        raise ManifestError("\n".join(f"{path}: {line}" for line in _sentences(exc))) from exc


def _find(path: Path) -> Path:
    if path.is_file():
        return path
    packaged = packaged_folder("manifests") / path.name
    if packaged.is_file() and path.parent.name in ("", "manifests"):
        return packaged
    if path.is_dir():
        raise ManifestError(f"{path} is a folder; a manifest is a YAML file")
    raise ManifestError(f"{path}: no such manifest; those that come with sgv_data: {_packaged_names()}")


def _packaged_names() -> str:
    return ", ".join(sorted(f"manifests/{found.name}" for found in packaged_folder("manifests").glob("*.yaml")))


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as exc:
        raise ManifestError(f"{path}: is no YAML: {' '.join(str(exc).split())}") from exc
    if not isinstance(values, dict):
        raise ManifestError(f"{path}: must be a mapping of keys to values, as in manifests/demo.yaml")
    return values


def _anchor_paths(values: dict[str, Any], folder: Path) -> None:
    """Makes relative paths of pictures, prompts, keys, shared caches and training files absolute."""
    if isinstance(values.get("prompts"), str):
        values["prompts"] = str(folder.absolute() / Path(values["prompts"]).expanduser())
    images = values.get("images")
    for source in images if isinstance(images, list) else ():
        for name in ("path", "images"):
            written = source.get(name) if isinstance(source, dict) else None
            if isinstance(written, str) and not written.startswith("sgv:"):
                source[name] = str(folder.absolute() / Path(written).expanduser())
    captioner = values.get("captioner")
    if isinstance(captioner, dict):
        _anchor_training(captioner, folder)
    teacher = values.get("teacher")
    if isinstance(teacher, dict):
        endpoints = teacher.get("endpoints")
        for section in (teacher, *(endpoints if isinstance(endpoints, list) else ())):
            for name in {"api_key_file", "cache"} & set(section if isinstance(section, dict) else ()):
                if isinstance(section[name], str):
                    section[name] = str(folder.absolute() / Path(section[name]).expanduser())


def _anchor_training(captioner: dict[str, Any], folder: Path) -> None:
    """Makes the captioner's relative paths absolute; a base model that is one starts with a dot or a tilde."""
    conversations = captioner.get("conversations")
    places = [(captioner, name) for name in ("deepspeed", "fsdp")]
    if isinstance(conversations, dict):
        places += [(conversations, name) for name in ("json_file", "images")]
    if str(captioner.get("base_model")).startswith((".", "~")):
        places.append((captioner, "base_model"))
    for section, name in places:
        if isinstance(section.get(name), str):
            section[name] = str(folder.absolute() / Path(section[name]).expanduser())


def _find_run(values: dict[str, Any], runs: Path) -> None:
    """Replaces `captioner.base_model: run:NAME` by the folder of the model that this run trains."""
    captioner = values.get("captioner")
    base = captioner.get("base_model") if isinstance(captioner, dict) else None
    if isinstance(base, str) and base.startswith("run:") and isinstance(captioner, dict):
        captioner["base_model"] = str(runs.absolute() / base.removeprefix("run:") / "train" / "model")


def _apply(values: dict[str, Any], override: str) -> None:
    keys, equals, text = override.partition("=")
    if not equals or not keys:
        raise ManifestError(f"--set {override}: write it as key.path=value, e.g. --set teacher.limits.in_flight=8")
    try:
        value = yaml.safe_load(text) if text else None
    except yaml.YAMLError as exc:
        raise ManifestError(f"--set {override}: the value is no YAML") from exc
    place: Any = values
    *parents, last = keys.split(".")
    for key in parents:
        place = _step(place, key, override)
    if isinstance(place, list):
        place[_position(place, last, override)] = value
    else:
        place[last] = value


def _step(place: Any, key: str, override: str) -> Any:
    """One level down, making a missing or null section on the way."""
    if isinstance(place, list):
        return place[_position(place, key, override)]
    if place.get(key) is None:
        place[key] = {}
    if not isinstance(place[key], dict | list):
        raise ManifestError(f"--set {override}: {key} is a value, not a section")
    return place[key]


def _position(items: list[Any], key: str, override: str) -> int:
    if not key.isdigit() or int(key) >= len(items):
        raise ManifestError(f"--set {override}: {key!r} is no place in a list of {len(items)} (they count from 0)")
    return int(key)


_RULES = {
    "greater_than": "must be > {gt}",
    "greater_than_equal": "must be >= {ge}",
    "less_than": "must be < {lt}",
    "less_than_equal": "must be <= {le}",
    "missing": "is missing",
    "string_type": "must be text",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "bool_parsing": "must be true or false",
    "bool_type": "must be true or false",
    "finite_number": "must be a finite number",
    "model_type": "must be a section with keys of its own",
    "too_short": "must not be empty",
    "literal_error": "must be one of {expected}",
    "union_tag_not_found": "needs a kind: " + ", ".join(_SOURCE_KINDS),
    "union_tag_invalid": "kind must be one of " + ", ".join(_SOURCE_KINDS),
    "string_pattern_mismatch": "must match {pattern}",
}
_NO_LIMIT = ("requests_per_minute", "tokens_per_minute", "budget_usd")


def _sentences(exc: ValidationError) -> list[str]:
    """One line per place; several failed alternatives of a union become one line."""
    lines: dict[str, str] = {}
    for error in exc.errors(include_url=False):
        if error["type"] == "literal_error" and isinstance(error["input"], dict):
            continue  # a section was meant, and what is wrong inside it is said
        steps = [str(step) for step in error["loc"] if step not in (*_SOURCE_KINDS, "Price")]
        alternatives = ("str", "int", "float", "constrained-str")
        if steps and (steps[-1] in alternatives or steps[-1].startswith(("tuple[", "literal["))):
            steps = steps[:-1]
        place = ".".join(steps)
        rule = _RULES.get(error["type"], error["msg"].removeprefix("Value error, "))
        line = f"{place} {rule.format(**error.get('ctx', {})) if error['type'] in _RULES else rule}".strip()
        shown = error["type"] not in ("missing", "unknown_key", "not_a_variable")
        if shown and not isinstance(error["input"], dict | list):
            line += f" (got {error['input']!r})"
        if steps and steps[-1] in _NO_LIMIT:
            line += "; leave it out for no limit"
        lines.setdefault(place if error["type"] != "unknown_key" else line, line)
    return list(lines.values())
