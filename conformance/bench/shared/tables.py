"""From the figures of all rounds to tables in Markdown, with the verdicts of bars."""
from statistics import median

# Beyond this much user time of other programs (a core is 1) a figure is marked, or the whole run.
DISTURBED_CORES = 0.15


class Results:
    """Figures by a key of texts (broker, section, name, …): a list, one dictionary a round; `{"failed": why}` if it failed."""

    def __init__(self):
        self.rounds = {}

    def add(self, *key_and_figures):
        *key, figures = key_and_figures
        self.rounds.setdefault("|".join(key), []).append(figures)

    def of(self, *key):
        return self.rounds.get("|".join(key), [])

    def median(self, *key_and_figure):
        *key, figure = key_and_figure
        values = [figures[figure] for figures in self.of(*key) if figures.get(figure) is not None]
        return median(values) if values else None

    def names(self, section):
        """The section's measures in the order they were taken."""
        return list(dict.fromkeys(key.split("|")[2] for key in self.rounds if key.split("|")[1] == section))

    def failures(self):
        return list(dict.fromkeys(f"{key.replace('|', ', ')}: {figures['failed']}" for key, rounds in self.rounds.items() for figures in rounds if "failed" in figures))

    def others_cores(self):
        """Cores that other programs kept busy: the median over all measures; None if there are none."""
        values = [figures["other cores"] for rounds in self.rounds.values() for figures in rounds if "other cores" in figures]
        return median(values) if values else None


def table(head, rows):
    lines = ["| " + " | ".join(head) + " |", "|" + "|".join("---" if at == 0 else "--:" for at in range(len(head))) + "|"]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def number(value, form="{:,.0f}"):
    return "–" if value is None else form.format(value)


def verdict(ratio, bar, at_least):
    if ratio is None or bar is None:
        return ""
    met = ratio >= bar if at_least else ratio <= bar
    return f"{'met' if met else '**missed**'} ({'≥' if at_least else '≤'} {bar:g})"
