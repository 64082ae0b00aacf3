"""How much of what captions say about drawn pictures is true.

Every claim is judged against the scene the picture was drawn from. Claims about an object are judged against one true
object: the caption's objects are paired with the true ones, one to one, so that as many claims as possible hold. That
favours the caption; therefore each accuracy has a floor beside it, the accuracy of the same captions judged against
other pictures.

A caption cannot gain by leaving things out: the count is judged for every caption (the number told, if any, and the
number of objects described must both be the true one), and so are the background and, where there is one, the word.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sgv_data.demo.claims import Claim, ClaimKind, Direction, Noun, parse_claims
from sgv_data.demo.scenes import Column, Row, Scene, SceneObject

_MAX_FLOOR_ROUNDS = 5


@dataclass(frozen=True, slots=True)
class Tally:
    right: int
    total: int

    @property
    def share(self) -> float | None:
        """Right of all, or None when nothing was judged."""
        return self.right / self.total if self.total else None


@dataclass(frozen=True, slots=True)
class Accuracy:
    """`kinds` and `floor_kinds` have every kind of claim; `num_faultless` captions have no wrong claim at all."""

    kinds: dict[ClaimKind, Tally]
    floor_kinds: dict[ClaimKind, Tally]
    num_captions: int
    num_faultless: int

    @property
    def over_all(self) -> Tally:
        return _sum(self.kinds)

    @property
    def floor(self) -> Tally:
        return _sum(self.floor_kinds)

    @property
    def faultless_share(self) -> float | None:
        return self.num_faultless / self.num_captions if self.num_captions else None


@dataclass(frozen=True, slots=True)
class Judgement:
    """Whether one claim, or one thing that should have been claimed, is right."""

    kind: ClaimKind
    right: bool


def score_captions(pairs: Iterable[tuple[str, Scene]]) -> Accuracy:
    """Judge captions against the scenes of their pictures.

    The floor comes from the same captions turned by one to five places against the scenes; a single caption has none.
    """
    read = [(parse_claims(caption), scene) for caption, scene in pairs]
    judged = [judge_claims(claims, scene) for claims, scene in read]
    rounds = range(1, min(_MAX_FLOOR_ROUNDS, len(read) - 1) + 1)
    floor = [
        judge_claims(claims, read[(index + turn) % len(read)][1])
        for turn in rounds
        for index, (claims, _) in enumerate(read)
    ]
    num_faultless = sum(all(judgement.right for judgement in judgements) for judgements in judged)
    return Accuracy(_tally(judged), _tally(floor), len(judged), num_faultless)


def judge_claims(claims: Sequence[Claim], scene: Scene) -> list[Judgement]:
    """One judgement per claim, and one more for each required statement that is missing."""
    mentions = _mentions(claims)
    partners = _pair(mentions, scene.objects)
    judgements = [Judgement(ClaimKind.COUNT, _count_right(claims, len(mentions), scene))]
    for claim in claims:
        if claim.kind is ClaimKind.COUNT:
            continue
        if claim.mention is not None:
            partner = partners[claim.mention]
            judgements.append(Judgement(claim.kind, partner is not None and _holds(claim, partner)))
        elif claim.kind is ClaimKind.RELATION:
            judgements.append(Judgement(claim.kind, _relation_holds(claim, mentions, partners, scene)))
        else:
            judgements.append(Judgement(claim.kind, _picture_claim_holds(claim, scene)))
    stated = {claim.kind for claim in claims}
    if ClaimKind.BACKGROUND not in stated:
        judgements.append(Judgement(ClaimKind.BACKGROUND, False))
    if scene.word is not None and ClaimKind.WORD not in stated:
        judgements.append(Judgement(ClaimKind.WORD, False))
    return judgements


def _mentions(claims: Sequence[Claim]) -> list[list[Claim]]:
    """The claims about each object that the caption brings up."""
    about = [claim for claim in claims if claim.mention is not None]
    grouped: list[list[Claim]] = [[] for _ in range(max((claim.mention or 0 for claim in about), default=-1) + 1)]
    for claim in about:
        grouped[claim.mention or 0].append(claim)
    return grouped


def _pair(mentions: list[list[Claim]], objects: Sequence[SceneObject]) -> list[SceneObject | None]:
    """For each mention its true object, each taken at most once, such that most claims hold.

    Among equals, shape and colour count before position and size. `best` maps the set of objects taken so far (as bits)
    to the best score and the objects chosen for it.
    """
    best: dict[int, tuple[int, tuple[int, ...]]] = {0: (0, ())}
    for claims in mentions:
        scores = [sum(_WEIGHTS[claim.kind] for claim in claims if _holds(claim, item)) for item in objects]
        step: dict[int, tuple[int, tuple[int, ...]]] = {}
        for taken, (score, chosen) in best.items():
            options = [(taken, score, -1)]
            options += [
                (taken | 1 << index, score + gain, index) for index, gain in enumerate(scores) if not taken >> index & 1
            ]
            for mask, total, index in options:
                if mask not in step or total > step[mask][0]:
                    step[mask] = (total, (*chosen, index))
        best = step
    _, pairing = max(best.values(), key=lambda option: option[0])
    return [objects[index] if index >= 0 else None for index in pairing]


_WEIGHTS = Counter({ClaimKind.SHAPE: 102, ClaimKind.COLOR: 102, ClaimKind.POSITION: 101, ClaimKind.SIZE: 100})


def _holds(claim: Claim, item: SceneObject) -> bool:
    if claim.kind is ClaimKind.SHAPE:
        return claim.value == item.shape
    if claim.kind is ClaimKind.COLOR:
        return claim.value == item.color
    if claim.kind is ClaimKind.SIZE:
        return claim.value == item.size
    return set(claim.value.split()) <= {item.row.value, item.column.value}


def _count_right(claims: Sequence[Claim], num_mentions: int, scene: Scene) -> bool:
    stated = {claim.value for claim in claims if claim.kind is ClaimKind.COUNT}
    return num_mentions == len(scene.objects) and stated <= {str(len(scene.objects))}


def _picture_claim_holds(claim: Claim, scene: Scene) -> bool:
    if claim.kind is ClaimKind.BACKGROUND:
        return claim.value in (scene.background_color, scene.background_texture)
    if scene.word is None:
        return False
    return claim.value == (scene.word.text if claim.kind is ClaimKind.WORD else scene.word.row)


def _relation_holds(
    claim: Claim, mentions: list[list[Claim]], partners: list[SceneObject | None], scene: Scene
) -> bool:
    if len(claim.nouns) != 2:
        return False
    one, other = (_find(noun, mentions, partners, scene) for noun in claim.nouns)
    if one is None or other is None or one is other:
        return False
    rows, columns = list(Row), list(Column)
    across = columns.index(one.column) - columns.index(other.column)
    down = rows.index(one.row) - rows.index(other.row)
    return {
        Direction.LEFT.value: across < 0,
        Direction.RIGHT.value: across > 0,
        Direction.ABOVE.value: down < 0,
        Direction.BELOW.value: down > 0,
    }[claim.value]


def _find(
    noun: Noun, mentions: list[list[Claim]], partners: list[SceneObject | None], scene: Scene
) -> SceneObject | None:
    """The object a noun stands for: what the caption described under that name, else the true object of that name."""
    wanted = {(ClaimKind.SHAPE, noun.shape)} | ({(ClaimKind.COLOR, noun.color)} if noun.color else set())
    for claims, partner in zip(mentions, partners, strict=True):
        if partner is not None and wanted <= {(claim.kind, claim.value) for claim in claims}:
            return partner
    named = [item for item in scene.objects if item.shape == noun.shape and noun.color in (None, item.color)]
    return named[0] if len(named) == 1 else None


def _tally(judged: list[list[Judgement]]) -> dict[ClaimKind, Tally]:
    right: Counter[ClaimKind] = Counter()
    total: Counter[ClaimKind] = Counter()
    for judgements in judged:
        for judgement in judgements:
            total[judgement.kind] += 1
            right[judgement.kind] += judgement.right
    return {kind: Tally(right[kind], total[kind]) for kind in ClaimKind}


def _sum(kinds: dict[ClaimKind, Tally]) -> Tally:
    return Tally(sum(tally.right for tally in kinds.values()), sum(tally.total for tally in kinds.values()))
