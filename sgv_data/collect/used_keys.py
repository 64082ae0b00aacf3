"""Which requests a run makes use of: those of all its pictures, and those its finished table names."""

from __future__ import annotations

from sgv_data.api.cache import ReplyCache
from sgv_data.collect.prepare import recipe_name
from sgv_data.collect.questions import Questions
from sgv_data.collect.scan import asked_rows, in_parts
from sgv_data.collect.scan_columns import Columns
from sgv_data.manifest import Manifest
from sgv_data.run_folder import RunFolder
from sgv_data.tables import table_files


def used_keys(manifest: Manifest, run: RunFolder, cache: ReplyCache) -> frozenset[str]:
    """The keys, from the run's index and, once there is one, its table of captions with the retry rounds in it.

    Raises:
        RunFolderError: if the run has no index; what it uses is then not known.
    """
    keys: set[str] = set()
    questions, recipe = Questions(manifest), recipe_name(manifest.teacher)
    for part in in_parts(asked_rows(run.stage("index"))):
        sent = cache.sent(recipe, {row.sha256 for row in part})
        keys.update(questions.key(row, sent[row.sha256]) for row in part if row.sha256 in sent)
    if table_files(run.stage("collect"), "captions"):
        for table in Columns(run.stage("collect"), "captions").tables(["request_key"]):
            keys.update(table["request_key"].to_pylist())
    return frozenset(keys)
