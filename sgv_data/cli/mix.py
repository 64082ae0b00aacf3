"""`sgv mix`: training files in LLaVA's format."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sgv_data.cli.options import Quiet, console, output
from sgv_data.errors import InputError

if TYPE_CHECKING:
    from sgv_data.mix.captions import Captions

Set = Annotated[
    Path, typer.Option("--captions", metavar="SET", help="A run folder, a dataset folder, or a LLaVA-format file.")
]
Out = Annotated[Path, typer.Option("--out", metavar="FILE", help="The .json or .jsonl file to write.")]
Seed = Annotated[int, typer.Option("--seed", help="The same seed gives the same bytes.")]
Questions = Annotated[
    Path | None, typer.Option("--questions", metavar="FILE", help="Another pool of questions, one a line.")
]
Of = Annotated[str | None, typer.Option("--of", metavar="WHO", help="Only captions of the teacher or the student.")]
Place = Annotated[
    list[str] | None,
    typer.Option("--place", metavar="SOURCE=FOLDER", help="Where a source's pictures lie, e.g. coco=coco/train2017."),
]

mix = typer.Typer(help="Write training files in LLaVA's format.", no_args_is_help=True, rich_markup_mode=None)


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    app.add_typer(mix, name="mix")


@mix.command()
def sft(
    file: Annotated[Path, typer.Argument(metavar="SFT", help="The SFT file, such as LLaVA-1.5's mix of 665K.")],
    captions: Set,
    out: Out,
    images: Annotated[
        str, typer.Option("--images", metavar="[same|drawn]", help="Keep the pictures, or draw others of the set.")
    ] = "same",
    share: Annotated[
        str, typer.Option("--share", metavar="SHARES", help="How many rows: 0 to 1, or several as 0,0.5,1.")
    ] = "1",
    weight: Annotated[
        list[str] | None,
        typer.Option("--weight", metavar="SOURCE=PART", help="With drawn: what part a source gives, e.g. coco=9."),
    ] = None,
    control: Annotated[
        Path | None,
        typer.Option("--control", metavar="SET", help="Older captions of the same pictures, for twin files."),
    ] = None,
    match: Annotated[
        str, typer.Option("--match", metavar="[path|name]", help="name: also find pictures below other folders.")
    ] = "path",
    of: Of = None,
    place: Place = None,
    questions: Questions = None,
    seed: Seed = 0,
    quiet: Quiet = False,
) -> None:
    """Exchange the detailed captions of an SFT file, and list every row that was.

    Rows that hold one picture and one exchange, in the words of the question pool, get captions of the set; their
    places, questions and number stay, and so does every other byte. Beside the file lie its report and the list of
    replaced rows.

    sgv mix sft llava_v1_5_mix665k.json --captions runs/photos --out mix.json --share 0,0.5,1
    """
    from sgv_data.cli.screen import Screen
    from sgv_data.mix.captions import open_captions
    from sgv_data.mix.questions import read_pool
    from sgv_data.mix.records import Images, Match, MixPlan
    from sgv_data.mix.sft import make_mixes

    plan = MixPlan(
        images=Images(_one_of(images, "--images", tuple(Images))),
        shares=_shares(share),
        seed=seed,
        match=Match(_one_of(match, "--match", tuple(Match))),
        weights=_weights(weight),
        questions=read_pool(questions) if questions else (),
    )
    if plan.weights and plan.images is Images.SAME:
        raise InputError("--weight is for --images drawn; with the same pictures there is nothing to draw")
    old = open_captions(control) if control else None
    with Screen(console, quiet) as screen:
        report = make_mixes(file, _captions(captions, of, place), plan, out, screen, old)
    output.print(f"{report.sft_rows} rows, {report.detail_rows} detailed descriptions", markup=False, highlight=False)
    if report.without_caption:
        output.print(f"{report.without_caption} have no caption in {captions} and stay as they are", markup=False)
    for written in report.files:
        line = f"{out.parent / written.name}: {written.replaced} replaced, captions of {written.captions}"
        output.print(line, markup=False, highlight=False)


@mix.command()
def pretrain(
    captions: Set,
    out: Out,
    rows_per_file: Annotated[
        int | None, typer.Option("--rows-per-file", metavar="N", min=1, help="Several files of so many rows.")
    ] = None,
    of: Of = None,
    place: Place = None,
    questions: Questions = None,
    seed: Seed = 0,
    quiet: Quiet = False,
) -> None:
    """Write all captions of a set as the file of the pre-training stage.

    sgv mix pretrain --captions runs/photos --out pretrain.json
    """
    from sgv_data.cli.screen import Screen
    from sgv_data.mix.pretrain import write_pretraining
    from sgv_data.mix.questions import read_pool

    pool = read_pool(questions) if questions else ()
    with Screen(console, quiet) as screen:
        report = write_pretraining(_captions(captions, of, place), out, screen, seed, pool, rows_per_file)
    files = report.files[0] if len(report.files) == 1 else f"{report.files[0]} to {report.files[-1]}"
    output.print(f"{out.parent / files}: {report.rows} rows", markup=False, highlight=False)


def _captions(path: Path, of: str | None, places: list[str] | None) -> Captions:
    from sgv_data.mix.captions import open_captions
    from sgv_data.records import CaptionSet

    only = CaptionSet(_one_of(of, "--of", tuple(CaptionSet))) if of is not None else None
    return open_captions(path, only, dict(_pair(place, "--place") for place in places or ()))


def _one_of(value: str, option: str, known: tuple[str, ...]) -> str:
    if value not in known:
        raise InputError(f"{option} must be {' or '.join(map(str, known))} (got {value!r})")
    return value


def _pair(text: str, option: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise InputError(f"{option} {text}: write it as SOURCE=VALUE")
    return name, value


def _shares(text: str) -> tuple[float, ...]:
    try:
        shares = tuple(float(part) for part in text.split(","))
    except ValueError:
        shares = ()
    if not shares or not all(0 <= share <= 1 for share in shares) or len(set(shares)) != len(shares):
        raise InputError(f"--share must be numbers from 0 to 1, each once, with commas between them (got {text!r})")
    return shares


def _weights(texts: list[str] | None) -> dict[str, float] | None:
    weights = {}
    for text in texts or ():
        name, value = _pair(text, "--weight")
        try:
            weights[name] = float(value)
        except ValueError:
            weights[name] = -1.0
        if not 0 < weights[name] < float("inf"):
            raise InputError(f"--weight {text}: the part must be a number above 0")
    return weights or None
