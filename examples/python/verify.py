#!/usr/bin/env python3
"""A verifier for trustmesh, written from docs/protocol.md alone.

    python3 verify.py [--json] tests/vectors        folders, or single case files

Judges each case from its bytes and its trust state, and compares with what the case expects. The
marks § are sections of docs/protocol.md. Checks stand in its order, since the first fault counts.
"""
import hmac
import json
import re
import sys
from pathlib import Path
from types import SimpleNamespace as Record

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from trust import FILES, begin, check_replaces, load_state, take_in
from wire import (
    U64, Deny, Reader, at_hop, contains, covering, each, encode, inbox, matches, object_id,
    open_handshake, opened, overlaps, parse, parse_certificate, parse_chain, parse_content, refuse,
    root_of, tagged, utf8, verifies,
)

unhex = bytes.fromhex
CLASSES = """Malformed TooLarge UnsupportedVersion BadSignature WeakKey UnknownAgent KeyMismatch
    WrongAudience SubjectMismatch NotYetValid Expired Replay UnexpectedReply ChainBroken
    ScopeExceeded DepthExceeded UntrustedRoot Revoked Blocked PolicyDenied TrustTooLow
    HandshakeFailed StaleState Overloaded AuditUnavailable Internal""".split()  # §18.1


# ---- A trust state at an instant ----

class View(Record):
    """A trust state, with now and skew: §7.3, §7.4, §9.7, §10, §11, §14."""

    def check(self, chain, steps):
        """Several of the steps below, in turn."""
        for step in steps.split():
            getattr(self, step)(chain)

    def outside(self, window):
        """The faults of a window, §14.2."""
        return {1001: min(self.now + self.skew, U64) < window.nbf,
                1101: self.now >= min(window.exp + self.skew, U64)}

    def late(self, header):
        """The faults of an envelope's time, §14.3."""
        return {1001: min(self.now + self.skew, U64) < header.iat,
                1101: self.now > min(header.iat + header.ttl + self.skew, U64)}

    def fresh(self, purpose):
        """§9.7, and §9.10: how old the newest timestamp may be, in seconds."""
        codes = {"root": 2304} | {name: code for name, (_, _, code) in FILES.items()}
        for name, code in codes.items():
            refuse({code: any(self.outside(getattr(self.state, name).window).values())})
        time, bound = self.state.time, {"authority": 20, "request": 60, "publish": 600}[purpose]
        if self.state.root.roles[6].keys:
            refuse({2308: time is None or time.window.nbf > self.now + self.skew
                    or self.now - time.window.nbf > bound * 1000})

    def off(self, key):
        """What is wrong with the standing of a key."""
        certificate, policy = self.state.certificates.get(key), self.state.policy
        if certificate is None:
            return {601: True}
        agent, blocked, allowed = certificate.agent, policy.blocked, policy.allowed
        return self.outside(certificate.window) | {
            1901: key in blocked.keys, 1902: agent in blocked.agents,
            1903: allowed and key not in allowed.keys and agent not in allowed.agents}

    def revoked(self, key):
        agent = self.state.certificates[key].agent
        return self.key_revoked(key) | {1803: agent in self.state.revocations.agents}

    def key_revoked(self, key):
        revoked = self.state.revocations
        return {1802: key in revoked.keys, 1804: revoked.retired.get(key, U64 + 1) <= self.now}

    def stands(self, chain):
        """Steps 1 to 3 of §7.4."""
        root, grant = self.state.root, chain[0]
        refuse({1701: grant.mesh != root.mesh, 1702: grant.issuer not in root.roles[2].keys})
        each(chain, lambda link: self.off(link.holder))

    def links_hold(self, chain):
        each(chain, lambda link: self.outside(link.window))

    def signed(self, chain):
        each(chain, lambda l: {401: not verifies(l.signer, l.signature, l.tag, l.body)})

    def not_revoked(self, chain):
        refuse(self.key_revoked(chain[0].issuer))
        each(chain, lambda link: {1801: link.id in self.state.revocations.links})
        each(chain, lambda link: self.revoked(link.holder))

    def lifetimes(self, chain):
        most = self.state.policy.ceilings
        most = {"root-grant": most.grant, "delegation": most.delegation}
        each(chain, lambda link: {1507: link.window.exp - link.window.nbf > most[link.tag]})

    def permits(self, header, duty, chain, frame, session):
        """§10.4; the allow rules that match."""
        policy, scores = self.state.policy, {s.agent: s.points for s in self.state.scores.scores}
        rules = [r for r in policy.rules if r.actions & header.action and contains(r.pattern, duty)]
        refuse({2007: header.ttl > policy.ceilings.envelope,
                2002: any(not rule.effect for rule in rules)})
        score = min(scores.get(self.state.certificates[link.holder].agent, 0) for link in chain)
        age, depth = self.now - header.iat, len(chain) - 1
        for r in rules:
            refuse({2006: not r.modes >> header.mode - 1 & 1,
                    2003: r.max_age is not None and age > r.max_age,
                    1604: r.max_depth is not None and depth > r.max_depth,
                    2101: score < (r.min_score or 0), 2005: r.session and not session})
        asked = any(need.actions & header.action and contains(need.pattern, duty)
                    for needs in policy.needs for need in needs)
        refuse({2001: not rules, 2008: asked and not self.approved(header, chain, frame.chain)})
        return rules

    def approved(self, header, chain, data):
        """Whether the header carries an approval that counts, §10.8."""
        root, leaf = self.state.root, chain[-1]
        carried = [extension.value for extension in header.extensions if extension.id == 4]
        if not carried or len(carried[0]) > 300:
            return False
        try:
            outer = Reader(data=carried[0]).record("approved")
            body = parse("approval", outer.body)
        except Deny:
            return False
        window, keys = body.window, root.roles[3].keys
        return (window.exp - window.nbf <= 3_600_000 and body.mesh == root.mesh
                and outer.registrar < len(keys)
                and verifies(keys[outer.registrar], outer.signature, "approval", outer.body)
                and body.leaf == leaf.id and body.chain == object_id("chain", data)
                and window.exp <= leaf.window.exp and body.policy == self.state.policy.epoch
                and not any(self.outside(window).values()))

    def permits_subscription(self, subject):
        """§10.6."""
        rules = [rule for rule in self.state.policy.rules if rule.actions & 2]
        refuse({2002: any(overlaps(r.pattern, subject) for r in rules if not r.effect),
                2001: not any(contains(r.pattern, subject) for r in rules if r.effect)})


