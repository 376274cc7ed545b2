"""From the figures of all rounds to tables, with the bars of issue 4 §4."""
from conformance.bench.shared import tables
from conformance.bench.shared.tables import number, table, verdict

MIB = 1 << 20
CPU_BAR, PERSISTENT_BAR, TRANSIENT_BAR, LATENCY_BAR, MEMORY_BAR, DECLARE_SECONDS_BAR = 0.2, 5.0, 4.0, 0.5, 0.2, 10.0
# Broker and client together at this many of the machine's cores: who is the limit shows in the CPU column.
CLIENT_LIMIT_CORES = 0.9


class Results(tables.Results):
    """Figures by broker, section and name."""

    def pair(self, section, name, key):
        return [self.median(broker, section, name, key) for broker in ("rabbitmq", "all-in-one")]


def ratio_of(pair):
    return pair[1] / pair[0] if pair[0] and pair[1] is not None else None


def throughput(results):
    rows = []
    for name in results.names("throughput"):
        rate, cpu = results.pair("throughput", name, "received per second"), results.pair("throughput", name, "cpu per million")
        broker, client = results.pair("throughput", name, "broker cores"), results.pair("throughput", name, "client cores")
        bar = PERSISTENT_BAR if name.startswith("persistent") else TRANSIENT_BAR
        said = verdict(ratio_of(rate), bar, True)
        if "missed" in said and client[1] and broker[1] is not None and client[1] > CLIENT_LIMIT_CORES and client[1] > 2 * broker[1]:
            said = f"the client is the limit (≥ {bar:g})"
        rows.append([name, number(rate[0]), number(rate[1]), number(ratio_of(rate), "{:.2f}"), said, number(cpu[0], "{:.1f}"), number(cpu[1], "{:.1f}"), number(ratio_of(cpu), "{:.3f}"),
                     verdict(ratio_of(cpu), CPU_BAR, False), *(f"{number(b, '{:.2f}')} + {number(c, '{:.2f}')}" for b, c in zip(broker, client))])
    return rows and table(["", "RabbitMQ messages/s", "PolyMQ messages/s", "ratio", "bar", "RabbitMQ broker CPU-s per million", "PolyMQ", "ratio", "bar", "RabbitMQ: cores of broker + client", "PolyMQ: cores"], rows)


def latency(results):
    rows = []
    for name in results.names("latency"):
        texts = []
        for at in (0, 1):
            texts.append(" / ".join(number(results.pair("latency", name, key)[at], "{:.2f}") for key in ("p50", "p95", "p99")))
        p99, cpu, rate = results.pair("latency", name, "p99"), results.pair("latency", name, "cpu per million"), results.pair("latency", name, "received per second")
        rows.append([name, *texts, number(ratio_of(p99), "{:.2f}"), verdict(ratio_of(p99), LATENCY_BAR, False), *(number(each) for each in rate), *(number(each, "{:.1f}") for each in cpu), number(ratio_of(cpu), "{:.3f}"),
                     verdict(ratio_of(cpu), CPU_BAR, False)])
    return rows and table(["p50 / p95 / p99 in ms", "RabbitMQ", "PolyMQ", "p99 ratio", "bar", "RabbitMQ messages/s", "PolyMQ messages/s", "RabbitMQ broker CPU-s per million", "PolyMQ", "ratio", "bar"], rows)


def scale(results):
    rows = []
    for section, key, text, form, unit, bar in (
            ("idle", "memory", "resident memory, MiB", "{:,.0f}", 1 / MIB, None),
            ("queues", "declare seconds", "declared in, s", "{:.2f}", 1, "declare"), ("queues", "declare cpu", "broker CPU-s for that", "{:.2f}", 1, None), ("queues", "memory for them", "resident memory for them, MiB", "{:,.0f}", 1 / MIB, None),
            ("queues", "delete seconds", "deleted in, s", "{:.2f}", 1, None),
            ("connections", "connect seconds", "connected in, s", "{:.2f}", 1, None), ("connections", "memory for them", "resident memory for them, MiB", "{:,.0f}", 1 / MIB, None),
            ("connections", "idle cores", "cores while nothing happens", "{:.3f}", 1, None),
            ("backlog", "fill per second", "messages/s in", "{:,.0f}", 1, None), ("backlog", "drain per second", "messages/s out", "{:,.0f}", 1, None),
            ("backlog", "fill cpu per million", "broker CPU-s per million in", "{:.1f}", 1, CPU_BAR), ("backlog", "drain cpu per million", "broker CPU-s per million out", "{:.1f}", 1, CPU_BAR),
            ("backlog", "memory", "resident memory with it, MiB", "{:,.0f}", 1 / MIB, MEMORY_BAR), ("backlog", "memory for it", "of which it added, MiB", "{:,.0f}", 1 / MIB, None)):
        for name in results.names(section):
            pair = results.pair(section, name, key)
            if pair == [None, None]:
                continue
            ratio = ratio_of(pair)
            said = verdict(pair[1], DECLARE_SECONDS_BAR, False) + " s" if bar == "declare" and pair[1] is not None else verdict(ratio, bar, False) if bar and bar != "declare" else ""
            rows.append([f"{name}: {text}", *(number(value is not None and value * unit if value is not None else None, form) for value in pair), number(ratio, "{:.3f}"), said])
    return rows and table(["", "RabbitMQ", "PolyMQ", "ratio", "bar"], rows)


def text(results):
    parts = [("Throughput", throughput(results)), ("Latency at a fixed rate, from PerfTest's send to its receive", latency(results)), ("Scale", scale(results))]
    parts = [f"## {title}\n\n{block}" for title, block in parts if block]
    if results.failures():
        parts.append("## What failed\n\n" + "\n".join(f"- {failure}" for failure in results.failures()))
    return "\n\n".join(parts) + "\n"
