"""Starts that cannot be: a taken port, settings that are wrong. Each says what, where and what was meant, and ends with 1 or 2."""

import re
import socket

from kit import LISTENERS, ROOT, Process, check, ends_at_once, folder, free_port, wait_for

# (arguments of `polymq serve`, environment, TOML file, what must be said).
SETTINGS = [
    (["--kafka-listne", "127.0.0.1:1"], {}, None, ["--kafka-listne", "--kafka-listen"]),
    (["--kafka-listen", "nowhere"], {}, None, ["nowhere", "listen"]),
    (["--kafka-num-partitions", "0"], {}, None, ["0", "num-partitions"]),
    (["--mqtt-durability", "sometimes"], {}, None, ["sometimes", "fsync, relaxed or memory"]),
    (["--amqp-frame-max", "10"], {}, None, ["10", "frame-max", "4096"]),
    (["--core-shards", "x"], {}, None, ["x", "shards"]),
    (["--gateways", "kafka,stomp"], {}, None, ["stomp", "amqp"]),
    (["--kafka-listen-tls", "127.0.0.1:0"], {}, None, ["tls-certificate"]),
    ([], {"POLYMQ_AMQP_HEARTBEAT_SECONDS": "often"}, None, ["often", "heartbeat-seconds"]),
    ([], {"POLYMQ_KAFKA_SASL_MECHANISMS": "GSSAPI"}, None, ["GSSAPI", "PLAIN"]),
    ([], {"POLYMQ_ADMIN_LISTEN": "here"}, None, ["here", "admin-listen"]),
    ([], {}, "gateway = 'kafka'", ["file.toml", "unknown key gateway", "gateways"]),
    ([], {}, "[kafka]\nlisen = '127.0.0.1:1'", ["file.toml", "unknown key lisen", "listen"]),
    ([], {}, "[kafak]\nlisten = '127.0.0.1:1'", ["file.toml", "[kafak]", "kafka"]),
    ([], {}, "[core]\nshard = 3", ["file.toml", "shard"]),
    ([], {}, "[mqtt]\nmaximum_packet_size = 'large'", ["large", "maximum-packet-size"]),
    ([], {}, "[mqtt]\nlisten = ", ["file.toml", "2"]),
    (["--config", "/nowhere.toml"], {}, None, ["/nowhere.toml", "No such file"]),
    (["--mqtt-password-file", "/nowhere"], {}, None, ["/nowhere"]),
    (["--kafka-listen-tls", "127.0.0.1:0", "--kafka-tls-certificate", "/none.pem", "--kafka-tls-key", "/none.pem"], {}, None, ["/none.pem"]),
]


def a_taken_port():
    """Of each listener: which one, and the address."""
    with folder() as at, socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        for flag in LISTENERS:
            free = [word for other in LISTENERS if other != flag for word in (f"--{other}", "127.0.0.1:0")]
            status, said = ends_at_once(["polymq", "serve", "--data", at / "data", *free, f"--{flag}", address])
            check(status == 1 and address in said and "in use" in said, f"--{flag}: status {status}: {said}")
    return f"{len(LISTENERS)} listeners"


def settings_that_are_wrong():
    """By flag, environment and file: the message names the setting, what was given and, if it is near, what was meant."""
    quiet = [word for flag in LISTENERS for word in (f"--{flag}", "127.0.0.1:0")]
    with folder() as at:
        for number, (arguments, environment, text, wanted) in enumerate(SETTINGS):
            given = [*arguments]
            if text is not None:
                (at / "file.toml").write_text(text)
                given += ["--config", at / "file.toml"]
            decided = {word for word in [*map(str, arguments)] if word.startswith("--")}
            listen = [] if "POLYMQ_ADMIN_LISTEN" in environment else [word for pair in zip(quiet[::2], quiet[1::2]) if pair[0] not in decided for word in pair]
            status, said = ends_at_once(["polymq", "serve", "--data", at / f"data{number}", *listen, *given], environment=environment.items())
            what = f"{' '.join(map(str, arguments))} {environment} {text or ''}".strip()
            check(status in (1, 2), f"{what}: status {status}: {said}")
            missing = [word for word in wanted if word not in said]
            check(not missing, f"{what}: {missing} not in: {said}")
            check(len(said.splitlines()) < 12, f"{what}: too many words: {said}")
    return f"{len(SETTINGS)} settings"


def every_binary_tells_its_settings():
    """--help of each, with the environment's name of every setting."""
    count = 0
    for command in (["polymq", "serve"], ["polymq-core"], ["polymq-kafka"], ["polymq-amqp"], ["polymq-mqtt"]):
        status, said = ends_at_once([*command, "--help"])
        flags = re.findall(r"^ +(?:-\w, )?(--[a-z0-9-]+)", said, re.MULTILINE)
        check(status == 0 and len(flags) > 5, f"{command}: {status} {said[:200]}")
        if command != ["polymq", "serve"]:
            check(said.count("[env: POLYMQ_") >= len(set(flags)) // 2, f"{command}: settings without an environment variable")
        count += len(set(flags))
        page = {"polymq-kafka": "kafka", "polymq-amqp": "amqp", "polymq-mqtt": "mqtt"}.get(command[0], "operations")
        page = (ROOT / "docs" / f"{page}.md").read_text()
        own = set(flags) - {"--help", "--version", "--config", "--check"}
        # `serve` lends the parts' flags, which their pages tell of.
        own = {flag for flag in own if command != ["polymq", "serve"] or not flag.startswith(("--core-", "--kafka-", "--amqp-", "--mqtt-"))}
        untold = sorted(flag for flag in own if flag[2:] not in page)
        check(not untold, f"{' '.join(command)}: not in its page of docs/: {', '.join(untold)}")
    return f"{count} settings"


def a_gateway_without_a_core():
    """Waits for it, says so, answers its health check with 503, and serves when the core has come."""
    with folder() as at:
        core, address = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
        gateway = Process(at / "gateway.log", ["polymq-mqtt", "--core", core, "--listen", address, "--listen-websocket", "none", "--ready-file", at / "ready"])
        engine = Process(at / "core.log", ["polymq-core", "--data", at / "data", "--listen", core])
        try:
            gateway.launch()
            wait_for("the gateway says that there is no core", lambda: core in gateway.log(), 10)
            check(gateway.child.poll() is None, f"the gateway gave up: {gateway.tail()}")
            engine.launch()
            wait_for("the gateway serves", (at / "ready").exists, 15)
            gateway.stop()
            engine.stop()
        finally:
            gateway.kill()
            engine.kill()
    return "waits and says so"


CASES = [a_taken_port, settings_that_are_wrong, every_binary_tells_its_settings, a_gateway_without_a_core]
