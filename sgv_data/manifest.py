"""The manifest: the whole configuration of a run, typed, frozen and closed.

Every field says its unit and what its limits mean; `manifest_file.py` reads it from YAML.
"""

from __future__ import annotations

import difflib
import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, field_validator, model_validator
from pydantic_core import PydanticCustomError

Quota = int | float | Literal["all", "none"]


class Section(BaseModel):
    """A part of the manifest: unknown keys are errors that name the nearest known one."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _only_known_keys(cls, values: Any) -> Any:
        if isinstance(values, dict):
            for key in values:
                if key not in cls.model_fields:
                    raise PydanticCustomError("unknown_key", "{hint}", {"hint": _unknown_key(str(key), cls)})
        return values


def _unknown_key(key: str, section: type[BaseModel]) -> str:
    near = difflib.get_close_matches(key, section.model_fields, n=1, cutoff=0.5)
    known = ", ".join(section.model_fields)
    return f"has no key {key!r}" + (f"; did you mean {near[0]!r}?" if near else f"; its keys are {known}")


def _check_quota(value: object) -> object:
    if isinstance(value, bool) or (isinstance(value, float) and not 0 <= value <= 1):
        raise ValueError("must be a whole number, a share from 0.0 to 1.0, 'all' or 'none'")
    if isinstance(value, int) and value < 0:
        raise ValueError("must not be negative")
    return value


class Source(Section):
    """What every kind of source has."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$", description="first part of every image id")
    license: str = Field(default="unknown", description="licence of the pictures, SPDX id where there is one")
    prompt: str | tuple[str, ...] = Field(
        default="detailed", description="prompt id, or several: each picture gets one of them, by hash"
    )
    teacher: Quota = Field(default="all", description="how many the teacher captions: number, share, all or none")
    expand: Quota = Field(default="all", description="how many the captioner describes: number, share, all or none")
    apart: bool = Field(
        default=False, description="true: the captioner's share is drawn from pictures the teacher does not get"
    )
    offer_text: bool = Field(
        default=False, description="true: the picture's own words (title, alt text, caption) are shown to the teacher"
    )

    _quotas = field_validator("teacher", "expand")(_check_quota)

    @property
    def prompts(self) -> tuple[str, ...]:
        """The prompt ids as a tuple."""
        return (self.prompt,) if isinstance(self.prompt, str) else self.prompt


class FolderSource(Source):
    """Pictures below a folder."""

    kind: Literal["folder"]
    path: str = Field(description="the folder; relative to the manifest, or sgv:photos")


class WebDatasetSource(Source):
    """Pictures in local tars, members grouped by name up to the first dot."""

    kind: Literal["webdataset"]
    path: str = Field(description="a tar, a folder of tars, or a glob; relative to the manifest")


class ScenesSource(Source):
    """Pictures drawn by the demo, whose truth is known."""

    kind: Literal["scenes"]
    count: int = Field(gt=0, description="how many pictures are drawn")


class TableSource(Source):
    """Pictures that a table of paths names."""

    kind: Literal["table"]
    path: str = Field(description="a .json, .jsonl, .csv, .tsv or .txt file; relative to the manifest")
    images: str | None = Field(default=None, description="the folder its paths count from; null: the one it lies in")
    path_column: str | None = Field(default=None, description="null: the first usual one, e.g. image")
    text_column: str | None = Field(default=None, description="null: text, caption or title, if there")


class LlavaSource(Source):
    """Pictures that a LLaVA-format file names."""

    kind: Literal["llava"]
    path: str = Field(description="a .json or .jsonl file; relative to the manifest")
    images: str = Field(description="the folder that the file's `image` paths count from; relative to the manifest")


class ParquetSource(Source):
    """Pictures whose bytes stand in Parquet files."""

    kind: Literal["parquet"]
    path: str = Field(description="a file, a folder of files, or a glob; relative to the manifest")
    image_column: str = Field(default="image", description="bytes, or the Hub's {bytes, path}")
    key_column: str | None = Field(default=None, description="what names a row within its file; null: its number")
    text_column: str | None = None


