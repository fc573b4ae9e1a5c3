"""The bytes of trustmesh: keys and signatures, the encoding, the frames, files and bodies made of
it, subjects, chains and certificates.

The marks § are sections of docs/protocol.md. A rejection is raised as `Deny`.
"""
import base64
import binascii
import hashlib
import re
from contextlib import contextmanager
from functools import cache
from itertools import zip_longest
from types import SimpleNamespace as Record

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

U64, DAY = 2**64 - 1, 86_400_000


class Deny(Exception):
    """A rejection: its code, from which the class follows, and its hop or None."""

    def __init__(self, code, hop=None):
        super().__init__(code, hop)
        self.code, self.hop = code, hop


def refuse(faults, hop=None):
    """Takes {code: whether there is that fault}; denies with the first one that there is."""
    for code, fault in faults.items():
        if fault:
            raise Deny(code, hop)


@contextmanager
def at_hop(hop):
    """Every rejection inside carries this hop, or none."""
    try:
        yield
    except Deny as fault:
        raise Deny(fault.code, hop) from None


# ---- Ed25519, tags and ids: §2.2 to §2.4 ----

P, L = 2**255 - 19, 2**252 + 27742317777372353535851937790883648493
D, SQRT_M1, NEUTRAL = -121665 * pow(121666, -1, P) % P, pow(2, (P - 1) // 4, P), (0, 1)


def decode_point(data):
    """The curve point of 32 bytes, or None. Its y is taken modulo P."""
    number = int.from_bytes(data, "little")
    y = number % 2**255 % P
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    root = pow(square, (P + 3) // 8, P)
    for x in (root, root * SQRT_M1 % P):
        if x * x % P == square:
            return (x if x % 2 == number >> 255 else -x % P), y


def add(one, other):
    (x1, y1), (x2, y2) = one, other
    t = D * x1 * x2 * y1 * y2
    x, y = (x1 * y2 + y1 * x2) * pow(1 + t, -1, P), (y1 * y2 + x1 * x2) * pow(1 - t, -1, P)
    return x % P, y % P


def multiply(factor, point):
    if factor == 0:
        return NEUTRAL
    rest = multiply(factor // 2, add(point, point))
    return add(rest, point) if factor % 2 else rest


@cache
def is_key(data):
    """Whether bytes are canonical, not of small order and torsion-free, as certified keys are."""
    x, y = point = decode_point(data) or NEUTRAL
    canonical = (y | (x & 1) << 255).to_bytes(32, "little") == data
    return canonical and multiply(8, point) != NEUTRAL and multiply(L, point) == NEUTRAL


@cache
def verifies(key, signature, tag, body):
    """The strict predicate. OpenSSL checks the equation without cofactor, on the bytes of R."""
    r, s = decode_point(signature[:32]), int.from_bytes(signature[32:], "little")
    if s >= L or r is None or multiply(8, r) == NEUTRAL:
        return False
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, tagged(tag, body))
    except InvalidSignature:
        return False
    return True


def tagged(tag, body):
    return b"\xfftrustmesh/1 " + tag.encode().ljust(11, b"\0") + body


def object_id(tag, body):
    return hashlib.sha256(tagged(tag, body)).digest()


# ---- Encoding: §2.5 ----

FORMS = {  # first byte of the short form, how many values it has, bytes that follow the others
    "number": (0x00, 128, {0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8}),
    "binary": (0x00, 0, {0xC4: 1, 0xC5: 2, 0xC6: 4}),
    "text": (0xA0, 32, {0xD9: 1, 0xDA: 2, 0xDB: 4}),
    "array": (0x90, 16, {0xDC: 2, 0xDD: 4}),
}


def encode(value):
    """The one encoding of a value; a length or number has the shortest form."""
    if isinstance(value, bool):
        return bytes([0xC3 if value else 0xC2])
    if isinstance(value, int):
        return encode_head("number", value)
    if isinstance(value, list):
        return encode_head("array", len(value)) + b"".join(encode(item) for item in value)
    kind, data = ("text", value.encode()) if isinstance(value, str) else ("binary", value)
    return encode_head(kind, len(data)) + data


def encode_head(kind, value):
    start, short, long = FORMS[kind]
    if value < short:
        return bytes([start + value])
    first, size = next((first, size) for first, size in long.items() if value < 256**size)
    return bytes([first]) + value.to_bytes(size, "big")


# A field is `name:type`, or a type alone, which is another schema, or stands in CHECKED, or is a
# method of Reader, perhaps with a number for it. `?` is "or nil", `*16` a list of at most 16, `<`
# a list that ascends, `!` one without repetition. A window is two elements of an array, `end` none.
SCHEMAS = dict(line.split(" = ") for line in """
root-grant = v mesh:bin16 issuer:bin32 holder:bin32 window30 remaining scope:cap*16 nonce:bin16 \
ext end
delegation = v parent:bin32 holder:bin32 window30 remaining scope:cap*16 nonce:bin16 ext end
cap = actions pattern:granted constraints
constraint = kind:constraintkind values:somevalues
agent-cert = v mesh:bin16 serial:bin16 agent key:bin32 window30 prev:bin32? epoch:u32 ext end
cert = body:blob512 registrar:u8 signature:bin64 possession:bin64 end
file = v kind body:blob signatures:entry*16 end
later = v kind body:blob signatures:entry*32 end
entry = index signature:bin64
trust-root = v version:nth name:text64 roles window400 extensions:rootext end
role = number:rolenumber threshold:u8 keys:rootkey!16
registry = v mesh:ourmesh epoch:number window30 certificates:registered extensions:partext end
policy = v mesh:ourmesh epoch:number window30 ceilings blocked:list allowed:list? rules \
needs:policyext*8 end
policyany = id:u16 critical:bool value:blob32768
need = pattern actions:mactions
conduct = scores:soundscores quarantine:soundlimits end
anyscores = start:u16 floor:u16 alarm:u16 costs gains lapse:u32
costs = scope:u32 depth:u32 content:u32
gains = reward:u32 quiet:number earned:u16 endorsement:u32 endorsed:u16
anylimits = counted:number bad:u16 percent:u8 times relapse:u16
times = first:number longest:number probation:number
approval = v mesh:bin16 leaf:bin32 chain:bin32 registry:number revocations:number policy:number \
window1 ext end
approved = body:blob300 registrar:u8 signature:bin64 end
revocations = v mesh:ourmesh epoch:number window30 links:bin32< keys:bin32< agents:agent< \
extensions:listext end
scores = v mesh:ourmesh epoch:number window30 scores:score< extensions:partext end
timestamp = v mesh:ourmesh epoch:number window30 snapshot:number digest:bin32 version:u32 \
root:bin32 ext end
snapshot = v mesh:ourmesh epoch:number window30 parts:part*1024 ext end
bulletin = v timestamp:blob snapshot:blob parts:blob*1024 end
limits = envelope:u32 grant:number delegation:number
list = agents:agent< keys:bin32<
anyrule = name:text64 effect:flag actions pattern max_age:u32? max_depth:u8? rate? min_score:u16? \
session:bool modes:u8
rate = count:u32 per:u32
score = agent points
frame = v mode:framemode header:blob2048 signature:auth chain:blob8192 content:blob end
proof = body:blob128 signature:bin64 index:u8 path:blob256
batch = v mesh:bin16 key:bin32 size:batchsize root:bin32 ext end
envelope = v mode mesh:bin16 mid:bin16 iat:number ttl:u32 action subject reply:subject? \
audience:bin32? in_reply_to:bin32? leaf:bin32 payload_type:text96 content_hash:bin32 \
content_len:u32 extensions:extension*8
anyext = id:u16 critical:bool value:blob512
content = headers:pair*64 grants:grant*8 payload:blob end
anypair = name:text16384 value:text16384
hs-hello = v mesh:bin16 id_i:agent key_i:bin32 id_r:agent key_r:bin32 nonce modes:u8 ext end
hs-challeng = v hello:bin32 nonce time:number instance:bin8 cookie:bin32 ext end
hs-proof = v hello:blob challenge:blob certificate:bin32 leaf:bin32 carried end
hs-confirm = v proof:bin32 certificate:bin32 leaf:bin32 session:bin16 until:number carried end
""".strip().split("\n"))
TOKEN = r"[^\x00-\x20.*>\x7f-\U0010ffff]+"
FORMATS = {"subject": rf"(?!.{{256}})({TOKEN}\.){{0,15}}{TOKEN}", "group": "[!-~]+",
           "pattern": rf"(?!.{{256}})(({TOKEN}|\*)\.){{0,15}}({TOKEN}|\*|>)",
           "agent": "[a-z0-9][a-z0-9_-]*(/[a-z0-9][a-z0-9_-]*)*", "header": "[!-9;-~]+",
           1: b"(?s:.{24})", 2: b"00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}", 3: b"[^\0]"}
CONDUCT = encode([  # the defaults, §10.9
    [500, 0, 200, [100_000, 100_000, 50_000], [5000, 3_600_000, 300, 20_000, 100], 3600],
    [10_000, 20, 50, [60_000, 3_600_000, 600_000], 3]])
NO_LIMITS = Record(max_age=None, max_depth=None, rate=None, min_score=None, session=False, modes=7)


def matches(form, text):
    return re.fullmatch(FORMATS[form], text) is not None


CHECKED = {  # type: what it is read as; what must hold, for value v and its Reader r; else the code
    "u": ("number", lambda v, r: not v >> r.limit, 106),
    "bin": ("binary", lambda v, r: len(v) == r.limit, 105),
    "blob": ("binary", lambda v, r: len(v) <= r.limit, 201),
    "window": ("span", lambda v, r: v.nbf < v.exp <= v.nbf + r.limit * DAY, 111),
    "v": ("number", lambda v, r: v == 1, 301),
    "ext": ("array", lambda v, r: v == 0, 113),
    "nth": ("number", lambda v, r: v == r.version, 301),
    "partkind": ("number", lambda v, r: v in (2, 3, 4, 5, 8), 106),
    "samemode": ("number", lambda v, r: v == r.mode, 112),
    "mode": ("samemode", lambda v, r: v in (1, 2), 301),
    "batchsize": ("u16", lambda v, r: 1 <= v <= 256, 106),
    "kind": ("number", lambda v, r: v == r.kind, 106),
    "flag": ("number", lambda v, r: v <= 1, 106),
    "ourmesh": ("bin16", lambda v, r: v == r.root.mesh, 1701),
    "action": ("number", lambda v, r: v in (1, 4, 8), 106),
    "actions": ("u8", lambda v, r: 0 < v < 48 and not v & 16, 106),
    "remaining": ("u8", lambda v, r: v <= 8, 1602),
    "points": ("u16", lambda v, r: v <= 1000, 106),
    "index": ("u8", lambda v, r: r.rises(v), 117),
    "rootkey": ("bin32", lambda v, r: is_key(v), 501),
    "rolerange": ("number", lambda v, r: 1 <= v <= 7, 106),
    "rolenumber": ("rolerange", lambda v, r: r.rises(v), 117),
    "fullrole": ("role", lambda v, r: 1 <= v.threshold <= len(v.keys), 106),
    "agent": ("text96", lambda v, r: matches("agent", v), 110),
    "group": ("text96", lambda v, r: matches("group", v), 114),
    "subject": ("text255", lambda v, r: matches("subject", v), 109),
    "pattern": ("text255", lambda v, r: matches("pattern", v), 109),
    "filled": ("text255", lambda v, r: v, 1506),
    "granted": ("filled", lambda v, r: matches("pattern", v), 109),
    "constraintkind": ("number", lambda v, r: v in (1, 2) and r.rises(v), 114),
    "somevalues": ("values", lambda v, r: v, 114),
    "nonce": ("blob", lambda v, r: len(v) == 32, 2203),
    "ceilings": ("limits", lambda v, r: 1 <= v.envelope <= 120_000
                 and all(1 <= ceiling <= 30 * DAY for ceiling in (v.grant, v.delegation)), 106),
    "denyrule": ("anyrule", lambda v, r: v.effect or vars(v) == vars(v) | vars(NO_LIMITS), 106),
    "rule": ("denyrule", lambda v, r: v.name and (v.min_score or 0) <= 1000 and 1 <= v.modes <= 7
             and (not v.rate or v.rate.count and v.rate.per), 106),
    "rules": ("rule*256", lambda v, r: len({rule.name for rule in v}) == len(v), 117),
    "risingext": ("anyext", lambda v, r: r.rises(v.id), 113),
    "smallext": ("risingext", lambda v, r: r.adds(len(v.value)) <= 512, 201),
    "knownext": ("smallext", lambda v, r: v.critical == (v.id == 3)
                 and (v.id not in FORMATS or matches(v.id, v.value)), 113),
    "extension": ("knownext", lambda v, r: v.id != 3 or v.value[0] <= 16, 1603),
    "mactions": ("u8", lambda v, r: v and not v & ~13, 106),
    "policyrising": ("policyany", lambda v, r: r.rises(v.id), 113),
    "policyknown": ("policyrising", lambda v, r: v.id in (1, 2) and v.critical, 113),
    "soundscores": ("anyscores", lambda v, r: v.floor <= v.start and v.alarm <= 1000
                    and v.start + v.gains.earned + v.gains.endorsed <= 1000
                    and all(1 <= cost <= 1_000_000 and v.gains.reward <= cost // 2
                            for cost in vars(v.costs).values())
                    and v.gains.endorsement <= 1_000_000 and 1 <= v.gains.quiet <= 30 * DAY
                    and 1 <= v.lapse <= 30 * DAY // 1000, 106),
    "soundlimits": ("anylimits", lambda v, r: 1000 <= v.counted <= 600_000 and 1 <= v.bad <= 256
                    and 1 <= v.percent <= 100 and 1 <= v.relapse <= v.bad
                    and 1000 <= v.times.first <= v.times.longest <= 30 * DAY
                    and v.times.probation <= 30 * DAY, 106),
    "grant": ("blob8192", lambda v, r: r.adds(len(v)) <= 16384, 201),
    "smallpair": ("anypair", lambda v, r: r.adds(len((v.name + v.value).encode())) <= 16384, 201),
    "pair": ("smallpair", lambda v, r: matches("header", v.name)
             and not set("\r\n") & set(v.value), 107),
}


class Reader(Record):
    """Reads values from `data`. What else it is given is for the checks to compare with."""
    at, last, total, part_of_state = 0, -1, 0, False

    def take(self, count):
        refuse({101: len(self.data) - self.at < count})
        self.at += count
        return self.data[self.at - count : self.at]

    def head(self, kind):
        """A number or length, steps 1 to 4."""
        first, (start, short, long) = self.take(1)[0], FORMS[kind]
        if start <= first < start + short:
            return first - start
        refuse({103: first not in long})
        value = int.from_bytes(self.take(long[first]), "big")
        refuse({104: encode_head(kind, value)[0] != first})
        return value

    def array(self, exact=None, most=U64):
        count = self.head("array")
        refuse({101: count > len(self.data) - self.at, 201: count > most})
        refuse({105: exact not in (None, count)})
        return count

    def text(self, most):
        data = self.take(self.head("text"))
        refuse({201: len(data) > most, 107: b"\0" in data})
        return utf8(data)

    def bool(self):
        first = self.take(1)
        refuse({103: first not in (b"\xc2", b"\xc3")})
        return first == b"\xc3"

    def number(self):
        return self.head("number")

    def binary(self):
        return self.take(self.head("binary"))

    def end(self):
        refuse({102: self.at < len(self.data)})

    def span(self):
        return Record(nbf=self.number(), exp=self.number())

    def values(self):
        """Those of a constraint, whose kind was read last."""
        return self.read("group<16" if self.last == 1 else "bin32<16", 114)

    def constraints(self):
        return {c.kind: c.values for c in self.read("constraint*")}

    def roles(self):
        """Threshold and keys of each role; one that is not there has none."""
        roles = {role.number: role for role in self.read("fullrole*7")}
        return {n: roles.get(n, Record(threshold=1, keys=[])) for n in range(1, 8)}

    def registered(self):
        """The certificates of a registry, verified, §8; in a part one may be unknown, §9.9."""
        certificates, keys = self.read("certificate*"), self.root.roles[3].keys
        for c in certificates:
            try:
                refuse({1701: c.mesh != self.root.mesh, 1704: c.registrar >= len(keys)})
                refuse({501: not is_key(c.key)})
                refuse({401: not verifies(keys[c.registrar], c.signature, "agent-cert", c.body)
                        or not verifies(c.key, c.possession, "cert-pop", c.id)})
                c.known = True
            except Deny:
                if not self.part_of_state:
                    raise
                c.known = False
        return certificates

    def certificate(self):
        return parse_certificate(self.read("blob512"))

    def rootext(self):
        """Extensions of a trust root by id, §9.3 and §9.8."""
        found = {}
        for _ in range(self.array(most=1 if self.version == 1 else 2)):
            self.array(3)
            id = self.number()
            refuse({113: not max(found, default=0) < id <= (1 if self.version == 1 else 2)})
            refuse({113: not self.bool()})
            found[id] = self.read("blob0" if id == 1 else "bin48")
        return found

    def partext(self, known=(16,)):
        """Extensions of a trust file by id, §9.4."""
        found, count = {}, self.array()
        try:
            for _ in range(count):
                self.array(3)
                id = self.read("u16")
                refuse({113: id not in known or id <= max(found, default=0) or not self.bool()})
                found[id] = self.read("bin4" if id == 16 else "blob")
        except Deny:
            raise Deny(113) from None
        return found

    def listext(self):
        return self.partext((2, 16))

    def part(self):
        """What a snapshot says of a part, §9.9."""
        self.array(4)
        key = self.read("partkind"), self.read("u16")
        refuse({117: not self.rises(key)})
        return Record(key=key, epoch=self.number(), digest=self.read("bin32"))

    def retirement(self):
        """A key and the instant from which it counts as revoked, §11.3."""
        self.array(2)
        key = self.read("bin32")
        refuse({117: not self.rises(key)})
        return key, self.number()

    def carried(self):
        """The newest timestamp that the sender knows, §16.9."""
        count = self.array()
        refuse({113: count > 1})
        try:
            for _ in range(count):
                self.array(3)
                refuse({113: self.number() != 1 or self.bool()})
                refuse({113: not self.read("blob512")})
        except Deny:
            raise Deny(113) from None

    def policyext(self):
        """What a policy asks approvals for, §10.7; what conduct costs, §10.9, asks for none."""
        extension = self.read("policyknown")
        r = Reader(data=extension.value)
        if extension.id == 2:
            r.read("conduct")
            refuse({113: r.data == CONDUCT})
            return []
        needs = r.read("need<64")
        refuse({113: not needs})
        r.end()
        return needs

    def framemode(self):
        self.mode = self.number()
        return self.mode

    def auth(self):
        """A signature, or in mode 2 the proof of a batch, §12.5."""
        if self.mode != 2:
            return self.read("bin64")
        proof = self.read("proof")
        proof.batch = parse("batch", proof.body)
        refuse({106: proof.index >= proof.batch.size})
        refuse({105: len(proof.path) != 32 * sum(climb(proof.index, proof.batch.size))})
        return proof

    def rises(self, value):
        rises, self.last = self.last == -1 or value > self.last, value
        return rises

    def adds(self, size):
        self.total += size
        return self.total

    def record(self, name, **more):
        """An array with the fields of a schema."""
        schema = SCHEMAS[name]
        self.array(len(schema.split()) + ("window" in schema) - schema.endswith(" end"))
        return self.fields(schema, **more)

    def fields(self, schema, **more):
        for name, kind in re.findall(r"(?:(\w+):)?(\S+)", schema):
            more[name or kind.rstrip("?0123456789")] = self.read(kind)
        return Record(**more)

    def read(self, kind, unordered=117):
        """A value of a type as schemas name it; `unordered` is the code of a list out of order."""
        name, limit, mark, most = re.fullmatch(r"([a-z]+)(\d*)([?*<!]?)(\d*)", kind).groups()
        if mark == "?":
            nil = self.data[self.at : self.at + 1] == b"\xc0"
            self.at += nil
            return None if nil else self.read(name + limit)
        if mark:
            return self.list(name + limit, mark, int(most or U64), unordered)
        if name in SCHEMAS:
            return self.record(name)
        if name not in CHECKED:
            return getattr(self, name)(*[int(limit)] if limit else [])
        source, holds, code = CHECKED[name]
        value, self.limit = self.read(source), int(limit or U64)
        refuse({code: not holds(value, self)})
        return value

    def list(self, kind, mark, most, unordered):
        values, last = [], self.last
        self.last, self.total = -1, 0
        for _ in range(self.array(most=most)):
            values.append(self.read(kind))
            order = [getattr(value, "agent", getattr(value, "pattern", value))
                     for value in values[-2:]]
            refuse({unordered: mark == "<" and order[:-1] >= order[-1:]
                    or mark == "!" and values[-1] in values[:-1]})
        self.last = last
        return values


def utf8(data):
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise Deny(107) from None


def opened(magic, data, schema, most=U64, **known):
    """A frame or file: its magic, and the array after it."""
    refuse({201: len(data) > most, 108: data[:4] != magic})
    return Reader(data=data[4:], **known).record(schema)


def open_file(data, kind, schema="file"):
    """A trust file, §9.1, its body undecoded."""
    return opened(b"TMTS", data, schema, 2**26, kind=kind)


def open_handshake(data, step):
    """A frame of the handshake, §16.2."""
    refuse({201: len(data) > 12288, 108: data[:4] != b"TMHS"})
    r = Reader(data=data[4:])
    count = r.array()
    r.read("v")
    refuse({2201: r.number() != step, 105: count != (3 if step < 3 else 6)})
    more = "signature:bin64 certificate:blob512 chain:blob8192 " if step > 2 else ""
    return r.fields(f"body:blob {more}end")


def parse(tag, body, **known):
    """A body that is signed or hashed under a tag, with its id."""
    return Reader(data=body, **known).record(tag, id=object_id(tag, body), body=body, tag=tag)


# ---- Batches: §12.5 ----

def climb(index, size):
    """From a leaf to the root: on each level, whether the node has a neighbour."""
    while size > 1:
        yield index ^ 1 < size
        index, size = index // 2, (size + 1) // 2


def root_of(proof, header):
    """The root to which a header leads by its proof."""
    node = hashlib.sha256(b"\0" + tagged("envelope", header)).digest()
    path = iter(proof.path[at : at + 32] for at in range(0, len(proof.path), 32))
    for level, joined in enumerate(climb(proof.index, proof.batch.size)):
        if joined:
            pair = (next(path), node) if proof.index >> level & 1 else (node, next(path))
            node = hashlib.sha256(b"\1" + b"".join(pair)).digest()
    return node


# ---- Subjects: §5 ----

def related(one, other, overlap):
    """Pair by pair; `free` is whether a wildcard may stand for the token beside it."""
    for place, (a, b) in enumerate(zip_longest(one.split("."), other.split("."))):
        free = None not in (a, b) and (place > 0 or not {a[0], b[0]} & {"$", "_"})
        if a == ">" or overlap and b == ">":
            return free
        if a != b and not (free and ((a == "*" and b != ">") or (overlap and b == "*"))):
            return False
    return True


@cache
def contains(outer, inner):
    return related(outer, inner, False)


@cache
def overlaps(one, other):
    return related(one, other, True)


def inbox(key):
    """The inbox prefix of a key, §4.3, and a dot."""
    data = b"\xa0" + key
    data += binascii.crc_hqx(data, 0).to_bytes(2, "little")
    return f"_INBOX.{base64.b32encode(data).decode()}."


# ---- Chains and certificates: §6 to §8 ----

def parse_chain(data):
    """The links of a chain, §7.2."""
    refuse({201: len(data) > 8192})
    r, chain = Reader(data=data), []
    count = r.array()
    refuse({1401: count == 0, 1601: count > 9})
    for i in range(count):
        r.array(2)
        body = r.binary()
        refuse({201: len(body) > 768}, i)
        signature = r.read("bin64")
        with at_hop(i):
            link = parse("delegation" if i else "root-grant", body)
        link.signature, link.signer = signature, chain[-1].holder if i else link.issuer
        chain.append(link)
        holders = [above.holder for above in chain[:-1]] + [chain[0].issuer]
        refuse({1404: link.holder in holders} | (below(chain[-2], link) if i else {}), i)
    r.end()
    return chain


def below(above, link):
    outer, inner = above.window, link.window
    return {1402: link.parent != above.id, 1602: link.remaining >= above.remaining,
            1503: inner.nbf < outer.nbf or inner.exp > outer.exp,
            1502: not all(any(may_hand_on(p, c) for p in above.scope) for c in link.scope)}


def may_hand_on(parent, child):
    """Attenuation, §6.5."""
    return (parent.actions & 32 and child.actions & ~parent.actions == 0
            and contains(parent.pattern, child.pattern)
            and all(set(child.constraints.get(kind, [None])) <= set(values)
                    for kind, values in parent.constraints.items()))


def covering(link, action, subject, audience):
    """What a link lacks to cover a message, §6.3."""
    found = [c for c in link.scope if c.actions & action and contains(c.pattern, subject)]
    named = [c for c in found if audience in c.constraints.get(2, [audience])]
    return {1501: not found, 1505: not named}


def each(chain, faults):
    """Refuses the first link with a fault, given what the faults of a link are."""
    for i, link in enumerate(chain):
        refuse(faults(link), i)


def parse_certificate(data):
    """A certificate, §8 steps 1 to 3."""
    refuse({201: len(data) > 512})
    outer = Reader(data=data).record("cert")
    return Record(**vars(outer) | vars(parse("agent-cert", outer.body)))


def parse_content(header, data):
    """The payload of an envelope, §12.3."""
    refuse({401: object_id("content", data) != header.content_hash})
    return Reader(data=data).record("content").payload
