"""Applications that are built on Kafka, against a broker: run.py BOOTSTRAP [CASE...]. The contract is in conformance/src/client.rs.

APPS_KILLS says how often Streams is killed (default 3), APPS_SEED when.
"""

import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, "..", "..", "..")]

import connect  # noqa: E402
import mirror  # noqa: E402
import streams  # noqa: E402
from conformance.shared import kit  # noqa: E402


@kit.case
def streams_exactly_once(bootstrap):
    streams.exactly_once(bootstrap, int(os.environ.get("APPS_KILLS", "3")))


@kit.case
def connect_file_to_file(bootstrap):
    connect.file_to_file(bootstrap)


@kit.case
def mirror_from_apache(bootstrap):
    mirror.from_apache(bootstrap)


if __name__ == "__main__":
    kit.main()
