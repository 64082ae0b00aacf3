"""The dataset in Croissant (spec 1.1): its tars with their hashes, what is in them, and how it came about.

The Hub makes a Croissant file of its own, which describes a conversion of the first gigabytes; this one describes the
files that are there.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from sgv_data.dataset_format import DATA, JSON_FIELD, TEXT_FIELD
from sgv_data.publish.facts import DatasetFacts
from sgv_data.records import ShardRow

CROISSANT = "croissant.json"

_KEY_OF_FILE = r"([^/.]+)\.[^/]+$"
_OWN_TERMS = (
    "citeAs", "column", "containedIn", "extract", "field", "fileProperty", "fileObject", "fileSet", "format",
    "includes", "isLiveDataset", "jsonPath", "key", "md5", "parentField", "path", "recordSet", "references", "regex",
    "repeated", "replace", "separator", "source", "subField", "transform", "arrayShape", "isArray", "samplingRate",
    "equivalentProperty",
)  # fmt: skip
_CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "dct": "http://purl.org/dc/terms/",
    "sc": "https://schema.org/",
    "conformsTo": "dct:conformsTo",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
    **{term: f"cr:{term}" for term in _OWN_TERMS},
}


def render_croissant(facts: DatasetFacts, shards: Sequence[ShardRow], repo_id: str | None) -> str:
    """The JSON-LD text. `repo_id`: where it lies on the Hub; None: file names are relative to this file."""
    page = f"https://huggingface.co/datasets/{repo_id}" if repo_id else None
    description = {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.1",
        "name": facts.name,
        "description": f"{facts.num_samples} pictures, each with one caption written by a model.",
        "license": facts.license,
        **({"url": page} if page else {}),
        **_responsible(facts),
        "distribution": [
            *(_tar(shard, f"{page}/resolve/main/" if page else "") for shard in shards),
            _members("pictures", shards, [f"*.{name}" for name in facts.image_fields], "image/*"),
            _members("captions", shards, [f"*.{TEXT_FIELD}"], "text/plain"),
            _members("records", shards, [f"*.{JSON_FIELD}"], "application/json"),
        ],
        "recordSet": [
            _record_set("pictures", "picture", "sc:ImageObject"),
            _record_set("captions", "caption", "sc:Text"),
            _record_set("records", "record", "sc:Text"),
        ],
    }
    return json.dumps(description, indent=1, ensure_ascii=False) + "\n"


def _tar(shard: ShardRow, base: str) -> dict[str, Any]:
    name = f"{DATA}/{shard.shard}"
    return {
        "@type": "cr:FileObject", "@id": name, "name": name, "contentUrl": base + name,
        "contentSize": f"{shard.num_bytes} B", "encodingFormat": "application/x-tar", "sha256": shard.sha256,
    }  # fmt: skip


def _members(name: str, shards: Sequence[ShardRow], patterns: Sequence[str], kind: str) -> dict[str, Any]:
    return {
        "@type": "cr:FileSet", "@id": f"{name}-files", "name": f"{name}-files", "encodingFormat": kind,
        "containedIn": [{"@id": f"{DATA}/{shard.shard}"} for shard in shards],
        "includes": patterns[0] if len(patterns) == 1 else list(patterns),
    }  # fmt: skip


def _record_set(name: str, content: str, kind: str) -> dict[str, Any]:
    """Key and content of one member of every sample; the key is the same in all record sets."""
    source = {"fileSet": {"@id": f"{name}-files"}}
    return {
        "@type": "cr:RecordSet",
        "@id": name,
        "name": name,
        "key": {"@id": f"{name}/key"},
        "field": [
            {
                "@type": "cr:Field", "@id": f"{name}/key", "name": f"{name}/key", "dataType": "sc:Text",
                "source": {
                    **source, "extract": {"fileProperty": "filename"}, "transform": {"regex": _KEY_OF_FILE},
                },
            },
            {
                "@type": "cr:Field", "@id": f"{name}/{content}", "name": f"{name}/{content}", "dataType": kind,
                "source": {**source, "extract": {"fileProperty": "content"}},
            },
        ],
    }  # fmt: skip


def _responsible(facts: DatasetFacts) -> dict[str, Any]:
    """The responsible-AI fields, from the records."""
    models = sorted({f"{writer.model} {writer.revision}".strip() for writer in facts.writers})
    prompts = sorted({f"{writer.prompt_id}, version {writer.prompt_version}" for writer in facts.writers})
    sources = sorted({f"{source} ({license_})" for source, license_ in facts.sources})
    thresholds = ", ".join(f"{each.name} {each.value}" for each in facts.thresholds)
    return {
        "rai:dataCollection": f"Pictures from {', '.join(sources)}. Captions were written by models, one per picture.",
        "rai:dataCollectionType": "Others",
        "rai:dataAnnotationProtocol": f"Each picture was shown to a model with a prompt ({'; '.join(prompts)}).",
        "rai:machineAnnotationTools": models,
        "rai:annotationsPerItem": "1",
        "rai:dataManipulationProtocol": f"Captions were kept or rejected by scores, never edited: {thresholds}.",
        "rai:dataBiases": "Captions carry the habits of their model and prompt.",
        "rai:dataLimitations": "Captions state things that are not in the picture and miss things that are; the "
        "filters judge the text alone. Nothing was compared with the test sets of benchmarks.",
        "rai:dataUseCases": "Training and study of captioning and vision-language models.",
        "rai:personalSensitiveInformation": "Pictures may show people; none were looked for or removed.",
    }
