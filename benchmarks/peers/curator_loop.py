"""Captions pictures with bespokelabs-curator; runs in curator's own environment, started by `benchmarks/collect.py`.

    python curator_loop.py PICTURES BASE_URL IN_FLIGHT

All of curator's limits are set out of reach, telemetry and viewer are off, and its working folder is new, so nothing
but its own loop holds it up. It needs no network: prices and token encodings are read from the files that litellm
brings.
"""

from __future__ import annotations

import os
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

litellm = find_spec("litellm")
if litellm is None or litellm.origin is None:
    sys.exit("needs an environment with bespokelabs-curator, which brings litellm")
os.environ |= {
    "TIKTOKEN_CACHE_DIR": str(Path(litellm.origin).parent / "litellm_core_utils" / "tokenizers"),
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "TELEMETRY_ENABLED": "false",
    "CURATOR_DISABLE_RICH_DISPLAY": "1",
    "HF_HUB_OFFLINE": "1",
    "OPENAI_API_KEY": "none",
}  # fmt: skip

from bespokelabs import curator  # noqa: E402
from datasets import Dataset  # noqa: E402


class Describer(curator.LLM):  # type: ignore[misc]
    """One caption per picture."""

    def prompt(self, row: dict[str, Any]) -> tuple[str, Any]:
        return "Describe this picture in detail.", curator.types.Image(url=row["path"], detail="high")

    def parse(self, row: dict[str, Any], response: str) -> dict[str, Any]:
        return {"path": row["path"], "caption": response}


def main() -> None:
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    folder, base_url, in_flight = sys.argv[1:]
    paths = sorted(str(path) for path in Path(folder).iterdir())
    describer = Describer(
        model_name="gpt-4o",
        backend="openai",
        backend_params={
            "base_url": base_url,
            "max_concurrent_requests": int(in_flight),
            "max_requests_per_minute": 1_000_000_000,
            "max_tokens_per_minute": 1_000_000_000_000,
            "max_retries": 0,
        },
        generation_params={"max_completion_tokens": 1024, "temperature": 0.7},
    )
    with tempfile.TemporaryDirectory(prefix="curator-") as work:
        out = describer(Dataset.from_dict({"path": paths}), working_dir=work)
        rows = getattr(out, "dataset", out)
        assert len(rows) == len(paths), f"{len(rows)} captions for {len(paths)} pictures"


if __name__ == "__main__":
    main()
