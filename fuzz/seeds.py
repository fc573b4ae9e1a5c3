#!/usr/bin/env python3
"""Writes fuzz/seeds from tests/vectors: fuzz/seeds.py

A seed is a case of the vectors, cut to the part a target reads, behind the byte that says what
it is. Each folder holds a few cases of many kinds; a fuzzer finds the rest by itself.
"""

import json
import pathlib
import re
import shutil

HERE = pathlib.Path(__file__).resolve().parent
VECTORS = HERE.parent / "tests" / "vectors"
SEEDS = HERE / "seeds"


def case(name):
    return json.loads((VECTORS / f"{name}.json").read_text())


def cases(group, step, kind=None):
    """Every so many cases of a group."""
    paths = sorted((VECTORS / group).glob("*.json"))
    found = [(path.stem, json.loads(path.read_text())) for path in paths]
    return [(f"{group}-{stem}", c) for stem, c in found if kind in (None, c["kind"])][::step]


def seed(target, name, data):
    if len(data) > 4096:
        return
    folder = SEEDS / target
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(data)


def frames():
    for group, step in [
        ("frame", 24), ("header", 60), ("extension", 20), ("content", 24), ("batch", 50),
        ("reply", 24), ("approval", 24),
    ]:
        for name, c in cases(group, step):
            if c["kind"] in ("message", "answer"):
                seed("envelope", name, bytes.fromhex(c["bytes"]))
    for name, c in cases("batch", 80) + cases("frame", 60) + cases("scope", 40):
        if c["kind"] == "message":
            seed("receive", name, b"\0" + bytes.fromhex(c["bytes"]))


def chains():
    for group, step in [("chain", 16), ("link", 30), ("scope", 20)]:
        for name, c in cases(group, step, "chain"):
            seed("chain", name, b"\0" + bytes.fromhex(c["bytes"]))


    # Links of one capability each, which differs from the one above as bits 0 to 3 of a byte say.
    for bits in range(16):
        capability = [1, 0, 0x80 | bits, 0x2F, 7 * bits, 0, bits, 0]
        link = [1, 0, 0, 0, 0, 0, *capability]
        seed("chain", f"plan-{bits}", bytes([2, *link * 3, 0]))


def trust():
    for name in ["mesh", "served-held", "allow-list"]:
        state = case(f"states/{name}")
        for part in ["root", "registry", "policy", "revocations", "scores"]:
            if state.get(part):
                seed("trust", f"{name}-{part}", b"\0" + bytes.fromhex(state[part]))
    for name, c in cases("follow", 12) + cases("succession", 24) + cases("served", 50):
        for part in ("bulletin", "root"):
            if c.get(part):
                seed("trust", f"{name}-{part}", b"\0" + bytes.fromhex(c[part]))
    bulletin = bytes.fromhex(case("states/served-held")["bulletin"])
    seed("trust", "served-held-bulletin", b"\0" + bulletin)
    for at in [m.start() for m in re.finditer(b"TMTS", bulletin)]:
        # A file in a bulletin stands behind its length, in two bytes or in one.
        size = int.from_bytes(bulletin[at - 2 : at], "big")
        if bulletin[at - 3] != 0xC5:
            size = bulletin[at - 1]
        seed("trust", f"file-{at}", b"\0" + bulletin[at : at + size])


def handshakes():
    for name, c in cases("handshake", 12):
        seed("handshake", name, b"\0" + bytes.fromhex(c["bytes"]))


def texts():
    subjects = {row[0] for row in case("subjects/grammar")["grammar"]}
    for index, text in enumerate(sorted(subjects, key=lambda t: (len(t), t))[::6]):
        seed("text", f"subject-{index}", b"\0" + text.encode())
    for index, (pattern, subject, _) in enumerate(case("subjects/matches")["matches"][::4]):
        seed("text", f"matches-{index}", b"\x09" + f"{pattern}\n{subject}".encode())
    plain = {
        "capability": (1, "req+delegate:store.docs.>"),
        "agent": (2, "team/researcher-1"),
        "nkey": (6, "UDKYBWKYD6CCHPVAP4S3LAAVPDAA6YDWLZRU6EV6N5JGLQZXKCPWLU2X"),
        "did": (6, "did:key:z6MktwupdmLXVVqTzCw4i46r4uGyosGXRnR3XjN4Zq7oMMsw"),
        "hex": (6, "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"),
    }
    for name, (kind, text) in plain.items():
        seed("text", name, bytes([kind]) + text.encode())
    for path in sorted((HERE.parent / "tests/cmd/offline/policy-tools.in").glob("*.json")):
        seed("text", f"policy-{path.stem}", b"\x03" + path.read_bytes())
    for name, c in cases("audit", 20):
        for index, line in enumerate(re.findall(rb'\{"v":[^\n]*\}', bytes.fromhex(c["bytes"]))[:2]):
            seed("text", f"{name}-{index}", b"\x05" + line)


def keys():
    text = (VECTORS / "ed25519" / "edge-cases.txt").read_text()
    found = re.findall(r"public = (\w*)\nmessage = (\w*)\nsignature = (\w*)", text)
    for index, (public, message, signature) in enumerate(found):
        data = bytes.fromhex(public + signature + message)
        seed("keys", f"edge-{index}", b"\0" + data)


shutil.rmtree(SEEDS, ignore_errors=True)
for write in (frames, chains, trust, handshakes, texts, keys):
    write()
for target in ["receive", "chain", "trust", "handshake", "keys"]:
    # A series of steps, for the fuzzer to vary.
    for first in (1, 2):
        data = bytes([first]) + bytes((7 * n * n + first) % 256 for n in range(192))
        seed(target, f"steps-{first}", data)
