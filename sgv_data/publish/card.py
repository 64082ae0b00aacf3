"""The dataset card: front matter that makes loaders right at the first try, and a body written from the records."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jinja2
import yaml

from sgv_data.dataset_format import DATA
from sgv_data.publish.facts import DatasetFacts

_TEMPLATE = "card.md.jinja"
_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"),
          (10_000_000, "1M<n<10M"), (100_000_000, "10M<n<100M"), (1_000_000_000, "100M<n<1B"))  # fmt: skip


def render_card(facts: DatasetFacts, location: str, on_hub: bool = False) -> str:
    """The whole README.md. `location` is what its loading snippets open: a folder, or a repository of the Hub."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        undefined=jinja2.StrictUndefined,
        autoescape=False,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(cell=_cell, fenced=_fenced, number=_number, size=_size)
    body = environment.get_template(_TEMPLATE).render(facts=facts, location=location, on_hub=on_hub)
    head = yaml.safe_dump(front_matter(facts), sort_keys=False, allow_unicode=True, width=10_000)
    return f"---\n{head}---\n\n{body}"


def front_matter(facts: DatasetFacts) -> dict[str, Any]:
    """The YAML header. Its configs name tars only: loaders choose one format per repository by counting files."""
    return {
        "pretty_name": facts.title,
        "license": facts.license,
        "language": ["en"],
        "size_categories": [size_category(facts.num_samples)],
        "task_categories": ["image-to-text", "image-text-to-text"],
        "annotations_creators": ["machine-generated"],
        "language_creators": ["machine-generated"],
        "tags": ["webdataset", "image", "text", "image-captioning", "synthetic"],
        "configs": [
            {
                "config_name": "default",
                "data_files": [{"split": split.name, "path": f"{DATA}/{split.name}-*.tar"} for split in facts.splits],
            }
        ],
        "dataset_info": {
            "features": facts.features,
            "splits": [
                {"name": split.name, "num_bytes": split.num_bytes, "num_examples": split.num_samples}
                for split in facts.splits
            ],
            "download_size": sum(split.tar_bytes for split in facts.splits),
            "dataset_size": sum(split.num_bytes for split in facts.splits),
        },
    }


def size_category(num_samples: int) -> str:
    """The Hub's name for a dataset of that size."""
    return next((name for limit, name in _SIZES if num_samples < limit), "n>1B")


def _cell(value: object) -> str:
    """Text that cannot leave its cell of a Markdown table, or pass for markup."""
    text = " ".join(str(value).split())
    return "".join(f"\\{sign}" if sign in "\\`*_{}[]<>|#~$" else sign for sign in text)


def _fenced(text: str) -> str:
    """Text as a code block whose fence is longer than any in it."""
    fence = "```"
    while fence in text:
        fence += "`"
    return f"{fence}text\n{text}\n{fence}"


def _number(value: int) -> str:
    return f"{value:,}"


def _size(num_bytes: int) -> str:
    for unit, factor in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if num_bytes >= factor:
            return f"{num_bytes / factor:.1f} {unit}"
    return f"{num_bytes} bytes"
