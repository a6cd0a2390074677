"""What class.html says: the numbers of a whole class, gathered student by student."""

from collections import Counter, defaultdict
from statistics import mean, median, quantiles
from typing import Any

from autograder.exercise import Exercise, Mistake
from autograder.grader.gradebook import Enrolled, Graded
from autograder.judge import Status

MAX_ROWS = 50
"""Rows of a table about single students; the gradebook holds the rest."""

MAX_SENTENCE = 300
HALTED = (Status.TIMED_OUT, Status.OUT_OF_MEMORY, Status.CRASHED)


class ClassReport:
    """Counts what a class page shows: `add` each student, then take its `content`."""

    def __init__(self, exercises: list[Exercise]):
        self._exercises = exercises
        self._out_of = sum(exercise.points for exercise in exercises)
        self._students: list[dict[str, Any]] = []
        self._statuses: dict[str, Counter[str]] = defaultdict(Counter)
        self._seconds: dict[str, list[float]] = defaultdict(list)
        self._mistakes: Counter[tuple[str, Mistake]] = Counter()
        self._unexplained: Counter[str] = Counter()
        self._halted: list[tuple[str, Graded]] = []
        self._hard_coded: list[tuple[str, Graded]] = []
        self._problems: list[tuple[str, str]] = []

    def add(self, enrolled: Enrolled, verdicts: list[Graded], page: str) -> None:
        """Count one student. page: the name of the file of their feedback."""
        points = sum(graded.points for graded in verdicts)
        self._students.append({"name": enrolled.student, "page": page, "points": points})
        self._problems += [(enrolled.student, problem) for problem in enrolled.problems]
        for graded in verdicts:
            status = graded.verdict.status
            self._statuses[graded.exercise][status] += 1
            if status is not Status.NOT_ATTEMPTED:
                self._seconds[graded.exercise].append(graded.seconds)
            if graded.verdict.mistake:
                self._mistakes[graded.exercise, graded.verdict.mistake] += 1
            elif status is Status.INCORRECT:
                self._unexplained[graded.exercise] += 1
            if status in HALTED:
                self._halted.append((enrolled.student, graded))
            if graded.practice and status is not Status.CORRECT:
                self._hard_coded.append((enrolled.student, graded))

    def content(self) -> dict[str, Any]:
        """All that the template needs, in plain values."""
        points = [student["points"] for student in self._students]
        seen = [status for status in Status if any(counts[status] for counts in self._statuses.values())]
        return {
            "students": self._students,
            "out_of": self._out_of,
            "mean": mean(points) if points else 0,
            "median": median(points) if points else 0,
            "full_marks": sum(one == self._out_of for one in points) if self._out_of else 0,
            "no_points": sum(one == 0 for one in points),
            "bins": self._histogram(points),
            "statuses": seen,
            "success": self._success(seen),
            "mistakes": [
                {"count": count, "exercise": exercise, "sentence": mistake.sentence}
                for (exercise, mistake), count in self._mistakes.most_common(20)
            ],
            "explained": self._mistakes.total(),
            "unexplained": self._unexplained.most_common(),
            "halted": _first([_row(student, graded, graded.reason) for student, graded in self._halted]),
            "hard_coded": _first([_row(student, graded, _told(graded)) for student, graded in self._hard_coded]),
            "hard_coded_by_exercise": Counter(graded.exercise for _, graded in self._hard_coded).most_common(),
            "problems": _first([{"student": student, "sentence": text} for student, text in self._problems]),
            "slowest": self._slowest(),
        }

    def _histogram(self, points: list[int]) -> list[int]:
        """Students in each tenth of the points; full marks count to the last."""
        tenths = Counter(min(9, 10 * one // self._out_of) for one in points) if self._out_of else Counter()
        return [tenths[tenth] for tenth in range(10)]

    def _success(self, statuses: list[Status]) -> list[dict[str, Any]]:
        """Each exercise with its number of students per status; solved: the share of those who tried it."""
        rows = []
        for exercise in self._exercises:
            counts = self._statuses[exercise.name]
            tried = counts.total() - counts[Status.NOT_ATTEMPTED]
            rows.append(
                {
                    "exercise": exercise.name,
                    "points": exercise.points,
                    "counts": [counts[status] for status in statuses],
                    "share": counts[Status.CORRECT] / max(counts.total(), 1),
                    "tried": tried,
                    "solved": counts[Status.CORRECT] / max(tried, 1),
                }
            )
        return rows

    def _slowest(self) -> list[dict[str, Any]]:
        rows = [
            {
                "exercise": name,
                "median": median(seconds),
                "most": quantiles([*seconds, *seconds], n=20)[-1],  # 95 in 100; twice, as one value has no quantiles
                "longest": max(seconds),
            }
            for name, seconds in self._seconds.items()
        ]
        return sorted(rows, key=lambda row: row["median"], reverse=True)[:8]


def _row(student: str, graded: Graded, sentence: str) -> dict[str, Any]:
    return {
        "student": student,
        "exercise": graded.exercise,
        "status": graded.verdict.status,
        "sentence": sentence,
    }


def _told(graded: Graded) -> str:
    return graded.verdict.fault.sentence if graded.verdict.fault else graded.reason


def _first(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The first rows, their sentences cut to a line or two, and how many there are in all."""
    shown = [row | {"sentence": _cut(row["sentence"])} for row in rows[:MAX_ROWS]]
    return {"rows": shown, "count": len(rows)}


def _cut(text: str) -> str:
    return text if len(text) <= MAX_SENTENCE else f"{text[:MAX_SENTENCE]}…"
