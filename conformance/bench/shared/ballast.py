"""Memory that is in use, as on a machine that has been running for long.

A virtual machine whose host takes free memory back gets it again page by page when it is touched: 1.5 to 2 CPU-seconds for each GiB that a
broker writes into the page cache here, against 0.2 to 0.35 where the pages only change hands. It would be most of what a broker needs for
larger messages, whichever broker it is, and would be measured of the one that happens to touch the page first.
"""
import os
import tempfile

# What stays free, so that nobody has to wait for the kernel's own reclaim.
FREE_BYTES = 512 << 20
CHUNK_BYTES = 1 << 20


class Ballast:
    """The pages of a file without content, which the kernel drops for whoever needs them."""

    def __init__(self, folder):
        self._file = tempfile.TemporaryFile(dir=folder)
        self._bytes = 0

    def fill(self):
        """Before each measure: what was deleted since is free again."""
        more = free_bytes() - FREE_BYTES
        if more < CHUNK_BYTES:
            return
        end = self._bytes + more
        os.ftruncate(self._file.fileno(), end)
        chunk = bytearray(CHUNK_BYTES)
        while self._bytes < end:
            self._bytes += os.preadv(self._file.fileno(), [chunk], self._bytes)

    def close(self):
        self._file.close()


def free_bytes():
    with open("/proc/meminfo", encoding="ascii") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("MemFree:"))
