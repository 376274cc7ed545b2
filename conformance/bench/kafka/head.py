"""The head of the results: on what, when, with which versions."""
import glob
import os
import platform
import re
import time

from conformance.bench.shared import machine, tables

NOTES = """\
How: one broker at a time, on a machine that it shares with the load generator (the official Java clients in one warm JVM;
acks=all, the client's defaults otherwise). Medians over the rounds, which alternate between the brokers, each round on a fresh
directory after a warm-up. *Noisy* marks rows in which other programs took part of the machine. Where the client uses a whole core, or
broker and client all of them, the broker is not the limit and CPU-seconds per million records say more than records/s. End-to-end
times count from when a record was due, so that waiting behind a stall is counted. Before each measure free memory is filled with pages
that the kernel drops for whoever needs them (`bench/shared/ballast.py`): a virtual machine's first touch of its memory is not counted as a broker's. The catch-up read is
kafka-consumer-perf-test's, from the page cache. Start is measured by a client that is already running and tries every millisecond."""


def describe(jars, polymq, folder, results):
    """`results`: report.Results, for the number of rounds and how much others disturbed them."""
    lines = [
        "# Apache Kafka and PolyMQ, side by side", "",
        f"Made by `conformance/bench/kafka/run` on {time.strftime('%Y-%m-%d')}. Rounds of each broker: {rounds(results)}.", "",
        f"- Machine: {machine.processor()}, {os.cpu_count()} cores, {machine.memory_gib():.0f} GiB memory, Linux {platform.release().split('-')[0]}, "
        f"data on {machine.disk(folder)}",
        f"- Apache Kafka {kafka_version(jars)} (KRaft, heap 1 GiB, {machine.java_version()}); clients of the same version",
    ]
    if polymq:
        lines.append(f"- PolyMQ {machine.git_version()}, release build")
    others = results.others_cores()
    if others and others > tables.DISTURBED_CORES:
        lines += ["", f"**This run was disturbed**: other programs kept {others:.1f} of {os.cpu_count()} cores busy (median over all "
                  "measures). Both brokers ran under the same conditions, so the ratios hold better than the figures, which are too low."]
    return "\n".join(lines) + "\n\n" + NOTES + "\n"


def rounds(results):
    counts = results.rounds_by_section()
    if len(set(counts.values())) == 1:
        return str(next(iter(counts.values())))
    return ", ".join(f"{section} {count}" for section, count in counts.items())


def kafka_version(jars):
    names = glob.glob(os.path.join(jars, "kafka-clients-*.jar"))
    return re.search(r"kafka-clients-(.+)\.jar", names[0]).group(1) if names else "?"
