"""The head of the results: on what, when, with which versions."""
import glob
import os
import platform
import re
import subprocess
import time

DISTURBED_CORES = 0.15

NOTES = """\
How: one broker at a time, on a machine that it shares with the load generator (the official Java clients in one warm JVM;
acks=all, the client's defaults otherwise). Medians over the rounds, which alternate between the brokers, each round on a fresh
directory after a warm-up. *Noisy* marks rows in which other programs took part of the machine. Where the client uses a whole core, or
broker and client all of them, the broker is not the limit and CPU-seconds per million records say more than records/s. End-to-end
times count from when a record was due, so that waiting behind a stall is counted. The catch-up read is
kafka-consumer-perf-test's, from the page cache. Start is measured by a client that is already running and tries every millisecond."""


def describe(jars, polymq, folder, results):
    """`results`: report.Results, for the number of rounds and how much others disturbed them."""
    lines = [
        "# Apache Kafka and PolyMQ, side by side", "",
        f"Made by `conformance/bench/kafka/run` on {time.strftime('%Y-%m-%d')}. Rounds of each broker: {rounds(results)}.", "",
        f"- Machine: {processor()}, {os.cpu_count()} cores, {memory_gib():.0f} GiB memory, Linux {platform.release().split('-')[0]}, "
        f"data on {disk(folder)}",
        f"- Apache Kafka {kafka_version(jars)} (KRaft, heap 1 GiB, {java_version()}); clients of the same version",
    ]
    if polymq:
        lines.append(f"- PolyMQ {git_version()}, release build")
    others = results.others_cores()
    if others and others > DISTURBED_CORES:
        lines += ["", f"**This run was disturbed**: other programs kept {others:.1f} of {os.cpu_count()} cores busy (median over all "
                  "measures). Both brokers ran under the same conditions, so the ratios hold better than the figures, which are too low."]
    return "\n".join(lines) + "\n\n" + NOTES + "\n"


def rounds(results):
    counts = results.rounds_by_section()
    if len(set(counts.values())) == 1:
        return str(next(iter(counts.values())))
    return ", ".join(f"{section} {count}" for section, count in counts.items())


def processor():
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        return next((line.split(":")[1].strip() for line in file if line.startswith("model name")), platform.machine())


def memory_gib():
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30)


def disk(folder):
    """The file system, the kind of device, and what an fsync of 16 KiB takes, which is what matters here."""
    kind = subprocess.run(["stat", "-f", "-c", "%T", folder], capture_output=True, text=True, check=True).stdout.strip()
    return f"{kind.replace('ext2/ext3', 'ext4')}, 16 KiB append + fdatasync {fsync_ms(folder):.2f} ms (median)"


def fsync_ms(folder, count=200):
    path = os.path.join(folder, "fsync-probe")
    file = os.open(path, os.O_CREAT | os.O_WRONLY, 0o600)
    times = []
    try:
        for _ in range(count):
            os.write(file, b"x" * 16384)
            start = time.perf_counter()
            os.fdatasync(file)
            times.append(time.perf_counter() - start)
    finally:
        os.close(file)
        os.unlink(path)
    return sorted(times)[count // 2] * 1e3


def kafka_version(jars):
    names = glob.glob(os.path.join(jars, "kafka-clients-*.jar"))
    return re.search(r"kafka-clients-(.+)\.jar", names[0]).group(1) if names else "?"


def java_version():
    text = subprocess.run(["java", "-version"], capture_output=True, text=True, check=True).stderr
    return "OpenJDK " + re.search(r'version "([^"]+)"', text).group(1)


def git_version():
    here = os.path.dirname(os.path.abspath(__file__))
    root = os.path.join(here, "..", "..", "..")
    # The last commit that changed the code: one that only changes a page makes no other binary.
    return subprocess.run(["git", "-C", root, "log", "-1", "--format=%h", "--", "codec", "core", "gateways", "polymq", "Cargo.lock"],
                          capture_output=True, text=True, check=False).stdout.strip() or "unknown version"
