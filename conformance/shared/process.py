"""What /proc says of a process and of the machine: processor time, memory."""
import os

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pid):
    """User and system time of the process and all its threads so far."""
    return sum(_times(pid))


def user_seconds(pid):
    """Of that the user time."""
    return _times(pid)[0]


def _times(pid):
    with open(f"/proc/{pid}/stat", encoding="ascii") as file:
        fields = file.read().rsplit(")", 1)[1].split()
    return int(fields[11]) / TICKS_PER_SECOND, int(fields[12]) / TICKS_PER_SECOND


def memory_bytes(pid, key="VmRSS"):
    """VmRSS is what is resident now, VmHWM the most that ever was."""
    with open(f"/proc/{pid}/status", encoding="utf-8") as file:
        for line in file:
            if line.startswith(key + ":"):
                return int(line.split()[1]) * 1024
    raise ValueError(f"no {key} for process {pid}")


def machine_user_seconds():
    """User time of all programs. The kernel's own work is left out: it serves those who are measured, too."""
    with open("/proc/stat", encoding="ascii") as file:
        user, nice = map(int, file.readline().split()[1:3])
    return (user + nice) / TICKS_PER_SECOND
