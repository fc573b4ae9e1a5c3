"""Trust states of trustmesh: assembled from the files of a static mesh, or followed from bulletin
to bulletin in a served one.

The marks § are sections of docs/protocol.md. A rejection is raised as `Deny`.
"""
import json
from functools import cache
from types import SimpleNamespace as Record

from wire import U64, Reader, object_id, open_file, opened, parse, refuse, verifies

unhex = bytes.fromhex
FILES = {"registry": (2, 3, 2301), "policy": (3, 5, 2302), "revocations": (4, 4, 2303),
         "scores": (5, 7, 2307)}  # kind, role that signs, code when not fresh
NAMES = {kind: name for name, (kind, _, _) in FILES.items()}
ALWAYS = Record(nbf=0, exp=U64)
NO_SCORES = Record(epoch=-1, window=ALWAYS, scores=[])


# ---- Files: §9.1 to §9.4 ----

def check_signatures(file, tag, own, before=None):
    """Those of a file by the keys of a role, and for a later root of the role before, §9.8."""
    counts = {id(own): 0, id(before): 0}
    for entry in file.signatures:
        old = before and entry.index >= 128
        role, place = (before, entry.index - 128) if old else (own, entry.index)
        refuse({1704: place >= len(role.keys)})
        refuse({401: not verifies(role.keys[place], entry.signature, tag, file.body)})
        counts[id(role)] += 1
    for role in (own, before):
        refuse({1704: role and counts[id(role)] < role.threshold})


def open_root(data, before=None):
    """The first root of a mesh, §9.2, or the one after another, §9.8."""
    version = before.version + 1 if before else 1
    file = open_file(data, 1, "later" if before else "file")
    root = parse("trust-root", file.body, version=version)
    root.version, root.dev = version, 1 in root.extensions
    if before:
        refuse({1706: root.extensions.get(2) != before.mesh + before.id,
                1703: root.dev != before.dev})
    check_signatures(file, "trust-root", root.roles[1], before and before.roles[1])
    root.mesh = before.mesh if before else root.id[:16]
    return root


def admitted(texts):
    """The first root of a state, as its file admits it, §9.5."""
    root, pin = open_root(unhex(texts["root"])), texts["pin"]
    refuse({1705: pin not in (None, root.id.hex()), 1703: root.dev and not texts["dev"]})
    return root


def open_content(name, data, root, part):
    """One of the files below the root, the whole or a part of its kind."""
    kind, role, _ = FILES[name]
    file = open_file(data, kind)
    check_signatures(file, name, root.roles[role])
    content = parse(name, file.body, root=root, part_of_state=part)
    extensions = getattr(content, "extensions", {})
    refuse({113: not part and 16 in extensions})
    content.retired = retirements(extensions[2]) if 2 in extensions else {}
    shard = extensions.get(16, b"\0\0\0\1")
    content.index, content.count = (int.from_bytes(shard[i : i + 2], "big") for i in (0, 2))
    if name == "registry":
        index, count = content.index, content.count
        refuse({106: count not in [2**n for n in range(9)] or index >= count
                or any(shard_of(c.key, count) != index for c in content.certificates)})
    return content


def shard_of(key, count):
    return key[0] & count - 1


def retirements(value):
    """§11.3."""
    r = Reader(data=value)
    found = r.read("retirement*")
    refuse({113: not found})
    r.end()
    return dict(found)


def check_distinct(certificates):
    refuse({117: len({c.key for c in certificates}) < len(certificates)})


# ---- Static meshes: §9.5, §9.6 ----

@cache
def load_state(path):
    """The trust state in a file: assembled, or the one that a reader holds."""
    texts = json.loads(path.read_text())
    if "later" in texts:
        return begin(path).state
    root = admitted(texts)
    state = Record(root=root, time=None, scores=NO_SCORES)
    for name in FILES:
        if texts[name] is not None:
            setattr(state, name, open_content(name, unhex(texts[name]), root, part=False))
    check_distinct(state.registry.certificates)
    state.certificates = {c.key: c for c in state.registry.certificates}
    return state


def check_replaces(new, old):
    """§9.6, and §9.11 where both are served."""
    later = new.root.mesh == old.root.mesh and new.root.version > old.root.version
    refuse({1701: new.root.id != old.root.id and not later})
    if old.time:
        refuse({2305: new.time is None})
        check_snapshot_follows(new.snapshot, old.snapshot)
    lost = [set(getattr(old.revocations, name)) - set(getattr(new.revocations, name))
            for name in ("links", "keys", "agents")]
    late = [key for key, start in old.revocations.retired.items()
            if new.revocations.retired.get(key, U64 + 1) > start]
    refuse({2305: any(lost) or late or any(
        getattr(new, name).epoch < getattr(old, name).epoch for name in FILES)})


# ---- Served meshes: §9.8 to §9.12 ----

def begin(path):
    """A reader as a file of states describes it."""
    texts = json.loads(path.read_text())
    reader = Record(root=admitted(texts), state=None, timestamp=None)
    for root in texts["later"]:
        take_in(reader, {"root": root})
    if texts["bulletin"]:
        take_in(reader, {"bulletin": texts["bulletin"]})
    return reader


def take_in(reader, case):
    """A root or a bulletin; what `expect` says of it."""
    if "root" in case:
        reader.root = open_root(unhex(case["root"]), reader.root)
        return {"version": reader.root.version}
    bulletin = opened(b"TMBU", unhex(case["bulletin"]), "bulletin", 2**20 - 2**14)
    files = bulletin.parts + [unhex(file) for file in case.get("store", [])]
    return hear(reader, bulletin, {object_id("trust-part", file): file for file in files})