class Img2DatasetSource(Source):
    """Pictures in tars that img2dataset wrote, with its lists beside them."""

    kind: Literal["img2dataset"]
    path: str = Field(description="a folder of tars, a tar, or a glob; relative to the manifest")


AnySource = Annotated[
    FolderSource | WebDatasetSource | ScenesSource | TableSource | LlavaSource | ParquetSource | Img2DatasetSource,
    Field(discriminator="kind"),
]


class Pictures(Section):
    """Which pictures are usable, and when two are the same."""

    min_side_px: int = Field(default=16, ge=1, description="smaller pictures are rejected (too_small)")
    max_pixels: int = Field(default=200_000_000, gt=0, description="more are never decoded (too_many_pixels)")
    max_aspect: float = Field(default=20.0, gt=1, description="longer side over shorter (absurd_aspect)")
    duplicate_bits: int = Field(
        default=4, ge=-1, le=16,
        description="pictures whose 64-bit perceptual hashes differ in at most so many bits are the same; "
        "-1: only equal bytes are",
    )


class Limits(Section):
    """The provider's limits; leave one out where it is not known. What the server says in its headers counts too."""

    requests_per_minute: float | None = Field(default=None, gt=0)
    tokens_per_minute: float | None = Field(default=None, gt=0)
    in_flight: int = Field(default=64, gt=0, le=10_000, description="most requests under way at once")


class Endpoint(Section):
    """One of several servers or keys that share the work."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", description="how it is called on the screen and in logs")
    base_url: str | None = Field(default=None, description="null: that of the teacher")
    api_key_env: str | None = Field(default=None, description="null: that of the teacher")
    api_key_file: str | None = Field(default=None, description="file that holds the key; null: that of the teacher")
    limits: Limits = Limits()

    _url = field_validator("base_url")(lambda value: _check_url(value))
    _variable = field_validator("api_key_env")(lambda value: _check_variable(value))


class TeacherImage(Section):
    """How a picture goes over the wire."""

    max_side_px: int | Literal["model"] = Field(
        default="model", description="larger pictures are scaled down to this longer side; model: to the size that the "
        "model works with at this detail, or 2048 where that is not known"
    )
    detail: Literal["low", "high", "auto", "original"] = "high"
    jpeg_quality: int = Field(default=90, ge=1, le=100, description="for pictures that must be re-encoded")

    @field_validator("max_side_px")
    @classmethod
    def _large_enough(cls, value: int | str) -> int | str:
        if isinstance(value, int) and value < 16:
            raise ValueError("must be 16 or more, or 'model'")
        return value


class Rung(Section):
    """What is changed when a picture is asked about again; what is left out stays as it was."""

    prompt: str | None = Field(default=None, description="another prompt")
    model: str | None = Field(default=None, description="another model, at the same endpoints")
    max_completion_tokens: int | None = Field(default=None, gt=0)
    temperature: float | None = Field(default=None, ge=0, le=2)


class Retry(Section):
    """How often a fault is met with another try, and the ladder: how `collect --retry` asks again, by outcome."""

    attempts: int = Field(default=6, ge=1, description="tries per picture before it fails with its error class")
    max_wait_s: float = Field(default=60.0, gt=0, description="longest pause, unless the server asks for more")
    refused: Rung = Rung()
    truncated: Rung = Rung()
    failed: Rung = Rung()


class Alarms(Section):
    """What looks so wrong that spending stops. Shares are of the last `over` answers; null switches an alarm off."""

    over: int = Field(default=200, ge=10, description="so many answers are looked at, once there are so many")
    refused_share: float | None = Field(default=0.5, gt=0, le=1)
    truncated_share: float | None = Field(default=0.5, gt=0, le=1)
    failed_share: float | None = Field(default=0.5, gt=0, le=1, description="pictures that failed with the same class")
    same_text_share: float | None = Field(default=0.2, gt=0, le=1, description="answers with the same words")


class BatchLane(Section):
    """The provider's batch lane: cheaper, within a day."""

    max_requests: int = Field(default=50_000, gt=0, description="per file")
    max_bytes: int = Field(default=200_000_000, gt=0, description="per file")
    max_enqueued_tokens: int | None = Field(default=None, gt=0, description="prompt tokens waiting; null: no limit")
    poll_s: float = Field(default=60.0, gt=0, description="seconds between two looks at the batches")
    wait: bool = Field(default=True, description="false: end after submitting; the same command collects later")
    leftovers: Literal["batch", "live"] = Field(
        default="batch", description="where rows go that an expired or cancelled batch did not finish"
    )


