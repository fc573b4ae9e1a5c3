//! The table itself: data, a block for each class. Alignment in `remedies` is for the terminal.

use trustmesh::proto::rejection::Class;

use super::Advice;

/// Every class, in order.
pub(super) const TABLE: &[Advice] = &[
    Advice {
        class: Class::Malformed,
        means: "The bytes are not the object they claim to be; nothing else about them was \
                looked at.",
        causes: &[
            "something that is no trustmesh participant publishes on the subject",
            "the bytes were cut, re-encoded or mixed up on the way or in a file",
            "a peer runs other software than the mesh speaks",
        ],
        remedies: &[
            "trustmesh inspect OBJECT     shows how much of it can be read, and where that ends",
            "trustmesh audit tail         shows on which subject such messages arrive",
        ],
        next: "trustmesh inspect OBJECT shows where reading stops",
        reasons: &[
            (1, "it was cut off: compare its length with what was sent"),
            (
                2,
                "something was appended to it, often a line break by an editor or a shell",
            ),
            (
                3,
                "it was written by other software, or is another object than expected",
            ),
            (
                4,
                "it was written by an encoder that is not canonical; only the shortest form counts",
            ),
            (
                5,
                "a key, id, signature or list does not have its fixed length",
            ),
            (
                6,
                "a number is outside its range, or the object is of another kind than expected",
            ),
            (
                7,
                "a text has blanks, control characters or bytes that are no UTF-8",
            ),
            (
                8,
                "it is no frame: plain NATS traffic on a mesh subject looks like this",
            ),
            (
                9,
                "a subject or pattern has an empty token, a blank or a misplaced wildcard",
            ),
            (
                10,
                "an agent id is lower-case segments [a-z0-9][a-z0-9_-]* joined by '/'",
            ),
            (
                11,
                "a lifetime is zero or too long: seconds were taken for milliseconds, or the \
                 reverse",
            ),
            (12, "frame and header were not made together"),
            (
                13,
                "it uses an extension this version does not know and may not ignore",
            ),
            (
                14,
                "a capability names a constraint this version does not know",
            ),
            (
                15,
                "the action does not go with reply, audience or request it names",
            ),
            (16, "the payload was changed or cut after signing"),
            (
                17,
                "a list that must ascend repeats an entry or is out of order",
            ),
        ],
    },
    Advice {
        class: Class::TooLarge,
        means: "A part exceeds the limit of its size or number, which is checked before any \
                work is done.",
        causes: &[
            "a payload, header or chain that grew beyond what the protocol carries",
            "somebody tries to make verification expensive",
        ],
        remedies: &[
            "send large payloads by reference, for example through an object store",
            "trustmesh inspect OBJECT     shows the sizes of the parts",
        ],
        next: "send less at once; trustmesh inspect OBJECT shows the sizes",
        reasons: &[(1, "the message names the part and its limit")],
    },
    Advice {
        class: Class::UnsupportedVersion,
        means: "The object is of a version or mode that this software does not speak.",
        causes: &["the sender runs a newer version"],
        remedies: &[
            "trustmesh --version           compare it on both sides and update the older one",
        ],
        next: "compare trustmesh --version on both sides",
        reasons: &[(1, "the message names the version or mode found")],
    },
    Advice {
        class: Class::BadSignature,
        means: "A signature does not verify, or the content is not what was signed.",
        causes: &[
            "the bytes were changed after signing",
            "it was signed with another key than the one registered for the holder",
            "somebody forges messages",
        ],
        remedies: &[
            "trustmesh inspect OBJECT     shows which link or part the signature belongs to",
            "trustmesh agent list         shows the registered keys",
            "trustmesh audit tail         shows whether it happens again, and where",
        ],
        next: "trustmesh inspect OBJECT shows whose signature it is",
        reasons: &[(
            1,
            "the place says whose: a link's issuer, the sender (header, batch), the payload (content)",
        )],
    },
    Advice {
        class: Class::WeakKey,
        means: "A public key is not acceptable: not canonical, no curve point, or of small order.",
        causes: &["the key was mistyped or made up; no generator makes such a key"],
        remedies: &["trustmesh key new             make a proper key and enrol it"],
        next: "make another key: trustmesh key new",
        reasons: &[(1, "a signature by such a key would prove nothing")],
    },
    Advice {
        class: Class::UnknownAgent,
        means: "No certificate in the registry stands for a key in the chain.",
        causes: &[
            "the agent was never enrolled in this mesh",
            "the registry here is older than the enrolment",
            "the key was rotated and the old one removed",
        ],
        remedies: &[
            "trustmesh agent list         shows who is enrolled",
            "trustmesh agent add ID       enrols an agent",
            "copy the newer trust files from the authority",
        ],
        next: "trustmesh agent list shows who is enrolled",
        reasons: &[(1, "the place says which: the holder of a link, or a peer")],
    },
    Advice {
        class: Class::KeyMismatch,
        means: "A key is used for somebody it does not belong to.",
        causes: &[
            "a peer presents a certificate that is not its own, or not the registered one",
            "a message comes with a batch that somebody else signed",
        ],
        remedies: &["trustmesh agent show ID       shows the registered key and certificate"],
        next: "trustmesh agent show ID shows the registered key",
        reasons: &[
            (
                1,
                "the key is registered for another agent, or a batch is of another key than its message",
            ),
            (
                2,
                "the certificate was replaced since: the peer has to load the newer one",
            ),
        ],
    },
    Advice {
        class: Class::WrongAudience,
        means: "The message is meant for another key: it was delivered to the wrong receiver.",
        causes: &[
            "several agents subscribe to the subject, and the sender means one of them",
            "the receiver rotated its key, and the sender still addresses the old one",
            "somebody passes a message on to somebody else",
        ],
        remedies: &["trustmesh inspect OBJECT     shows the audience"],
        next: "trustmesh inspect OBJECT shows for whom it is meant",
        reasons: &[(1, "only the holder of the named key may act on it")],
    },
    Advice {
        class: Class::SubjectMismatch,
        means: "It was delivered elsewhere, or asks for its answer elsewhere, than its sender \
                signed.",
        causes: &[
            "a subject mapping, import or stream of the server rewrites subjects",
            "somebody republishes messages of others",
        ],
        remedies: &[
            "trustmesh inspect OBJECT     shows the signed subject and reply",
            "look for subject mappings in the server's configuration",
        ],
        next: "trustmesh inspect OBJECT shows the signed subject",
        reasons: &[
            (1, "it was moved to another subject after signing"),
            (
                2,
                "the server delivered it to a subscription whose pattern does not match",
            ),
            (
                3,
                "the server, or somebody on the way, changed the reply subject",
            ),
            (
                4,
                "the sender asks for the answer at a place that is not below its own inbox",
            ),
            (
                5,
                "an audit or control message is not on the subject of its sender",
            ),
        ],
    },
    Advice {
        class: Class::NotYetValid,
        means: "It is not valid yet at the time of the decision.",
        causes: &[
            "a clock is wrong, here or at the issuer",
            "the window begins in the future on purpose",
        ],
        remedies: &[
            "trustmesh check              compares the clock",
            "trustmesh inspect OBJECT     shows every window, in UTC",
        ],
        next: "trustmesh check compares the clock",
        reasons: &[(
            1,
            "the place says which window: envelope, link, or certificate of a holder",
        )],
    },
    Advice {
        class: Class::Expired,
        means: "It is no longer valid at the time of the decision.",
        causes: &[
            "a message waited too long, in a queue or a stream",
            "a grant or certificate ran out and was not renewed",
            "a clock is wrong, here or at the sender",
        ],
        remedies: &[
            "trustmesh inspect OBJECT     shows every window, in UTC",
            "trustmesh token issue        issues a new grant",
            "trustmesh verify --at TIME   judges it as of another time",
        ],
        next: "trustmesh inspect OBJECT shows what ran out; trustmesh token issue renews a grant",
        reasons: &[(
            1,
            "the place says which window: envelope, link, or certificate of a holder",
        )],
    },
    Advice {
        class: Class::Replay,
        means: "The message counts as accepted before; it is acted on once.",
        causes: &[
            "a stream or a retry delivered it again, which is harmless",
            "somebody sends copies of messages of others",
        ],
        remedies: &[
            "trustmesh audit tail         shows the first acceptance, by the same object id",
        ],
        next: "nothing, when it was a redelivery; trustmesh audit tail shows the first acceptance",
        reasons: &[
            (1, "the very same message was accepted already"),
            (
                2,
                "after a restart without its memory, a receiver refuses what was sent before",
            ),
            (
                3,
                "by the shared replay memory, another member or an earlier run took it",
            ),
        ],
    },
    Advice {
        class: Class::UnexpectedReply,
        means: "An answer where none, or another one, is expected.",
        causes: &[
            "the request timed out before its answer came",
            "somebody answers a request that was not theirs to answer",
        ],
        remedies: &[
            "trustmesh verify ANSWER --request FILE     judges an answer beside its request",
            "give requests more time, when answers come late",
        ],
        next: "judge an answer beside its request: trustmesh verify ANSWER --request FILE",
        reasons: &[
            (
                1,
                "who answers needs authority over the request's subject, which the answer does \
                 not name",
            ),
            (2, "it names another request by its object id"),
            (
                3,
                "a message that is no answer arrived in the inbox of an asker",
            ),
            (
                4,
                "an answer was published on a subject where requests are served",
            ),
            (5, "the request named one key, and another one answered"),
        ],
    },
    Advice {
        class: Class::ChainBroken,
        means: "The links do not form one chain from an issuer down to the sender.",
        causes: &[
            "links of different chains were put together",
            "a grant for another agent is used",
        ],
        remedies: &["trustmesh inspect OBJECT     shows issuer, links and parents, hop by hop"],
        next: "trustmesh inspect OBJECT shows the links",
        reasons: &[
            (1, "the message came without any chain"),
            (
                2,
                "a link was delegated from another link than the one above it",
            ),
            (
                3,
                "the sender signed under another chain than the one beside the message",
            ),
            (
                4,
                "a holder appears twice: authority does not run in circles",
            ),
            (5, "the chain is for another key than the one that uses it"),
        ],
    },
    Advice {
        class: Class::ScopeExceeded,
        means: "A link of the chain does not allow what is done: every link has to.",
        causes: &[
            "the agent does more than it was granted",
            "a link above was narrower than the one below it",
            "action or subject is not the one that was meant",
        ],
        remedies: &[
            "trustmesh can-i ACTION SUBJECT     says which link and rule decide",
            "trustmesh inspect OBJECT           shows the scope of every link",
            "trustmesh token issue              grants more, when that is meant",
        ],
        next: "trustmesh can-i ACTION SUBJECT says which link decides",
        reasons: &[
            (
                1,
                "compare action and subject with the capabilities of the link named",
            ),
            (
                2,
                "who delegated handed on more than they had, or had no right to delegate it",
            ),
            (3, "a link lives longer than the one above it"),
            (
                4,
                "the subscription joins a queue group that the grant does not name",
            ),
            (
                5,
                "the grant allows to send to certain keys only, and the message names another \
                 or none",
            ),
            (6, "a grant with an empty pattern was issued by mistake"),
            (
                7,
                "issue a shorter grant, or raise the ceiling in the policy's ttl",
            ),
        ],
    },
    Advice {
        class: Class::DepthExceeded,
        means: "Authority was delegated, or work forwarded, more often than allowed.",
        causes: &[
            "a delegate delegates further than it may",
            "agents pass work around in a circle",
        ],
        remedies: &[
            "trustmesh inspect OBJECT          shows what each link leaves",
            "trustmesh token issue --depth N   grants with more delegations",
        ],
        next: "trustmesh inspect OBJECT shows the depth each link leaves",
        reasons: &[
            (1, "a chain has nine links at the most"),
            (
                2,
                "the link above allows no more delegations: it was issued with too little depth",
            ),
            (
                3,
                "the same work was forwarded sixteen times; look for a loop between agents",
            ),
            (4, "a rule allows fewer delegations here than the chain has"),
        ],
    },
    Advice {
        class: Class::UntrustedRoot,
        means: "Nothing at the top of the chain, or of a trust file, is trusted here.",
        causes: &[
            "the message comes from another mesh",
            "the trust root was replaced",
            "a development mesh is used where only a real one is accepted",
        ],
        remedies: &[
            "trustmesh inspect trust/root.tm     shows name, id and keys of the trust root",
            "trustmesh inspect OBJECT            shows mesh and issuer of the chain",
            "trustmesh token issue ID            issues a new grant, when the issuer's key was replaced",
        ],
        next: "compare meshes: trustmesh inspect OBJECT, trustmesh inspect trust/root.tm",
        reasons: &[
            (
                1,
                "compare the mesh ids: two meshes do not accept each other's messages",
            ),
            (
                2,
                "the root grant was signed by a key that is no issuer (any more)",
            ),
            (3, "add --dev, if this is a development machine"),
            (
                4,
                "the file was not signed by enough keys of the role that must sign it",
            ),
            (
                5,
                "this is another trust root than the pinned one; do not unpin it before you \
                 know why",
            ),
            (
                6,
                "the trust root was replaced: fetch the roots that follow the one that is held",
            ),
        ],
    },
    Advice {
        class: Class::Revoked,
        means: "Authority was taken back; nothing cached outlives that.",
        causes: &["an operator revoked a link, a key or an agent"],
        remedies: &[
            "trustmesh agent show ID      shows the agent's standing",
            "trustmesh token issue        issues a new grant, when the agent is still trusted",
        ],
        next: "ask who revoked it; then trustmesh token issue",
        reasons: &[
            (
                1,
                "everything delegated below that link is revoked with it; issue a new grant",
            ),
            (
                2,
                "a revoked key stays revoked: the agent needs a new one (trustmesh key new)",
            ),
            (3, "the agent is revoked, whatever key it has"),
            (
                4,
                "the key was rotated away and its grace is over: use the agent's new key",
            ),
        ],
    },
    Advice {
        class: Class::Blocked,
        means: "A list of the policy stops the agent, whatever it was granted.",
        causes: &["the policy blocks it, or allows others only"],
        remedies: &[
            "trustmesh inspect trust/policy.tm     shows the lists",
            "change the lists of the policy and publish it",
        ],
        next: "trustmesh inspect trust/policy.tm shows the lists",
        reasons: &[
            (
                1,
                "remove the key from `blocked.keys`, if it was put there by mistake",
            ),
            (
                2,
                "remove the agent from `blocked.agents`, if it was put there by mistake",
            ),
            (3, "there is an `allowed` list, and the agent is not on it"),
            (
                4,
                "its own messages were mostly invalid: mend it, and wait until it is released",
            ),
        ],
    },
    Advice {
        class: Class::PolicyDenied,
        means: "The policy of the mesh says no, although the chain would allow it.",
        causes: &[
            "no rule covers it",
            "a rule denies it, and deny wins",
            "a limit of a matching rule is exceeded",
        ],
        remedies: &[
            "trustmesh can-i ACTION SUBJECT     says which rule decides",
            "trustmesh policy explain ACTION SUBJECT     shows the rules and their limits",
        ],
        next: "trustmesh can-i ACTION SUBJECT says which rule decides",
        reasons: &[
            (
                1,
                "add an allow rule for the action on the subject; without one all is denied",
            ),
            (
                2,
                "deny wins: narrow the deny rule, if it covers more than was meant",
            ),
            (3, "the message waited longer than the rule's `max_age_ms`"),
            (
                4,
                "the sender, or its whole chain, exceeds the rule's `rate`: slow down",
            ),
            (
                5,
                "sender and receiver need a handshake first; the client makes it on its own",
            ),
            (6, "the rule's `modes` leave out how the envelope is signed"),
            (
                7,
                "shorten the message's lifetime, or raise `ttl.envelope_ms`",
            ),
            (
                8,
                "present the chain to the registrar again: an approval ends with its hour, its \
                 chain and its policy",
            ),
        ],
    },
    Advice {
        class: Class::TrustTooLow,
        means: "Somebody in the chain has a lower trust score than a rule asks for; none is the \
                lowest.",
        causes: &[
            "the score of a holder was lowered",
            "a holder never got a score",
        ],
        remedies: &[
            "trustmesh agent show ID       shows the score",
            "lower the rule's `min_score`, if that is meant",
        ],
        next: "trustmesh agent show ID shows the score",
        reasons: &[(
            1,
            "a chain is worth its least trusted hand: look at every holder",
        )],
    },
    Advice {
        class: Class::HandshakeFailed,
        means: "Two peers did not succeed in proving their keys to each other.",
        causes: &[
            "a message was lost, delayed or exchanged",
            "one side restarted meanwhile",
        ],
        remedies: &[
            "try again: a handshake leaves nothing behind",
            "trustmesh check              compares the clock",
        ],
        next: "try again; then trustmesh check",
        reasons: &[
            (
                1,
                "messages of two handshakes were mixed, or one was changed",
            ),
            (
                2,
                "the peer restarted, or the answer took longer than ten seconds",
            ),
            (
                3,
                "a random number generator fails, or a message was made up",
            ),
            (
                4,
                "the two sides share no envelope mode: compare their versions",
            ),
            (
                5,
                "it was meant for another agent, or for an earlier key of it",
            ),
            (6, "the peer's audit says why it refused"),
        ],
    },
    Advice {
        class: Class::StaleState,
        means: "What is known here about the mesh is too old to decide by.",
        causes: &[
            "trust files were not renewed",
            "an older file was put in place of a newer one",
            "the clock jumped",
        ],
        remedies: &[
            "trustmesh check              shows how long each file still holds",
            "copy the newer trust files from the authority",
        ],
        next: "trustmesh check shows which file is out of date",
        reasons: &[
            (1, "the authority has to sign the registry anew"),
            (2, "the authority has to sign the policy anew"),
            (
                3,
                "the authority has to sign the revocation list anew, even when nothing was revoked",
            ),
            (
                4,
                "the trust root has ended: trustmesh root succeed, where the role keys of a served mesh are",
            ),
            (
                5,
                "a file with a lower epoch was offered: a backup, or an attack",
            ),
            (
                6,
                "decisions resume when the clock agrees with itself again",
            ),
            (7, "the authority has to sign the scores anew"),
            (
                8,
                "no timestamp came for too long: is the verifier service up, and can it be heard?",
            ),
            (
                9,
                "two states claim one epoch: the timestamp key signs for two, or was stolen",
            ),
            (
                10,
                "a part is missing or another one than named: the store lags behind, or lies",
            ),
        ],
    },
    Advice {
        class: Class::Overloaded,
        means: "A bounded memory is full, and what it holds is not given up for more.",
        causes: &[
            "far more traffic than expected",
            "somebody floods the receiver",
        ],
        remedies: &[
            "trustmesh audit tail         shows who sends so much",
            "limit the sender by a `rate` in the policy",
        ],
        next: "trustmesh audit tail shows who sends so much",
        reasons: &[
            (
                1,
                "this sender alone fills its share; others are not affected",
            ),
            (
                2,
                "all senders together fill the memory: receive with more processes",
            ),
            (3, "too many chains are under a rate at once"),
            (4, "more handshakes than a tenth of a core can answer"),
            (5, "more peers with sessions than one process keeps"),
            (
                6,
                "the disk is full or read-only: the receiver cannot note how far it came",
            ),
            (
                7,
                "the store on the bus is away, full, or not to be written by this agent",
            ),
        ],
    },
    Advice {
        class: Class::AuditUnavailable,
        means: "The decision cannot be recorded, and nothing happens that is not recorded.",
        causes: &["the audit's queue is full because nothing carries its records away"],
        remedies: &["trustmesh check              shows whether the server is reachable"],
        next: "trustmesh check shows whether the server is reachable",
        reasons: &[(
            1,
            "records wait to be published: look at the connection of the agent",
        )],
    },
    Advice {
        class: Class::Internal,
        means: "A fault on our side; the message was refused to be safe.",
        causes: &[
            "a handler of the application panicked",
            "the verifier itself panicked",
            "the system has no random numbers",
        ],
        remedies: &[
            "TRUSTMESH_LOG=debug          shows more; look for the panic in the agent's output",
        ],
        next: "look at the agent's own output",
        reasons: &[
            (
                1,
                "the handler's panic was caught; its message stands in the agent's output",
            ),
            (
                2,
                "the operating system's generator failed; nothing is signed without it",
            ),
            (
                3,
                "a fault in trustmesh or in a clock it was given: look for the panic in the output",
            ),
        ],
    },
];