# ---- Messages and answers: §12, §13; chains by themselves: §7.5 ----

def open_envelope(view, case):
    """The header and the frame, with the checks that messages and audit batches begin with."""
    frame = opened(b"TMSH", unhex(case["bytes"]), "frame")
    r = Reader(data=frame.header, mode=frame.mode)
    h = r.record("envelope", id=object_id("envelope", frame.header))
    refuse({111: not 1 <= h.ttl <= 120_000 or h.iat + h.ttl > U64})
    present = [field is not None for field in (h.reply, h.in_reply_to, h.audience)]
    fitting = {1: [False, False, present[2]], 4: [True, False, present[2]], 8: [False, True, True]}
    refuse({115: present != fitting[h.action]})
    r.end()
    refuse({116: h.content_len != len(frame.content), 1701: h.mesh != view.state.root.mesh,
            901: case["delivered"]["subject"] != h.subject})
    return h, frame


def judge_message(view, case, memory):
    """A message or an answer, §13.2."""
    receiver, subscribed, pending = case["receiver"], case["kind"] == "message", case.get("pending")
    header, frame = open_envelope(view, case)
    refuse({903: case["delivered"]["reply"] != header.reply})
    if subscribed:
        refuse({1304: header.action == 8, 902: not contains(receiver["pattern"], header.subject)})
    else:
        refuse({1301: not pending, 1303: header.action != 8})
        refuse({1302: header.in_reply_to.hex() != pending["request"]})
    refuse({801: header.audience and header.audience.hex() != receiver["key"]} | view.late(header))
    view.fresh("publish" if header.action == 1 else "request")
    if subscribed:
        with at_hop(None):
            own = parse_chain(unhex(receiver["chain"]))
            view.check(own, "links_hold stands not_revoked")
            view.permits_subscription(header.subject)
    chain = parse_chain(frame.chain)
    sender, duty = chain[-1].holder, pending["subject"] if pending else header.subject
    refuse({1403: header.leaf != chain[-1].id,
            1305: pending and pending["audience"] not in (None, sender.hex())})
    view.stands(chain)
    refuse({904: not (header.reply or inbox(sender)).startswith(inbox(sender))})
    view.check(chain, "links_hold signed not_revoked")
    refuse({1202: header.iat <= case.get("floor", -1), 1201: (sender, header.mid) in memory.replay})
    check_sender(header, frame, sender)
    payload = parse_content(header, frame.content)
    each(chain, lambda link: covering(link, header.action, duty, header.audience))
    view.lifetimes(chain)
    rules = view.permits(header, duty, chain, frame, sender.hex() in case.get("sessions", []))
    debit(memory.buckets, view.now, chain, rules)
    memory.replay.add((sender, header.mid))
    agent = view.state.certificates[sender].agent
    return {"id": header.id.hex(), "sender": agent, "payload": payload.hex()}