class Price(Section):
    """US dollars per million tokens."""

    input_usd: float = Field(ge=0)
    output_usd: float = Field(ge=0)


def _check_variable(value: str | None) -> str | None:
    if value is not None and not re.match(r"^[A-Za-z_][A-Za-z0-9_]*$", value):
        # Not shown: it may be the key itself.
        raise PydanticCustomError("not_a_variable", "must be the name of an environment variable, never the key itself")
    return value


def _check_url(value: str | None) -> str | None:
    if value is not None and not re.match(r"^(https?://[^\s/]+|sgv:demo-teacher$)", value):
        raise ValueError("must start with http:// or https://, or be sgv:demo-teacher")
    return value


class Teacher(Section):
    """The strong model that is asked, and paid, for captions."""

    model: str = Field(min_length=1)
    base_url: str | None = Field(
        default=None, description="null: OPENAI_BASE_URL, else the provider's own; sgv:demo-teacher starts the demo's"
    )
    api_key_env: str = Field(default="OPENAI_API_KEY", description="environment variable that holds the key")
    api_key_file: str | None = Field(default=None, description="file that holds the key instead")
    max_completion_tokens: int = Field(default=1024, gt=0)
    token_limit_name: Literal["max_completion_tokens", "max_tokens"] = Field(
        default="max_completion_tokens", description="what the server calls the limit; older servers: max_tokens"
    )
    temperature: float | None = Field(default=0.7, ge=0, le=2, description="null: the model's own")
    seed: int | None = Field(default=None, description="sent as `seed`; null: not sent")
    image: TeacherImage = TeacherImage()
    limits: Limits = Limits()
    endpoints: tuple[Endpoint, ...] = Field(
        default=(), description="several servers or keys that share the work, each with limits of its own"
    )
    lane: Literal["live", "batch"] = "live"
    batch: BatchLane = BatchLane()
    timeout_s: float = Field(default=120.0, gt=0, description="limit per request")
    retry: Retry = Retry()
    alarms: Alarms = Alarms()
    cache: str | None = Field(
        default=None, description="file of a reply cache that several runs share; null: one in the run folder"
    )
    budget_usd: float | None = Field(default=None, gt=0, description="hard cap, counted across restarts; null: no cap")
    price: Price | Literal["unknown"] | None = Field(
        default=None, description="per million tokens; null: from the price table, by model; unknown: run without "
        "counting money"
    )

    _url = field_validator("base_url")(lambda value: _check_url(value))
    _variable = field_validator("api_key_env")(lambda value: _check_variable(value))

    @model_validator(mode="after")
    def _distinct_endpoints(self) -> Self:
        names = [endpoint.name for endpoint in self.endpoints]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"endpoints: the name {twice[0]!r} is used twice; names must differ")
        if self.budget_usd is not None and self.price == "unknown":
            raise ValueError("budget_usd needs a price: a cap cannot be kept without counting money")
        return self


class LengthRule(Section):
    """Bounds on the numbers of words and characters."""

    min_words: int = Field(default=20, ge=0, description="fewer words: too_short")
    max_words: int = Field(default=400, gt=0, description="more words: too_long")
    min_chars: int = Field(default=0, ge=0, description="fewer characters: too_short")
    max_chars: int = Field(default=4000, gt=0, description="more characters: too_long")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.min_words > self.max_words:
            raise ValueError(f"min_words {self.min_words} is more than max_words {self.max_words}")
        if self.min_chars > self.max_chars:
            raise ValueError(f"min_chars {self.min_chars} is more than max_chars {self.max_chars}")
        return self


class RepetitionRule(Section):
    """How much of a caption may be repetition."""

    max_share: float = Field(default=0.3, ge=0, le=1, description="share of words that lie in repeated phrases")


class LeakRule(Section):
    """How much of a caption may be the prompt's own words."""

    max_share: float = Field(default=0.2, ge=0, le=1, description="share of words inside runs shared with the prompt")


