"""From the figures of all rounds to the table, with the bar's verdict on each row."""
from conformance.bench.shared import tables
from conformance.bench.shared.tables import DISTURBED_CORES, number, table, verdict

# Who is compared with whom: title, Kafka's durability, PolyMQ's, the bar on throughput, the bar on p99.
COMPARISONS = (
    ("Each at its default: Kafka acknowledges from the page cache, PolyMQ after fsync", "page cache", "fsync", 1.0, None),
    ("Equal durability, fsync: Kafka with `flush.messages=1`, PolyMQ's default", "fsync", "fsync", 1.5, 0.5),
    ("Equal durability, page cache: Kafka's default, PolyMQ with `polymq.durability=relaxed`", "page cache", "page cache", 1.5, 0.5),
)
CPU_BAR, IDLE_MEMORY_BAR, START_BAR = 0.5, 0.1, 0.1


class Results(tables.Results):
    """Figures by broker, section, measure and durability."""

    def failure(self, broker, section, name, durability):
        for figures in self.of(broker, section, name, durability):
            if "failed" in figures:
                return figures["failed"]
        return None

    def rounds_by_section(self):
        counts = {}
        for key, rounds in self.rounds.items():
            section = key.split("|")[1]
            counts[section] = max(counts.get(section, 0), len(rounds))
        return counts


def ratio_of(kafka, polymq):
    return polymq / kafka if kafka and polymq is not None else None


class Report:
    def __init__(self, results, brokers):
        self.results = results
        self.brokers = brokers
        self.failures = []

    def text(self):
        parts = []
        for title, kafka, polymq, throughput_bar, latency_bar in COMPARISONS:
            blocks = [self.throughput(section, kafka, polymq, throughput_bar) for section in ("produce", "tail", "follow", "transactions", "compacted")]
            blocks.append(self.latency(kafka, polymq, latency_bar))
            blocks = [block for block in blocks if block]
            if blocks:
                parts.append(f"## {title}\n\n" + "\n\n".join(blocks))
        blocks = [block for block in (*map(self.whatever, ("catch-up", "groups", "share")), self.start(), self.partitions()) if block]
        if blocks:
            parts.append("## Whatever the durability\n\n" + "\n\n".join(blocks))
        if self.failures:
            parts.append("## What failed\n\n" + "\n".join(f"- {failure}" for failure in dict.fromkeys(self.failures)))
        return "\n\n".join(parts) + "\n"

    def pair(self, section, name, kafka, polymq, key):
        values = []
        for broker, durability in (("apache", kafka), ("polymq", polymq)):
            failure = self.results.failure(broker, section, name, durability)
            if failure:
                self.failures.append(f"{broker}, {name} ({durability}): {failure}")
            values.append(self.results.median(broker, section, name, durability, key))
        return values

    def throughput_rows(self, section, kafka, polymq, bar):
        rows = []
        for name in self.results.names(section):
            rate = self.pair(section, name, kafka, polymq, "records per second")
            cpu = self.pair(section, name, kafka, polymq, "cpu per million")
            broker = self.pair(section, name, kafka, polymq, "broker cores")
            client = self.pair(section, name, kafka, polymq, "client cores")
            other = self.pair(section, name, kafka, polymq, "other cores")
            if rate == [None, None]:
                continue
            # At a fixed rate nobody is faster; what it costs is what counts.
            bar = None if section == "follow" else bar
            rate_ratio, cpu_ratio = ratio_of(*rate), ratio_of(*cpu)
            cores = [f"{number(b, '{:.2f}')} + {number(c, '{:.2f}')}" for b, c in zip(broker, client)]
            noisy = "yes" if any(value is not None and value > DISTURBED_CORES for value in other) else ""
            rows.append([name, number(rate[0]), number(rate[1]), number(rate_ratio, "{:.2f}"), verdict(rate_ratio, bar, True),
                         number(cpu[0], "{:.2f}"), number(cpu[1], "{:.2f}"), number(cpu_ratio, "{:.2f}"),
                         verdict(cpu_ratio, CPU_BAR, False), *cores, noisy])
        return rows

    def throughput(self, section, kafka, polymq, bar):
        rows = self.throughput_rows(section, kafka, polymq, bar)
        return rows and table(["", "Kafka records/s", "PolyMQ records/s", "ratio", "bar", "Kafka broker CPU-s per million",
                               "PolyMQ", "ratio", "bar", "Kafka: cores of broker + client", "PolyMQ: cores", "noisy"], rows)

    def latency(self, kafka, polymq, bar):
        rows = []
        for name in self.results.names("end-to-end"):
            values = {key: self.pair("end-to-end", name, kafka, polymq, key)
                      for key in ("p50", "p99", "p999", "cpu per million", "other cores")}
            if values["p50"] == [None, None]:
                continue
            texts = [" / ".join(number(values[key][at], "{:.1f}") for key in ("p50", "p99", "p999")) for at in (0, 1)]
            ratio = ratio_of(*values["p99"])
            noisy = "yes" if any(value is not None and value > DISTURBED_CORES for value in values["other cores"]) else ""
            rows.append([name, *texts, number(ratio, "{:.2f}"), verdict(ratio, bar, False),
                         *(number(value, "{:.1f}") for value in values["cpu per million"]),
                         number(ratio_of(*values["cpu per million"]), "{:.2f}"), noisy])
        return rows and table(["end to end, p50 / p99 / p99.9 in ms", "Kafka", "PolyMQ", "p99 ratio", "bar",
                               "Kafka broker CPU-s per million", "PolyMQ", "ratio", "noisy"], rows)

    def whatever(self, section):
        return self.throughput(section, "default", "default", 1.0)

    def start(self):
        rows = []
        for key, text, form, bar, scale in (
                ("start seconds", "from start to first acknowledged record, ms", "{:,.0f}", START_BAR, 1e3),
                ("idle memory", "resident memory idle, MiB", "{:,.0f}", IDLE_MEMORY_BAR, 1 / (1 << 20)),
                ("load memory", "most resident memory under all of the above, MiB", "{:,.0f}", None, 1 / (1 << 20))):
            values = self.pair("start", "start", "default", "default", key)
            if values == [None, None]:
                continue
            ratio = ratio_of(*values)
            rows.append([text, *(number(value and value * scale, form) for value in values), number(ratio, "{:.3f}"),
                         verdict(ratio, bar, False)])
        return rows and table(["start and memory", "Kafka", "PolyMQ", "ratio", "bar"], rows)

    def partitions(self):
        rows = []
        for name in self.results.names("partitions"):
            for key, text, form, scale in (
                    ("create seconds", "until all can be written, s", "{:.2f}", 1),
                    ("records per second", "records/s of 100 B across all of them", "{:,.0f}", 1),
                    ("cpu per million", "broker CPU-s per million", "{:.1f}", 1),
                    ("created memory", "resident memory when created, MiB", "{:,.0f}", 1 / (1 << 20)),
                    ("written memory", "resident memory when written to, MiB", "{:,.0f}", 1 / (1 << 20))):
                values = self.pair("partitions", name, "default", "default", key)
                if values != [None, None]:
                    rows.append([f"{name}: {text}", *(number(value and value * scale, form) for value in values),
                                 number(ratio_of(*values), "{:.2f}")])
        return rows and table(["", "Kafka", "PolyMQ", "ratio"], rows)
