#!/usr/bin/env python3
"""PolyMQ's real binaries where things go wrong: full, damaged and foreign disks, taken ports, wrong settings, hostile and slow peers,
ends under load, a core that stands still.

    conformance/robustness/run.py                      all, in about a minute
    conformance/robustness/run.py a_full_disk slow     those whose names begin so
    conformance/robustness/run.py --list

Mounts small file systems, so it needs root or user namespaces; either way in a mount namespace of its own, so that nothing stays. Where
neither is allowed (a container), the cases with disks of their own are left out, and it says so.
Prints a line for each case, with what was measured; exits with 1 if one fails.
"""

import argparse
import os
import pathlib
import resource
import subprocess
import sys
import time
import traceback

HERE = pathlib.Path(__file__).resolve().parent
OWN_NAMESPACE = "POLYMQ_ROBUSTNESS_NAMESPACE"


def into_a_namespace():
    """Runs this again where mounts are its own. False: nothing can be mounted here."""
    if os.environ.get(OWN_NAMESPACE):
        return True
    unshare = ["unshare", "--mount", "--propagation", "private"] if os.geteuid() == 0 else ["unshare", "--user", "--map-root-user", "--mount"]
    if subprocess.run([*unshare, "true"], capture_output=True, check=False).returncode != 0:
        print(f"no file system can be mounted here ({' '.join(unshare)} is not allowed). For all cases run:  sudo {' '.join(sys.argv)}", flush=True)
        return False
    os.environ[OWN_NAMESPACE] = "1"
    os.execvp("unshare", [*unshare, sys.executable, *sys.argv])


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("cases", nargs="*", help="beginnings of cases' names")
    arguments.add_argument("--binaries", type=pathlib.Path, help="the folder of the binaries [default: target/checked]")
    arguments.add_argument("--file-system", choices=("ext4", "tmpfs"), default="ext4", help="of the small disks; without loop devices always tmpfs")
    arguments.add_argument("--list", action="store_true")
    given = arguments.parse_args()
    import kit
    kit.kind_of_file_system = given.file_system
    if given.binaries:
        kit.binaries = given.binaries.resolve()
    import disk
    import life
    import peers
    import start
    import watch
    cases = [case for module in (start, watch, disk, peers, life) for case in module.CASES]
    if given.list:
        for case in cases:
            print(f"{case.__name__}: {' '.join(case.__doc__.split())}")
        return 0
    unknown = [name for name in given.cases if not any(case.__name__.startswith(name) for case in cases)]
    if unknown:
        arguments.error(f"no case begins with {', '.join(unknown)}; see --list")
    kit.may_mount = into_a_namespace()
    if not (kit.binaries / "polymq").is_file():
        sys.exit(f"{kit.binaries}/polymq is not built: cargo build --workspace --bins --profile checked")
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    failed = 0
    for case in cases:
        if given.cases and not any(case.__name__.startswith(name) for name in given.cases):
            continue
        begun = time.monotonic()
        try:
            figures = case()
            print(f"ok    {case.__name__} ({time.monotonic() - begun:.1f} s): {figures}", flush=True)
        except kit.LeftOut as reason:
            print(f"left out  {case.__name__}: {reason}", flush=True)
        except Exception as error:  # Whatever it is, the next case is played.
            failed += 1
            print(f"FAIL  {case.__name__} ({time.monotonic() - begun:.1f} s): {error}", flush=True)
            if not isinstance(error, kit.Fault):
                traceback.print_exc()
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