class EncodingRule(Section):
    """How many characters may be the work of a wrong encoding."""

    max_garbled: int = Field(
        default=0, ge=0, description="mojibake, replacement and control characters, escapes, hidden characters"
    )


class ListRule(Section):
    """How much of a caption may be list or markup."""

    max_share: float = Field(default=0.3, ge=0, le=1, description="share of lines that are items, headings or labels")
    max_marks: int = Field(default=1, ge=0, description="Markdown or HTML marks")


class LanguageRule(Section):
    """Which languages captions may be in."""

    wanted: tuple[str, ...] | None = Field(
        default=None, description="ISO 639-1 codes; null: those of the run's prompts; an empty list: any language"
    )
    max_other_share: float = Field(default=0.3, ge=0, le=1, description="share of words in another language")


class DensityRule(Section):
    """How often words of a kind may come."""

    max_density: float = Field(ge=0, description="per 100 words")


class CountRule(Section):
    """How often something may come at all."""

    max_count: int = Field(default=0, ge=0, description="per caption")


class OpeningRule(Section):
    """How captions may begin."""

    stock: bool = Field(default=True, description="false: openings such as \"The image shows\" are boilerplate")
    max_share: float = Field(
        default=1.0, ge=0, le=1, description="share of the set's captions that may begin with the same four words"
    )


class NearDuplicateRule(Section):
    """When two captions are the same, whatever their pictures."""

    min_similarity: float = Field(
        default=0.7, ge=0, le=1,
        description="from this share of common runs of three words on, the later is rejected; 0: none is",
    )


class FilterPolicy(Section):
    """Thresholds on scores. Scores are stored, so a policy can be replayed."""

    length: LengthRule = LengthRule()
    repetition: RepetitionRule = RepetitionRule()
    leak: LeakRule = LeakRule()
    encoding: EncodingRule = EncodingRule()
    lists: ListRule = ListRule()
    language: LanguageRule = LanguageRule()
    hedging: DensityRule = DensityRule(max_density=6.0)
    speculation: DensityRule = DensityRule(max_density=3.0)
    personal: CountRule = CountRule()
    toxic: CountRule = CountRule()
    openings: OpeningRule = OpeningRule()
    near_duplicates: NearDuplicateRule = NearDuplicateRule()
    refusal_min_score: float = Field(default=0.5, ge=0, le=1, description="from this refusal score on: rejected")
    cut_off_min_score: float = Field(default=0.5, ge=0, le=1, description="from this cut-off score on: rejected")


_PART = r"^(frozen|full|lora|from_block_\d+)$"


class TrainedParts(Section):
    """What is trained: `frozen`, `full`, `lora`, or `from_block_N`: from the N-th block (counted from 0) upwards."""

    vision: str = Field(default="frozen", pattern=_PART)
    projector: str = Field(default="full", pattern=r"^(frozen|full|lora)$")
    language: str = Field(default="full", pattern=_PART)


class PartRates(Section):
    """Learning rates of single parts; null: captioner.learning_rate."""

    vision: float | None = Field(default=None, gt=0)
    projector: float | None = Field(default=None, gt=0)
    language: float | None = Field(default=None, gt=0)


class Lora(Section):
    """Adapters of low rank, for the parts that are set to `lora`."""

    rank: int = Field(default=64, gt=0)
    alpha: float = Field(default=128, gt=0)
    dropout: float = Field(default=0.05, ge=0, lt=1)


class Conversations(Section):
    """Samples for training in LLaVA's JSON format, in place of the run's own captions."""

    json_file: str = Field(description="a .json or .jsonl file; relative to the manifest")
    images: str = Field(description="the folder that the file's `image` paths are relative to")