def hear(reader, bulletin, files):
    """§9.11."""
    root, held = reader.root, reader.state
    if bulletin.timestamp == reader.timestamp:
        return {"progress": "unchanged"}
    time = open_time(root, bulletin.timestamp)
    if held:
        check_follows((time.epoch, time.id), (held.time.epoch, held.time.id))
        check_follows(time.named, held.time.named)
    same_root = held and held.root.id == root.id
    if same_root and held.time.named == time.named:
        state = Record(**vars(held) | {"time": time})
    else:
        snapshot = open_snapshot(root, time, bulletin.snapshot)
        known = {(p.key, p.epoch, p.digest): p for p in held.parts} if same_root else {}
        parts, missing = [], []
        for named in snapshot.parts:
            if named.key[0] == 8:
                continue
            part = known.get((named.key, named.epoch, named.digest))
            if part is None and named.digest in files:
                part = open_part(root, named, files[named.digest])
            (parts if part else missing).append(part or named.digest.hex())
        if missing:
            return {"progress": "missing", "missing": missing}
        state = compose(root, time, snapshot, parts)
        if held:
            check_replaces(state, held)
    state.file = bulletin.timestamp
    reader.state, reader.timestamp = state, bulletin.timestamp
    revoked = state.revocations
    revoked = [revoked.links, revoked.keys, revoked.agents, revoked.retired]
    return {"progress": "advanced", "time": time.epoch, "snapshot": state.snapshot.epoch,
            "keys": len(state.certificates), "revoked": sum(len(names) for names in revoked)}


def open_time(root, data):
    """A timestamp, §9.9. Its id is that of the whole file."""
    file = open_file(data, 6)
    check_signatures(file, "timestamp", root.roles[6])
    time = parse("timestamp", file.body, root=root)
    refuse({111: time.window.exp - time.window.nbf > 20_000,
            1706: (time.version, time.root) != (root.version, root.id)})
    time.id, time.named = object_id("trust-part", data), (time.snapshot, time.digest)
    return time


def open_snapshot(root, time, data):
    """The snapshot that a timestamp names, §9.9."""
    refuse({2310: object_id("trust-part", data) != time.digest})
    file = open_file(data, 7)
    check_signatures(file, "snapshot", root.roles[6])
    snapshot = parse("snapshot", file.body, root=root)
    refuse({2310: snapshot.epoch != time.snapshot})
    return snapshot


def open_part(root, named, data):
    """A part that was found by its digest, §9.9."""
    part = open_content(NAMES[named.key[0]], data, root, part=True)
    refuse({2310: part.index != named.key[1] or part.epoch != named.epoch})
    check_distinct(getattr(part, "certificates", []))
    part.key, part.digest = named.key, named.digest
    return part


def compose(root, time, snapshot, parts):
    """The state that the parts of a snapshot make, §9.9."""
    kinds = {name: [p for p in parts if p.key[0] == kind] for name, (kind, *_) in FILES.items()}
    for name in ("policy", "registry", "revocations", "scores"):
        some = kinds[name]
        refuse({2310: not some and name != "scores"
                or [part.index for part in some] != list(range(len(some)))
                or name == "policy" and len(some) > 1
                or name != "revocations" and any(part.count != len(some) for part in some)})
    state = Record(root=root, time=time, snapshot=snapshot, parts=parts)
    state.scores = Record(**vars(NO_SCORES))
    for name, some in kinds.items():
        if some:
            window = Record(nbf=max(part.window.nbf for part in some),
                            exp=min(part.window.exp for part in some))
            refuse({2310: window.nbf >= window.exp})
            whole = vars(some[0]) | {"window": window, "epoch": max(part.epoch for part in some)}
            setattr(state, name, Record(**whole))
    for name, lists in {"registry": ["certificates"], "scores": ["scores"],
                        "revocations": ["links", "keys", "agents"]}.items():
        for field in lists:
            every = [item for part in kinds[name] for item in getattr(part, field)]
            setattr(getattr(state, name), field, every)
    known = [c for c in state.registry.certificates if c.known]
    state.registry.certificates, state.certificates = known, {c.key: c for c in known}
    merge_revocations(state.revocations, kinds["revocations"])
    return state


def merge_revocations(revoked, parts):
    """Each name once, and of two instants of a key the earlier."""
    for name in ("links", "keys", "agents"):
        setattr(revoked, name, sorted(set(getattr(revoked, name))))
    revoked.retired = {}
    for key, start in (item for part in parts for item in part.retired.items()):
        revoked.retired[key] = min(start, revoked.retired.get(key, U64))


def check_follows(new, old):
    """Epoch and digest of a thing after those of the same thing before, §9.11."""
    refuse({2305: new[0] < old[0], 2309: new[0] == old[0] and new[1] != old[1]})


def check_snapshot_follows(new, old):
    """§9.11, kind by kind, without the books."""
    for kind in NAMES:
        before = {part.key: part for part in old.parts if part.key[0] == kind}
        after = {part.key: part for part in new.parts if part.key[0] == kind}
        if kind in (2, 5) and len(before) != len(after):
            newest = max((part.epoch for part in before.values()), default=-1)
            refuse({2305: not after or any(part.epoch <= newest for part in after.values())})
            continue
        for key, part in before.items():
            refuse({2305: key not in after})
            check_follows((after[key].epoch, after[key].digest), (part.epoch, part.digest))
