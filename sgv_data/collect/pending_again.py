"""Which pictures a retry round still has to ask about."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from sgv_data.api.cache import ReplyCache
from sgv_data.api.keys import SentImage
from sgv_data.api.reply import PARSER_VERSION
from sgv_data.collect.again import Round
from sgv_data.collect.prepare import recipe_name
from sgv_data.collect.questions import Questions
from sgv_data.manifest import Manifest
from sgv_data.records import ImageRow, Outcome, image_order
from sgv_data.tables import read_table

_ROWS_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Asking:
    """One way in which pictures are asked about: the first one, or a round's."""

    questions: Questions
    recipe: str

    def keys(self, rows: Iterable[ImageRow], cache: ReplyCache) -> dict[str, tuple[str, SentImage]]:
        """Request key and sent picture by image id, for those pictures whose sent bytes are known."""
        rows = list(rows)
        sent = cache.sent(self.recipe, {row.sha256 for row in rows})
        return {
            row.image_id: (self.questions.key(row, image), image)
            for row in rows
            if (image := sent.get(row.sha256)) is not None
        }


def first_asking(manifest: Manifest, questions: Questions) -> Asking:
    """How the manifest itself asks."""
    return Asking(questions, recipe_name(manifest.teacher))


def asking_of(each: Round, manifest: Manifest) -> Asking:
    """How a round asks. `manifest` is the run's own."""
    return Asking(each.questions(manifest), recipe_name(each.manifest(manifest).teacher))


def rows_at_once(index: Path) -> Iterator[list[ImageRow]]:
    """The pictures that the teacher gets, in hash order, in lists of a few hundred."""
    rows = (row for row in read_table(index, "images", ImageRow) if row.for_teacher and row.reject is None)
    while part := list(islice(rows, _ROWS_AT_ONCE)):
        yield part


def pending_again(
    index: Path,
    manifest: Manifest,
    questions: Questions,
    this: Round,
    rounds: Sequence[Round],
    cache: ReplyCache,
    session: str,
) -> Iterator[list[ImageRow]]:
    """The pictures that the round has to ask about and has not, in lists that are never empty.

    They are those whose first asking ended as the round's outcome, for which no round has brought a caption.
    `questions` are those of the first asking, `rounds` all that were ever begun.
    """
    first, present = first_asking(manifest, questions), asking_of(this, manifest)
    earlier = [asking_of(each, manifest) for each in rounds if each.outcome is this.outcome and each != this]
    for part in rows_at_once(index):
        keys = first.keys(part, cache)
        outcomes = outcomes_of(cache, [key for key, _ in keys.values()])
        failed = cache.failures(session, [key for key, _ in keys.values() if key not in outcomes])
        wanted = [
            row for row in part
            if row.image_id in keys and _ended_as(this, keys[row.image_id][0], outcomes, failed)
        ]  # fmt: skip
        captioned = _captioned(wanted, earlier, cache)
        wanted = [row for row in wanted if row.image_id not in captioned]
        if pending := _not_asked(wanted, present, cache, session):
            yield pending


def outcomes_of(cache: ReplyCache, keys: Sequence[str]) -> dict[str, Outcome]:
    """What came of each request that has a finished answer: OK if any answer is, else that of the newest."""
    found: dict[str, Outcome] = {}
    unread: set[str] = set()
    for start in range(0, len(keys), _ROWS_AT_ONCE):
        part = keys[start : start + _ROWS_AT_ONCE]
        marks = ",".join("?" * len(part))
        for key, outcome, finished, parser in cache.query(
            "SELECT request_key, outcome, finished, parser FROM replies"
            f" WHERE request_key IN ({marks}) ORDER BY id", part
        ):
            if parser != PARSER_VERSION:
                unread.add(key)
            elif finished and found.get(key) is not Outcome.OK:
                found[key] = Outcome(outcome)
    found.update({key: parsed.outcome for key, (_, parsed) in cache.get_many(unread).items()})
    return found


def _ended_as(this: Round, key: str, outcomes: dict[str, Outcome], failed: Iterable[str]) -> bool:
    if key in outcomes:
        return outcomes[key] is this.outcome
    # Without an answer: where the round only repeats, the failure was set aside and the first asking goes on.
    return this.outcome is Outcome.FAILED and not this.is_repetition and key in failed


def _captioned(rows: list[ImageRow], askings: list[Asking], cache: ReplyCache) -> set[str]:
    """Those pictures that got a caption in one of these rounds."""
    done: set[str] = set()
    for asking in askings:
        keys = asking.keys(rows, cache)
        outcomes = outcomes_of(cache, [key for key, _ in keys.values()])
        done |= {image_id for image_id, (key, _) in keys.items() if outcomes.get(key) is Outcome.OK}
    return done


def _not_asked(rows: list[ImageRow], asking: Asking, cache: ReplyCache, session: str) -> list[ImageRow]:
    """Those without an answer and without a failure of this session."""
    keys = {image_id: key for image_id, (key, _) in asking.keys(rows, cache).items()}
    subjects = [*keys.values(), *(image_order(row.image_id) for row in rows)]
    ended = cache.answered(keys.values()) | cache.failures(session, subjects).keys()
    return [row for row in rows if not ended & {image_order(row.image_id), keys.get(row.image_id, "")}]