def check_sender(header, frame, key):
    """Step 20 of §13.2: a key signed the header, by itself or in a batch."""
    if header.mode == 1:
        refuse({401: not verifies(key, frame.signature, "envelope", frame.header)})
    else:
        proof, batch = frame.signature, frame.signature.batch
        refuse({1701: batch.mesh != header.mesh, 701: batch.key != key,
                401: root_of(proof, frame.header) != batch.root
                or not verifies(key, proof.signature, "batch", proof.body)})


def debit(buckets, now, chain, rules):
    """§10.5. A bucket is what it held when it was last debited, and when that was."""
    after = {}
    for name, rate in ((rule.name, rule.rate) for rule in rules if rule.rate):
        for link in chain:
            full = rate.count * rate.per
            held, since = buckets.get((name, link.id), (full, now))
            held = min(held + rate.count * max(now - since, 0), full) - rate.per
            after[name, link.id] = held, now
    refuse({2004: any(held < 0 for held, _ in after.values())})
    buckets.update(after)


def judge_chain(view, case, memory):
    """A chain by itself, §7.5."""
    chain = parse_chain(unhex(case["bytes"]))
    refuse({1701: chain[0].mesh != view.state.root.mesh})
    view.fresh("authority")
    view.check(chain, "stands links_hold lifetimes signed not_revoked")
    refuse({1405: chain[-1].holder.hex() != case["holder"]}, len(chain) - 1)


# ---- Trust states: §9 ----

def judge_trust(view, case, memory):
    """The state was assembled; whether it may replace another is §9.6."""
    if case.get("replaces"):
        check_replaces(view.state, load_state(case["states"] / f"{case['replaces']}.json"))


def judge_follow(view, case, memory):
    """A root, a bulletin, or a purpose, for a reader of a served mesh: §9.8 to §9.12."""
    if memory.reader is None:
        memory.reader = begin(case["states"] / f"{case['state']}.json")
    if "purpose" in case:
        View(state=memory.reader.state, now=view.now, skew=view.skew).fresh(case["purpose"])
        return {}
    return take_in(memory.reader, case)


# ---- Handshakes: §16 ----

def check_peer(view, frame, body, agent, key):
    """The peer check, §16.7; the peer's chain."""
    view.fresh("request")
    refuse(view.off(key))
    registered = view.state.certificates[key]
    refuse({701: registered.agent != agent})
    presented = parse_certificate(frame.certificate).id
    refuse({702: {presented, body.certificate} != {registered.id}} | view.revoked(key))
    chain = parse_chain(frame.chain)
    refuse({1403: chain[-1].id != body.leaf, 701: chain[-1].holder != key})
    view.check(chain, "stands links_hold")
    refuse({401: not verifies(key, frame.signature, body.tag, frame.body)})
    view.check(chain, "signed not_revoked")
    return chain


