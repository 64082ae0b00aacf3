"""Retry rounds: `collect --retry` asks once more about pictures whose first asking ended in a certain way.

How a round asks is the manifest's rung for that outcome (`teacher.retry`): another prompt, model, limit or temperature;
what the rung leaves out stays, so that an empty rung repeats the request. Every round that was ever begun is written
down in `retries.json` with the words of its prompt, and every answer stays in the cache: the table is made from all of
them, whatever the manifest's rungs say by then.

The marker `.again.json` is there from before the first request of a round until the stage has its new record (the
pipeline removes it). While it is there the same round goes on: what it has asked is found in the cache under keys of
its own, so after a crash nothing is asked twice.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Self, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from sgv_data.api.cache import ReplyCache
from sgv_data.api.prices import listed_price
from sgv_data.collect.questions import Change, Questions
from sgv_data.errors import ManifestError, RunFolderError
from sgv_data.manifest import Manifest, Rung, Teacher
from sgv_data.prompts import Prompt, load_prompt, text_sha256
from sgv_data.records import Outcome
from sgv_data.run_folder import AGAIN, write_durably
from sgv_data.stage import StageContext

RETRIES = "retries.json"
GIVE_UP = "none"

_WORDS = {
    "refused": Outcome.REFUSED, "refusal": Outcome.REFUSED, "truncated": Outcome.TRUNCATED, "length": Outcome.TRUNCATED,
    "failed": Outcome.FAILED, "failure": Outcome.FAILED,
}  # fmt: skip
_PICTURE_DIGITS = 20

Kind = TypeVar("Kind", bound=BaseModel)


class _Stored(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class RoundPrompt(_Stored):
    """A prompt as a round sent it."""

    id: str
    version: int
    made_for: str
    text: str
    offer_at: int | None

    @classmethod
    def of(cls, prompt: Prompt) -> Self:
        return cls(id=prompt.prompt_id, version=prompt.version, made_for=prompt.made_for, text=prompt.text,
                   offer_at=prompt.offer_at)  # fmt: skip

    def prompt(self) -> Prompt:
        """The prompt itself."""
        return Prompt(self.id, self.version, self.made_for, self.text, text_sha256(self.text), self.offer_at)


class Round(_Stored):
    """How pictures whose first asking ended as `outcome` are asked about again; None: as the first time.

    `sample`: how many rounds before this one asked in the same way.
    """

    outcome: Outcome
    prompt: RoundPrompt | None = None
    model: str | None = None
    max_completion_tokens: int | None = None
    temperature: float | None = None
    sample: int = 0

    def manifest(self, manifest: Manifest) -> Manifest:
        """The manifest with the teacher of this round, which decides price, picture size and what is sent."""
        return manifest.model_copy(update={"teacher": self._teacher(manifest.teacher)})

    def questions(self, manifest: Manifest) -> Questions:
        """What this round asks. `manifest` is the run's own."""
        prompt = self.prompt.prompt() if self.prompt else None
        return Questions(manifest, Change(self._teacher(manifest.teacher), prompt, self.sample))

    @property
    def is_repetition(self) -> bool:
        """Whether it sends the first request again."""
        return self.changes() == {}

    def changes(self) -> dict[str, object]:
        """What it changes."""
        return self.model_dump(exclude={"outcome", "sample"}, exclude_none=True)

    def _teacher(self, teacher: Teacher) -> Teacher:
        changes = {name: value for name, value in self.changes().items() if name != "prompt"}
        if self.model not in (None, teacher.model) and teacher.price is not None and listed_price(str(self.model)):
            changes["price"] = None  # the manifest's price is that of its own model
        return teacher.model_copy(update=changes)


class _Marker(_Stored):
    """`ready`: failures of earlier askings are set aside and the rounds are written down."""

    rounds: tuple[Round, ...]
    ready: bool


class _Retries(_Stored):
    rounds: tuple[Round, ...] = ()