class CaptionerModel(Section):
    """The captioner: what it starts from and how it is fine-tuned."""

    base_model: str = Field(
        description="a model folder, a Hub name, run:NAME (what another run trained), sgv:base, or tiny: built here "
        "from scratch"
    )
    revision: str | None = Field(default=None, description="commit on the Hub; null: the newest")
    prompt: str = Field(default="captioner", description="the prompt it is trained on and asked with")
    parts: TrainedParts = TrainedParts()
    learning_rate: float = Field(default=2.0e-5, gt=0)
    learning_rates: PartRates = PartRates()
    lora: Lora = Lora()
    conversations: Conversations | None = Field(
        default=None, description="train on these instead of the kept teacher captions"
    )
    max_tokens: int | None = Field(
        default=None, gt=0, description="longer samples lose their end, never image tokens; null: the model's context"
    )
    gradient_checkpointing: bool = Field(default=False, description="less memory for a third more time")
    deepspeed: str | None = Field(default=None, description="a DeepSpeed configuration file; relative to the manifest")
    fsdp: str | None = Field(default=None, description="an FSDP configuration file of accelerate; relative likewise")
    lora_max_difference: float = Field(
        default=0.05, gt=0, description="largest difference in log probability that merging the adapters may make"
    )
    warmup_share: float = Field(default=0.03, ge=0, le=1, description="share of steps with rising learning rate")
    weight_decay: float = Field(default=0.0, ge=0)
    batch_size: int = Field(default=256, gt=0, description="samples per step, over all devices")
    micro_batch_size: int = Field(default=16, gt=0, description="samples at once on a device")
    epochs: float = Field(default=1.0, gt=0)
    held_out: float = Field(default=0.05, gt=0, lt=1, description="share of kept captions, by hash, never trained on")
    samples: int = Field(
        default=64, ge=0, description="pictures outside the training set described before and after, for the report"
    )
    checkpoint_every_steps: int = Field(default=200, gt=0)
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        default="auto", description="auto: bfloat16 where the device has it in hardware, else float32"
    )


class Sampling(Section):
    """How the captioner picks words. All of it is recorded with every caption."""

    temperature: float = Field(default=0.0, ge=0, le=2, description="0: always the likeliest word")
    top_p: float = Field(default=1.0, gt=0, le=1)
    repetition_penalty: float = Field(default=1.0, gt=0)
    seed: int = Field(default=0, description="with a temperature: drawn anew for each picture from this and its id")


class ExpandRung(Section):
    """How a caption is asked for again; what is left out stays as it was."""

    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, gt=0, le=1)
    repetition_penalty: float | None = Field(default=None, gt=0)
    max_new_tokens: int | None = Field(default=None, gt=0)


class ExpandRetry(Section):
    """The ladder: captions that loop or are cut off are asked for again, rung by rung, attempts kept."""

    repetition: tuple[ExpandRung, ...] = ()
    truncated: tuple[ExpandRung, ...] = ()
    repeated_share: float = Field(default=0.5, gt=0, le=1, description="share of words in repeated phrases: a loop")


class ExpandServer(Section):
    """The server of the engines `openai`; asked through the same client and limits as the teacher."""

    base_url: str | None = Field(default=None, description="null: OPENAI_BASE_URL")
    api_key_env: str = "OPENAI_API_KEY"
    model: str = Field(min_length=1, description="what the server calls the captioner")
    limits: Limits = Limits()
    timeout_s: float = Field(default=120.0, gt=0)

    _url = field_validator("base_url")(lambda value: _check_url(value))
    _variable = field_validator("api_key_env")(lambda value: _check_variable(value))


class Expand(Section):
    """How the captioner describes the pictures."""

    engine: Literal["transformers", "vllm", "openai"] = "transformers"
    on: Literal["local", "ray"] = Field(default="local", description="ray: the engines are placed on a Ray cluster")
    gpus: tuple[str, ...] = Field(
        default=(), description="one engine, a process of its own, per entry: numbers of GPUs, or cpu; none: one engine"
    )
    ray_address: str | None = Field(default=None, description="the cluster; null: RAY_ADDRESS, else one started here")
    max_new_tokens: int = Field(default=512, gt=0)
    sampling: Sampling = Sampling()
    batch_size: int = Field(default=32, gt=0, description="captions generated at once")
    unit_size: int = Field(default=256, gt=0, description="pictures per work unit: finished whole or not there")
    workers: int = Field(default=1, ge=1, description="processes that read and decode ahead of the model, per engine")
    retry: ExpandRetry = ExpandRetry()
    server: ExpandServer | None = Field(default=None, description="for the engine openai")

    @model_validator(mode="after")
    def _server_named(self) -> Self:
        if self.engine == "openai" and self.server is None:
            raise ValueError("the engine openai needs expand.server with the model's name")
        if "cpu" in self.gpus and set(self.gpus) != {"cpu"}:
            raise ValueError("gpus: either numbers of GPUs or cpu, not both")
        if self.gpus and self.on == "ray":
            raise ValueError("gpus are those of one machine; with on: ray, Ray places one engine on each GPU it has")
        if self.engine == "openai" and (self.gpus or self.on == "ray"):
            raise ValueError("the engine openai asks a server and needs no gpus and no Ray; one process is enough")
        return self


