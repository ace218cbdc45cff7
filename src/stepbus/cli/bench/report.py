"""What `stepbus bench` found, for people and for programs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from rich.text import Text

from .comparison import figures
from .figures import Figure
from .machine import machine, versions
from .measuring import Outcome
from .subject import Subject, Where
from .table import console, print_case
from .verdict import PLACES, verdict

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Report:
    """The figures of one subject, and what follows from them."""

    subject: Subject
    outcome: Outcome
    usual: Where
    refused: Mapping[Where, str]
    judged: Where
    max_ratio: float | None
    logging_steps: int

    @property
    def figures(self) -> list[Figure]:
        """All of them; the median of the place that is judged has --max-ratio as its budget."""
        found: list[Figure] = []
        for case in self.outcome.cases:
            name = f"{case.step_ms:g} ms step"
            for compared in (case.control, case.alone, *case.places.values()):
                budgets = {}
                if self.max_ratio is not None and compared.name == self.judged:
                    budgets["p50"] = self.max_ratio
                found += figures("bench", name, compared, case.control, budgets)
        return found

    @property
    def is_over(self) -> bool:
        """Whether --max-ratio is exceeded by more than the control could show by chance."""
        return any(figure.verdict.startswith("not met") for figure in self.figures)

    @property
    def verdict(self) -> str:
        """What to do, in one line."""
        return verdict(self.outcome.cases, self.usual, self.outcome.broken)

    def to_json(self) -> dict[str, Any]:
        """For programs."""
        return {
            "schema_version": SCHEMA_VERSION,
            "subject": asdict(self.subject),
            "machine": machine(),
            "versions": versions(),
            "logging_steps": self.logging_steps,
            "cases": [
                {"step_ms": case.step_ms, "raw_ms": case.raw_ms} for case in self.outcome.cases
            ],
            "figures": [figure.to_json() for figure in self.figures],
            "accounts": self.outcome.accounts,
            "refused": dict(self.refused),
            "failed": self.outcome.broken,
            "usual": self.usual,
            "judged": self.judged,
            "max_ratio": self.max_ratio,
            "is_over": self.is_over,
            "verdict": self.verdict,
        }

    def print(self) -> None:
        """For people."""
        to = console()
        facts = machine()
        here = ", ".join(f"{facts[name]}" for name in ("processor", "system") if name in facts)
        cores = f"{facts['cores']} cores, load {facts['load'].split()[0]}"
        to.print(Text(f"{self.subject.target} on {here}, {cores}"))
        for case in self.outcome.cases:
            print_case(to, case)
        to.print()
        for line in self._notes():
            to.print(Text(line))
        to.print(Text(self.verdict, style="bold"))
        for figure in self.figures:
            if figure.budget is not None:
                name = f"--max-ratio {figure.budget:g}, {PLACES[self.judged]}, {figure.case}"
                style = "red" if figure.verdict.startswith("not met") else ""
                to.print(Text(f"{name}: {figure.verdict}", style=style))

    def _notes(self) -> list[str]:
        lines = [f"not {PLACES[where]}: {why}" for where, why in self.refused.items()]
        lines += [f"{PLACES[where]}: {why}" for where, why in self.outcome.broken.items()]
        for where, row in self.outcome.accounts.items():
            pending = row.get("pending", 0)
            if pending > row.get("handled", 0) * 0.1:
                lines.append(
                    f"{PLACES[where]} it does not keep up with a "
                    f"{self.outcome.cases[0].step_ms:g} ms step: {row['handled']:,} events were "
                    f"handled and {pending:,} waited at the end"
                )
        return lines
