"""The cases: files of conformance/wire/mqtt, read and checked before any of them runs."""

import dataclasses
import pathlib
import re
import secrets

import bytes_language

FOLDER = pathlib.Path(__file__).resolve().parents[2] / "wire" / "mqtt"
VERSIONS = {"v5": 5, "v3.1.1": 4}
STATEMENT = re.compile(r"MQTT-\d+\.\d+\.\d+-\d+")
STEP = re.compile(r"(?P<who>[A-Z]\w*)\s*(?P<direction>[<>])\s*(?P<what>.*)|(?P<actor>[A-Z]\w*) (?P<act>opens|closes|resets)(?P<how>.*)"
                  r"|wait (?P<seconds>[\d.]+)|(?P<restart>restart)|(?P<word>[a-z][\w-]*)(?P<arguments> .*)?")


@dataclasses.dataclass
class Step:
    line: int
    text: str
    who: str = ""
    kind: str = ""  # send, expect, silence, close, opens, closes, resets, wait, restart
    value: object = None
    after_seconds: float = 0.0
    within_seconds: float | None = None
    bytes_max: int | None = None
    maybe: bool = False


@dataclasses.dataclass
class Case:
    name: str
    folder: str
    file: pathlib.Path
    line: int
    statements: list
    unique: str = ""
    why: str = ""
    needs: str = ""
    mosquitto: str = ""  # why mosquitto fails it
    without_mosquitto: str = ""  # why it is not even tried there
    steps: list = dataclasses.field(default_factory=list)

    @property
    def version(self):
        return VERSIONS[self.folder]


class BadFile(Exception):
    pass


def load():
    """All cases of both versions."""
    found, names = [], set()
    for folder in VERSIONS:
        words = {}
        for path in sorted((FOLDER / folder).glob("*.txt")):
            for case in _read(path, folder, words):
                if case.name in names:
                    raise BadFile(f"{path.name}:{case.line}: {case.name} is there twice")
                names.add(case.name)
                found.append(case)
    return found


def _read(path, folder, words):
    """The cases of a file; `words` grows by those that it defines (00-words.txt comes first)."""
    lines = path.read_text(encoding="utf-8").splitlines()
    block, head, blocks = None, None, []
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.lstrip().startswith("# "):
            continue
        if not line.startswith(" "):
            if re.match(r"(case|word) ", line):
                head, block = line, []
                blocks.append((number, head, block))
                continue
            if block is None:
                raise BadFile(f"{path.name}:{number}: belongs to no case")
        block.append((number, line))
    for number, head, block in blocks:
        kind, _, name = head.partition(" ")
        if kind == "word":
            words[name.strip()] = [(at, line.strip()) for at, line in block]
            continue
        statements = STATEMENT.findall(name)
        if not statements:
            raise BadFile(f"{path.name}:{number}: a case names the statements that it proves")
        case = Case(f"{folder}/{name.strip()}", folder, path, number, statements)
        # Eight characters: cases do not meet, nor do runs against one server.
        case.unique = secrets.token_hex(4)
        for at, line in block:
            field = re.match(r"(why|needs|mosquitto|without-mosquitto): (.*)", line)
            if field:
                setattr(case, field[1].replace("without-mosquitto", "without_mosquitto"), field[2])
                continue
            if not line.startswith(" "):
                raise BadFile(f"{path.name}:{at}: {line!r} is no field of a case")
            try:
                case.steps += _steps(at, line.strip(), words, 0)
            except bytes_language.BadLine as fault:
                raise BadFile(f"{path.name}:{at}: {fault}") from fault
        if not case.why or not case.steps:
            raise BadFile(f"{path.name}:{number}: {name} has no why, or no steps")
        yield case


def _split(text, separator):
    """Parts of the text between separators that stand outside quotes and brackets."""
    parts, depth, quote, start = [], 0, "", 0
    for at, char in enumerate(text):
        if quote:
            quote = "" if char == quote else quote
        elif char in "'\"" and text[at - 1:at] != "<":
            quote = char
        elif char in "[(":
            depth += 1
        elif char in "])":
            depth -= 1
        elif char == separator and depth == 0:
            parts.append(text[start:at].strip())
            start = at + 1
    return [*parts, text[start:].strip()]


def _steps(number, text, words, depth):
    found = STEP.fullmatch(text)
    if not found or depth > 5:
        raise bytes_language.BadLine(f"{text!r} is no step")
    if found["word"]:
        if found["word"] not in words:
            raise bytes_language.BadLine(f"{found['word']} is no word")
        given = _split((found["arguments"] or "").strip(), ",")
        if len(given) > 9:
            raise bytes_language.BadLine("at most 9 arguments")
        for _, line in words[found["word"]]:
            for place in range(9, 0, -1):
                line = line.replace(f"${place}", given[place - 1] if place <= len(given) else "")
            yield from _steps(number, line, words, depth + 1)
        return
    if found["seconds"]:
        yield Step(number, text, kind="wait", value=float(found["seconds"]))
    elif found["restart"]:
        yield Step(number, text, kind="restart")
    elif found["act"]:
        yield Step(number, text, found["actor"], found["act"], found["how"].strip())
    elif found["direction"] == ">":
        _check(found["what"])
        yield Step(number, text, found["who"], "send", found["what"])
    else:
        step, what = Step(number, text, found["who"], "expect"), found["what"]
        while modifier := re.match(r"(after|within|upto) ([\d.]+) |(maybe) ", what):
            what = what[modifier.end():]
            if modifier[3]:
                step.maybe = True
            elif modifier[1] == "upto":
                step.bytes_max = int(modifier[2])
            else:
                setattr(step, f"{modifier[1]}_seconds", float(modifier[2]))
        if what == "nothing":
            step.kind = "silence"
        elif what == "close":
            step.kind = "close"
        elif what.startswith("http "):
            step.kind, step.value = "http", what[5:]
        else:
            step.value = [_split(one, "|") for one in _split(what, "&")]
            for one in step.value:
                for pattern in one:
                    _check(pattern)
        yield step


def _check(text):
    bytes_language.parse(text.replace("{u}", "--------"))