def parse_outcomes(text: str) -> tuple[str, ...]:
    """The outcomes that `--retry` names, in the order of asking; `none` gives up a round that is under way.

    Raises:
        ManifestError: for a word that names none.
    """
    words = [word.strip().lower() for word in text.split(",") if word.strip()]
    if words == [GIVE_UP]:
        return (GIVE_UP,)
    unknown = [word for word in words if word not in _WORDS]
    if unknown or not words:
        raise ManifestError(
            f"--retry {text}: names outcomes, separated by commas: refused (or refusal), truncated (or length), "
            f"failed; {GIVE_UP} gives up a round that was begun"
        )
    wanted = {_WORDS[word] for word in words}
    return tuple(str(outcome) for outcome in (Outcome.REFUSED, Outcome.TRUNCATED, Outcome.FAILED) if outcome in wanted)


def all_rounds(folder: Path) -> tuple[Round, ...]:
    """Every round that was ever begun in this stage folder, in order."""
    return (_read(folder / RETRIES, _Retries) or _Retries()).rounds


def begin(context: StageContext, manifest: Manifest, cache: ReplyCache, session: str) -> tuple[Round, ...]:
    """The rounds to be asked now: those of a round under way, and those that `context.again` asks for.

    When this returns they are on the disk, and what `failed` without an answer is open again: it is asked about like
    any picture that has no answer, unless the rung asks in another way.

    Raises:
        ManifestError: if a rung names a prompt that does not exist.
    """
    path = context.folder / AGAIN
    marker = _read(path, _Marker)
    if GIVE_UP in context.again:
        return _give_up(path, cache, session)
    known = marker.rounds if marker else ()
    before = [each for each in all_rounds(context.folder) if each not in known]
    new = [_round(outcome, manifest, [*before, *known]) for outcome in map(Outcome, context.again)
           if outcome not in {each.outcome for each in known}]  # fmt: skip
    if marker and marker.ready and not new:
        return known
    if not marker and not new:
        return ()
    marker = _Marker(rounds=(*known, *new), ready=False)
    write_durably(path, marker.model_dump_json(indent=1))
    _set_aside(new or known, cache, session)
    write_durably(context.folder / RETRIES, _Retries(rounds=(*before, *marker.rounds)).model_dump_json(indent=1))
    write_durably(path, marker.model_copy(update={"ready": True}).model_dump_json(indent=1))
    return marker.rounds


def set_aside(session: str) -> str:
    """Under which session failures lie that are to be tried again."""
    return f"{session}~"


def _round(outcome: Outcome, manifest: Manifest, earlier: Sequence[Round]) -> Round:
    rung: Rung = getattr(manifest.teacher.retry, str(outcome))
    prompt = load_prompt(rung.prompt, manifest.prompt_folders) if rung.prompt else None
    made = Round(
        outcome=outcome,
        prompt=RoundPrompt.of(prompt) if prompt else None,
        model=rung.model,
        max_completion_tokens=rung.max_completion_tokens,
        temperature=rung.temperature,
    )
    return made.model_copy(update={"sample": sum(each.changes() == made.changes() for each in earlier)})


def _set_aside(rounds: Collection[Round], cache: ReplyCache, session: str) -> None:
    """Opens what failed without an answer. Where the request itself failed and the rung asks otherwise, the failure
    stays: it is what the rung is for."""
    for each in rounds:
        if each.outcome is not Outcome.FAILED:
            continue
        sql = "UPDATE failures SET session = ? WHERE session = ?"
        if not each.is_repetition:
            sql += f" AND length(subject) = {_PICTURE_DIGITS}"
        cache.submit([(sql, (set_aside(session), session))]).result()


def _give_up(marker: Path, cache: ReplyCache, session: str) -> tuple[Round, ...]:
    cache.submit([("UPDATE failures SET session = ? WHERE session = ?", (session, set_aside(session)))]).result()
    marker.unlink(missing_ok=True)
    return ()


def _read(path: Path, kind: type[Kind]) -> Kind | None:
    try:
        return kind.model_validate_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValidationError as exc:
        raise RunFolderError(
            f"{path} is damaged or of another version of sgv_data; it lists how pictures were asked about again. "
            "Restore it, or move it away: then the table is made without those answers, which stay in the reply cache"
        ) from exc