def judge_handshake(view, case, memory):
    """A frame as its reader takes it: the responder at steps 1 and 3, else the initiator."""
    step, me, now = case["step"], Record(**case["self"]), view.now
    names = ("nonce", "instance", "secret", "session", "challenge")
    nonce, instance, secret, session, challenge = (unhex(case.get(n) or "") for n in names)
    seed = Ed25519PrivateKey.from_private_bytes(unhex(me.seed))
    me.key, me.links = seed.public_key().public_bytes_raw(), parse_chain(unhex(me.chain))
    me.ids = [parse_certificate(unhex(me.certificate)).id, me.links[-1].id]
    frame = open_handshake(unhex(case["bytes"]), step)
    tag = ("hs-hello", "hs-challeng", "hs-proof", "hs-confirm")[step - 1]
    body = parse(tag, frame.body)

    def wrong_nonce(received, own):
        return {2203: not any(received) or received == own}

    def cookie(hello, nonce, time):
        data = tagged("hs-challeng", hello.id + nonce + time.to_bytes(8, "big") + instance)
        return hmac.digest(secret, data, "sha256")

    def answer(body, tag):
        signed = [seed.sign(tagged(tag, body)), unhex(me.certificate), unhex(me.chain)]
        return (b"TMHS" + encode([1, step + 1, body] + (signed if step > 1 else []))).hex()

    def begin(id, agent, key, chain, until=U64):
        ends = [until, now + 900_000] + [link.window.exp for link in me.links + chain]
        registered = [view.state.certificates.get(k) for k in (me.key, key)]
        ends += [certificate.window.exp for certificate in registered if certificate]
        return {"id": id.hex(), "peer": agent, "key": key.hex(), "until": min(ends)}

    if step in (1, 3):
        hello = body if step == 1 else parse("hs-hello", body.hello)
        made = Record(nonce=nonce) if step == 1 else parse("hs-challeng", body.challenge)
        refuse({1701: hello.mesh != me.links[0].mesh,
                2205: (hello.id_r, hello.key_r) != (me.id, me.key), 2204: not hello.modes & 3})
        refuse(wrong_nonce(hello.nonce, made.nonce))
        if step == 1:
            made = [1, hello.id, nonce, now, instance, cookie(hello, nonce, now), []]
            return {"answer": answer(encode(made), "hs-challeng")}
        refuse({2201: made.hello != hello.id or made.instance != instance,
                2202: not now - 10_000 <= made.time <= now or made.cookie in memory.cookies
                or made.cookie != cookie(hello, made.nonce, made.time)})
        chain = check_peer(view, frame, body, hello.id_i, hello.key_i)
        begun = begin(session, hello.id_i, hello.key_i, chain)
        refuse({2202: begun["until"] <= now})
        memory.cookies.add(made.cookie)
        newest = getattr(view.state, "file", None)
        carried = [[1, False, newest]] if newest and len(newest) <= 512 else []
        sent = encode([1, body.id, *me.ids, session, begun["until"], carried])
        return {"answer": answer(sent, "hs-confirm"), "session": begun}
    agent, key = case["peer"]["id"], unhex(case["peer"]["key"])
    hello = encode([1, me.links[0].mesh, me.id, me.key, agent, key, nonce, 3, []])
    if step == 2:
        refuse({2201: body.hello != object_id("hs-hello", hello)} | wrong_nonce(body.nonce, nonce))
        return {"answer": answer(encode([1, hello, frame.body, *me.ids, []]), "hs-proof")}
    proof = encode([1, hello, open_handshake(challenge, 2).body, *me.ids, []])
    refuse({2201: body.proof != object_id("hs-proof", proof)})
    chain = check_peer(view, frame, body, agent, key)
    begun = begin(body.session, agent, key, chain, body.until)
    refuse({2202: begun["until"] <= now})
    return {"session": begun}


# ---- Audit: §17 ----

RECORD = "v:u8 emitter:string run:string seq:u64 prev:string time:u64 kind:string "
HOP = "link:string holder:string key:string scope:strings until:u64 remaining:u8"
EVENTS = {  # member:type; "?" for what is left out when absent, "~" for what is null when absent
    "decision": "verdict:verdict class:string? code:u16? reason:string? hop:u8? subject:string"
    " action:string? sender:string? sender_key:string? claimed:boolean mid:string? object:string?"
    " in_reply_to:string? issuer:string? chain:hops? trace:string? hops:u8 len:u64"
    " digest:string? registry:u64 revocations:u64 policy:u64 cost_ns:u64?",
    "withdrawn": "object:string class:string code:u16",
    "aggregate": "class:string count:u64",
    "gap": "count:u64",
    "session": "peer:string role:role until:u64~ class:string~ code:u16~",
    "notice": "topic:string text:string",
}
JSON_TYPES = {
    "string": lambda v: type(v) is str,
    "strings": lambda v: type(v) is list and all(type(item) is str for item in v),
    "boolean": lambda v: type(v) is bool,
    "u8": lambda v: type(v) is int and 0 <= v < 2**8,
    "u16": lambda v: type(v) is int and 0 <= v < 2**16,
    "u64": lambda v: type(v) is int and 0 <= v < 2**64,
    "verdict": lambda v: v in ("allow", "deny"),
    "role": lambda v: v in ("initiator", "responder"),
    "hops": lambda v: type(v) is list and v and all(fits(hop, HOP) for hop in v),
}


def fits(value, schema):
    """Whether an object has the members of a schema, in order, and each of its type."""
    if type(value) is not dict:
        return False
    fields = re.findall(r"(\w+):(\w+)([?~]?)", schema)
    fields = [field for field in fields if field[2] != "?" or field[0] in value]
    return list(value) == [name for name, _, _ in fields] and all(
        mark == "~" and value[name] is None or JSON_TYPES[kind](value[name])
        for name, kind, mark in fields)


