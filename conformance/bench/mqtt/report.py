"""From the figures of all rounds to tables, with the bars of issue 5 §3."""
from conformance.bench.shared import tables
from conformance.bench.shared.tables import number, table, verdict

MIB = 1 << 20
RELAXED_BAR, FSYNC_BAR, CPU_BAR, LATENCY_BAR, CONNECTION_KIB_BAR = 1.5, 1.0, 0.7, 1.0, 10.0
# With so much of a core, the load generator (one thread) is the limit, or may be.
LOAD_LIMIT_CORES = 0.85
# Broker and load generator together: so much of two cores and the machine is the limit.
MACHINE_LIMIT_CORES = 1.8
ORACLE, RELAXED, FSYNC = "mosquitto", "relaxed", "fsync"


class Results(tables.Results):
    """Figures by broker, section and name."""

    def all(self, section, name, key):
        """mosquitto's, relaxed's and fsync's."""
        return [self.median(broker, section, name, key) for broker in (ORACLE, RELAXED, FSYNC)]


def ratio(values, at):
    return values[at] / values[0] if values[0] and values[at] is not None else None


def limited(load, broker):
    return load is not None and (load > LOAD_LIMIT_CORES or broker is not None and load + broker > MACHINE_LIMIT_CORES)


def throughput(results):
    rows = []
    for name in results.names("throughput"):
        rate, cpu = results.all("throughput", name, "received per second"), results.all("throughput", name, "cpu per million")
        load, broker = results.all("throughput", name, "load cores"), results.all("throughput", name, "broker cores")
        said = ""
        if not name.startswith("QoS 2"):  # the bars are of QoS 0 and 1
            said = verdict(ratio(rate, 1), RELAXED_BAR, True)
            if "missed" in said and limited(load[1], broker[1]):
                said = f"the load is the limit; CPU {verdict(ratio(cpu, 1), CPU_BAR, False)}"
        lost = [figure for figure in results.all("throughput", name, "lost") if figure]
        rows.append([name + (f" (lost: {', '.join(f'{each:,.0f}' for each in lost)})" if lost else ""), *(number(each) for each in rate), number(ratio(rate, 1), "{:.2f}"), said, number(ratio(rate, 2), "{:.2f}"),
                     "" if name.startswith("QoS 2") else verdict(ratio(rate, 2), FSYNC_BAR, True), *(number(each, "{:.1f}") for each in cpu), number(ratio(cpu, 1), "{:.2f}"),
                     *(f"{number(b, '{:.2f}')} + {number(c, '{:.2f}')}" for b, c in zip(broker, load))])
    return rows and table(["messages received/s", "mosquitto", "PolyMQ relaxed", "PolyMQ fsync", "relaxed ratio", "bar", "fsync ratio", "bar", "CPU-s per million: mosquitto", "relaxed", "fsync", "relaxed ratio",
                           "cores of broker + load: mosquitto", "relaxed", "fsync"], rows)


def latency(results):
    rows = []
    for name in results.names("latency"):
        texts = [" / ".join(number(results.all("latency", name, key)[at], "{:.2f}") for key in ("p50", "p99", "p99.9")) for at in (0, 1, 2)]
        p99, rate, cpu = (results.all("latency", name, key) for key in ("p99", "received per second", "cpu per million"))
        rows.append([name, *texts, number(ratio(p99, 1), "{:.2f}"), verdict(ratio(p99, 1), LATENCY_BAR, False), number(ratio(p99, 2), "{:.2f}"), *(number(each) for each in rate), *(number(each, "{:.1f}") for each in cpu)])
    return rows and table(["p50 / p99 / p99.9 in ms", "mosquitto", "PolyMQ relaxed", "PolyMQ fsync", "relaxed p99 ratio", "bar", "fsync p99 ratio", "messages/s: mosquitto", "relaxed", "fsync", "CPU-s per million: mosquitto", "relaxed", "fsync"], rows)


def scale(results):
    rows = []
    for section, key, text, form, unit, bar in (
            ("idle", "memory", "resident memory, MiB", "{:,.1f}", 1 / MIB, None),
            ("connections", "seconds", "connected in, s", "{:.2f}", 1, None), ("connections", "memory each", "resident memory each, KiB", "{:,.2f}", 1 / 1024, CONNECTION_KIB_BAR),
            ("connections", "memory for them", "resident memory for them, MiB", "{:,.1f}", 1 / MIB, None), ("connections", "idle cores", "cores while nothing happens", "{:.3f}", 1, None),
            ("connect", "per second", "a second", "{:,.0f}", 1, None), ("connect", "p99", "p99 until CONNACK, ms", "{:.2f}", 1, None), ("connect", "cpu per million", "broker CPU-s per million", "{:,.0f}", 1, None),
            ("retained", "load seconds", "published in, s", "{:.2f}", 1, None), ("retained", "load cpu", "broker CPU-s for that", "{:.2f}", 1, None), ("retained", "memory for them", "resident memory for them, MiB", "{:,.1f}", 1 / MIB, None),
            ("retained", "first seconds", "first comes after, s", "{:.3f}", 1, None), ("retained", "subscribe seconds", "all have come after, s", "{:.3f}", 1, None), ("retained", "subscribe cpu", "broker CPU-s for that", "{:.2f}", 1, None)):
        for name in results.names(section):
            values = results.all(section, name, key)
            if values == [None] * 3:
                continue
            said = verdict(values[1] * unit, bar, False) + " KiB" if bar and values[1] is not None else ""
            rows.append([f"{name}: {text}", *(number(value * unit if value is not None else None, form) for value in values), number(ratio(values, 1), "{:.2f}"), said])
    return rows and table(["", "mosquitto", "PolyMQ relaxed", "PolyMQ fsync", "relaxed ratio", "bar"], rows)


def text(results):
    parts = [("Throughput", throughput(results)), ("Latency at a fixed rate, from when a message was due to its receipt", latency(results)), ("Scale", scale(results))]
    parts = [f"## {title}\n\n{block}" for title, block in parts if block]
    if results.failures():
        parts.append("## What failed\n\n" + "\n".join(f"- {failure}" for failure in results.failures()))
    return "\n\n".join(parts) + "\n"
