"""On what something was measured: the machine, the disk, versions."""
import os
import platform
import re
import subprocess
import time


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


def java_version():
    text = subprocess.run(["java", "-version"], capture_output=True, text=True, check=True).stderr
    return "OpenJDK " + re.search(r'version "([^"]+)"', text).group(1)


def git_version():
    here = os.path.dirname(os.path.abspath(__file__))
    root = os.path.join(here, "..", "..", "..")
    # The last commit that changed the code: one that only changes a page makes no other binary.
    return subprocess.run(["git", "-C", root, "log", "-1", "--format=%h", "--", "codec", "core", "gateways", "polymq", "Cargo.lock"],
                          capture_output=True, text=True, check=False).stdout.strip() or "unknown version"