def parse_line(line):
    """§17.2; the members. A record has one encoding, so writing it again yields the line."""
    try:
        value = json.loads(line)
        again = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    except (ValueError, RecursionError):
        raise Deny(103) from None
    refuse({103: again != line or type(value) is not dict})
    event = value.get("kind")
    refuse({103: type(event) is not str or event not in EVENTS})
    refuse({103: not fits(value, RECORD + EVENTS[event])})
    return value


def judge_audit(view, case, memory):
    """§17.1."""
    header, frame = open_envelope(view, case)
    refuse({1303: header.action != 1 or header.payload_type != "trustmesh/audit",
            301: header.mode != 1, 1405: frame.chain != b"\x90"} | view.late(header))
    view.fresh("publish")
    found = [c for c in view.state.registry.certificates if c.id == header.leaf]
    refuse({601: not found})
    agent, key = found[0].agent, found[0].key
    refuse(view.off(key) | view.revoked(key))
    refuse({905: header.subject != f"{case['prefix']}.audit.{agent.replace('/', '~')}",
            401: not verifies(key, frame.signature, "envelope", frame.header)})
    payload = parse_content(header, frame.content)
    utf8(payload)
    *ended, last = payload.split(b"\n")
    records = []
    for line in ended + ([last] if last else []):
        record = parse_line(line.decode())
        refuse({115: record["v"] != 1 or record["emitter"] != agent})
        records.append((record, object_id("audit-rec", line).hex()))
    runs = memory.runs.setdefault(agent, {})
    return {"items": [item for record in records for item in read_record(runs, *record)]}


def read_record(runs, record, digest):
    """§17.5; the items. A run is the number expected next and the digest of the line before."""
    run, seq, prev = record["run"], record["seq"], record["prev"]
    expected, before = runs.get(run, (seq, prev if seq else "0" * 64))
    if seq < expected:
        return ["duplicate"]
    runs.pop(run, None)
    runs[run] = min(seq + 1, U64), digest
    if len(runs) > 64:
        del runs[next(iter(runs))]
    if seq > expected:
        return ["missing", "record"]
    return ["record"] if prev == before else ["fork", "record"]


# ---- Subjects: §5 ----

def judge_subjects(view, case, memory):
    """Tables in which every row has to hold, §5."""
    tables = {"matches": contains, "contains": contains, "overlaps": overlaps}
    right = [[matches("subject", text), matches("pattern", text)] == expected
             for text, *expected in case.get("grammar", [])]
    right += [holds(a, b) == r for name, holds in tables.items() for a, b, r in case.get(name, [])]
    right += [overlaps(b, a) == r for a, b, r in case.get("overlaps", [])]
    refuse({109: not all(right)})


# ---- The command ----

KINDS = {"message": judge_message, "answer": judge_message, "chain": judge_chain,
         "trust": judge_trust, "follow": judge_follow, "handshake": judge_handshake,
         "audit": judge_audit, "subjects": judge_subjects}

ONE_OF = ("root", "bulletin", "store", "purpose")  # what an input of kind `follow` may be


def judge(case, memory):
    """The verdict on one input, in the form of `expect`."""
    try:
        named = "state" in case and case["kind"] != "follow"
        state = load_state(case["states"] / f"{case['state']}.json") if named else None
        view = View(state=state, now=case.get("now"), skew=case.get("skew"))
        return {"verdict": "allow"} | (KINDS[case["kind"]](view, case, memory) or {})
    except Deny as fault:
        name = CLASSES[fault.code // 100 - 1]
        return {"verdict": "deny", "class": name, "code": fault.code, "hop": fault.hop}


def main(arguments):
    as_json, paths, agree = "--json" in arguments, [], 0
    for path in (Path(name) for name in arguments if name != "--json"):
        paths += sorted(path.rglob("*.json")) if path.is_dir() else [path]
    paths = [path for path in paths if path.parent.name != "states"]
    for path in paths:
        case = json.loads(path.read_text()) | {"states": path.resolve().parents[1] / "states"}
        memory, wrong = Record(replay=set(), buckets={}, cookies=set(), runs={}, reader=None), []
        shared = {name: case[name] for name in case if name not in ONE_OF}
        for part in [*case.get("preceded_by", []), case]:
            verdict = judge(shared | part, memory)
            if verdict != part["expect"]:
                wrong.append(f"{path}: expected {part['expect']}, found {verdict}")
        if as_json:
            fields = {name: verdict.get(name) for name in ("verdict", "class", "code", "hop")}
            print(json.dumps({"case": str(path)} | fields))
        elif wrong:
            print(*wrong, sep="\n")
        agree += not wrong
    if not as_json:
        print(f"{len(paths)} cases, {agree} agree, {len(paths) - agree} disagree")
    return 0 if paths and agree == len(paths) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
