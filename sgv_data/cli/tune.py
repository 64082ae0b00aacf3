"""`sgv tune`: other limits for a `collect` that runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from sgv_data.cli.options import ManifestPath, Overrides, Runs, load, output
from sgv_data.errors import ManifestError, RunFolderError

_NO_LIMIT = "none"


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command()(tune)


def tune(
    manifest: ManifestPath,
    requests_per_minute: Annotated[
        str | None, typer.Option(metavar="N", help=f"A number, or {_NO_LIMIT} for no limit.", show_default=False)
    ] = None,
    tokens_per_minute: Annotated[
        str | None, typer.Option(metavar="N", help=f"A number, or {_NO_LIMIT} for no limit.", show_default=False)
    ] = None,
    in_flight: Annotated[
        int | None, typer.Option(metavar="N", help="Most requests under way at once.", show_default=False)
    ] = None,
    endpoint: Annotated[
        str | None, typer.Option(metavar="NAME", help="One of teacher.endpoints; left out: all.", show_default=False)
    ] = None,
    set_: Overrides = None,
    runs: Runs = Path("runs"),
) -> None:
    """Change the limits of a collect that is running, from another terminal, without stopping it.

    What is not named stays as it is. It holds until that command ends; for good, write it into the manifest (a running
    collect reads the limits there again when it gets SIGHUP).

    sgv tune manifests/photos.yaml --requests-per-minute 3000 --in-flight 200
    """
    from sgv_data.collect.control import Tune, endpoint_limits, leave_tune

    loaded, folder = load(manifest, set_, runs)
    names = endpoint_limits(loaded)
    if endpoint is not None and endpoint not in names:
        raise ManifestError(f"--endpoint {endpoint}: the endpoints of this manifest are {', '.join(names)}")
    changes: dict[str, Any] = {"in_flight": in_flight} if in_flight is not None else {}
    for name, written in (("requests_per_minute", requests_per_minute), ("tokens_per_minute", tokens_per_minute)):
        if written is not None:
            changes[name] = _number(name, written)
    if not changes:
        raise ManifestError("say what to change: --requests-per-minute, --tokens-per-minute or --in-flight")
    word = _checked(Tune, {"endpoint": endpoint, **changes})
    if not folder.is_held():
        raise RunFolderError(
            f"{folder.root}: no sgv is working here; write the limits into the manifest, or start it with "
            "--set teacher.limits.requests_per_minute=N"
        )
    leave_tune(folder.stage("collect"), word)
    output.print("The running collect goes on under these limits within a second or two.", markup=False)


def _number(name: str, written: str) -> float | None:
    if written == _NO_LIMIT:
        return None
    try:
        return float(written)
    except ValueError:
        raise ManifestError(
            f"--{name.replace('_', '-')} {written}: must be a number, or {_NO_LIMIT} for no limit"
        ) from None


def _checked(kind: Any, values: dict[str, Any]) -> Any:
    from pydantic import ValidationError

    try:
        return kind.model_validate(values)
    except ValidationError as exc:
        wrong = exc.errors()[0]
        raise ManifestError(f"--{str(wrong['loc'][0]).replace('_', '-')} {wrong['input']}: {wrong['msg']}") from exc
