"""MME's published scoring rule, written down once more: it reads result files and imports nothing of ours."""

from __future__ import annotations

from pathlib import Path

PERCEPTION = ["existence", "count", "position", "color", "posters", "celebrity", "scene", "landmark", "artwork", "OCR"]
COGNITION = ["commonsense_reasoning", "numerical_calculation", "text_translation", "code_reasoning"]


def label(reply: str) -> str:
    if reply in ("yes", "no"):
        return reply
    for wanted in ("yes", "no"):
        if wanted in reply[:4]:
            return wanted
    return "other"


def task_score(path: Path) -> float:
    with open(path) as file:
        lines = file.readlines()
    right, both, pictures = [], 0, len(lines) // 2
    for number in range(pictures):
        of_picture = []
        for line in lines[2 * number : 2 * number + 2]:
            _, _, truth, reply = line.split("\t")
            of_picture.append(label(reply.lower()) == truth.lower())
        right += of_picture
        both += all(of_picture)
    return sum(right) / len(right) * 100 + both / pictures * 100


def scores(folder: Path) -> dict[str, float]:
    return {
        name: sum(task_score(folder / f"{task}.txt") for task in tasks)
        for name, tasks in (("perception", PERCEPTION), ("cognition", COGNITION))
    }