class Shard(Section):
    """What a shard is and which caption a sample gets."""

    captions: tuple[Literal["teacher", "student"], ...] = Field(
        default=("teacher", "student"), min_length=1, description="the first set that has a kept caption gives it"
    )
    max_samples: int = Field(default=10_000, gt=0)
    max_bytes: int = Field(default=1_000_000_000, gt=0)
    validation: float = Field(default=0.0, ge=0, lt=1, description="share of samples, by hash, in that split")
    reencode: Literal["jpeg", "png", "webp"] | None = Field(default=None, description="null: the original bytes")
    max_side_px: int | None = Field(default=None, ge=16, description="with reencode: scale larger pictures down")
    workers: int | None = Field(default=None, ge=1, description="threads that write tars; null: one per core")


class Publish(Section):
    """Where the dataset goes."""

    to: str = Field(
        description="file://FOLDER, relative to the run folder unless absolute, or hf://datasets/OWNER/NAME"
    )
    title: str | None = None
    license: str | None = Field(default=None, description="of the captions, as the Hub writes it, e.g. cc-by-4.0")
    private: bool = Field(default=True, description="a repository that is made on the Hub is private")
    tag: str | None = Field(
        default=None, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$",
        description="name that the published commit gets on the Hub; null: sgv- and the start of the dataset's hash",
    )


_NO_TEACHER = Teacher(model="none")


class Manifest(Section):
    """One run. One that trains on conversations has no pictures and no teacher of its own, all others have both."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", description="the run folder is runs/<name>")
    seed: int = Field(default=0, description="every draw and split depends on it and on image ids, on nothing else")
    images: tuple[AnySource, ...] = ()
    pictures: Pictures = Pictures()
    teacher: Teacher = _NO_TEACHER
    filter: FilterPolicy = FilterPolicy()
    captioner: CaptionerModel | None = Field(default=None, description="null: the teacher's captions are the dataset")
    expand: Expand = Expand()
    shard: Shard = Shard()
    publish: Publish | None = None
    prompts: str | None = Field(default=None, description="folder with prompts of your own; relative to the manifest")
    _origin: tuple[Path, tuple[str, ...]] | None = PrivateAttr(default=None)

    @property
    def origin(self) -> tuple[Path, tuple[str, ...]] | None:
        """The file it was read from and the overrides, so that it can be read again; None: made otherwise."""
        return self._origin

    def came_from(self, path: Path, overrides: tuple[str, ...]) -> Self:
        """The same manifest, which knows its origin."""
        self._origin = (path, overrides)
        return self

    @property
    def prompt_folders(self) -> tuple[Path, ...]:
        """Where prompts are looked for before those that come with the project."""
        return (Path(self.prompts),) if self.prompts else ()

    @property
    def only_trains(self) -> bool:
        """Whether the run is nothing but a training on conversations."""
        return self.captioner is not None and self.captioner.conversations is not None

    @model_validator(mode="after")
    def _whole_or_training(self) -> Self:
        given = {"images": bool(self.images), "teacher": self.teacher != _NO_TEACHER}
        for name, there in given.items():
            if there and self.only_trains:
                raise ValueError(f"{name}: leave this section out: captioner.conversations holds the captions")
            if not there and not self.only_trains:
                raise ValueError(f"{name} must not be empty" if name == "images" else f"{name} is missing")
        return self

    @model_validator(mode="after")
    def _distinct_names(self) -> Self:
        names = [source.name for source in self.images]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"images: the name {twice[0]!r} is used twice; names must differ")
        return self
