//! Five attacks on the store, by someone who sees the bus and may write whatever it wants to it.
//!
//! The adversary listens to real traffic and holds two real identities of the mesh, a contractor
//! with a narrow grant and an accomplice without one. What the library refuses to sign for them is
//! made by hand, in `raw`. Each attack must be refused by the store before a handler runs.

use ed25519_dalek::SigningKey;
use futures_util::StreamExt as _;
use serde_bytes::ByteBuf;
use trustmesh::Client;
use trustmesh::bus::Bus;
use trustmesh::bus::BusSubscriber;
use trustmesh::bus::Delivery;
use trustmesh::bus::Outgoing;
use trustmesh::client::Counters;
use trustmesh::proto::chain::Chain;
use trustmesh::proto::envelope::inbox_prefix;
use trustmesh::proto::identity;
use trustmesh::proto::identity::AgentId;
use trustmesh::proto::identity::KeyBytes;
use trustmesh::proto::rejection::Class;
use trustmesh::proto::scope::Scope;

use crate::Fault;
use crate::cast::Cast;
use crate::ledger::Ledger;
use crate::raw::Delegation;
use crate::raw::Frame;
use crate::raw::extend_chain;
use crate::stage;
use crate::stage::say;
use crate::store::Store;

/// All that the contractor was granted.
const GRANTED: &str = "req+delegate:store.read.price-list";

/// Where a redirected answer would go.
const LAIR: &str = "adversary.lair";

/// A listener on the raw bus, with two stolen identities.
pub struct Adversary {
    bus: Box<dyn Bus>,
    overheard: BusSubscriber,
    lair: BusSubscriber,
    contractor: SigningKey,
    grant: Chain,
    accomplice: SigningKey,
}

/// One attack: what is put on the bus, and what the store has to say to it.
struct Attack {
    name: &'static str,
    bytes: Vec<u8>,
    reply: Option<String>,
    expected: Class,
    /// How often a handler may ever have run for the message id used: 1 for a genuine message.
    runs: usize,
}

/// What the contractor's delegation to the accomplice says.
struct Link {
    scope: &'static str,
    until: u64,
}

impl Adversary {
    /// Enrols the two identities and begins to listen to what the store is asked.
    pub async fn arrive(cast: &mut Cast) -> Result<Self, Fault> {
        let (contractor, accomplice) = (enrol(cast, "contractor")?, enrol(cast, "accomplice")?);
        let ttl = std::time::Duration::from_secs(3600);
        let grant = cast
            .mesh
            .grant(&key_of(&contractor), Scope::parse([GRANTED])?, 1, ttl)?;
        cast.mesh.publish()?;
        let bus = cast.raw_bus().await?;
        let overheard = bus.subscribe("store.read.*".into(), None).await?;
        let mut lair = bus.subscribe(LAIR.into(), None).await?;
        // A message to itself proves that the subscriptions before it are in force.
        bus.publish(Outgoing::new(LAIR, "ready")).await?;
        lair.next().await.ok_or("the bus is gone")?;
        say(
            "adversary",
            "listens, and holds the keys of contractor and accomplice",
        );
        Ok(Self {
            bus,
            overheard,
            lair,
            contractor,
            grant,
            accomplice,
        })
    }

    fn plan(&self, genuine: &Delivery) -> Result<[Attack; 5], Fault> {
        let reply = genuine.reply.as_ref().map(ToString::to_string);
        let replayed = genuine.payload.to_vec();
        let widened = Link {
            scope: "req:store.read.*",
            until: self.grant.leaf().validity().until().as_millis(),
        };
        let expired = Link {
            scope: "req:store.read.price-list",
            until: Frame::parse(&replayed)?.header()?.issued - 20_000,
        };
        Ok([
            Attack {
                name: "impersonation",
                bytes: impersonate(&genuine.payload)?,
                reply: reply.clone(),
                expected: Class::BadSignature,
                runs: 0,
            },
            Attack {
                name: "widened scope",
                bytes: self.under(&widened, genuine, &genuine.subject)?,
                reply: Some(self.inbox()),
                expected: Class::ScopeExceeded,
                runs: 0,
            },
            Attack {
                name: "replay",
                bytes: replayed.clone(),
                reply,
                expected: Class::Replay,
                runs: 1,
            },
            Attack {
                name: "expired delegation",
                bytes: self.under(&expired, genuine, "store.read.price-list")?,
                reply: Some(self.inbox()),
                expected: Class::Expired,
                runs: 0,
            },
            Attack {
                name: "redirected reply",
                bytes: replayed,
                reply: Some(LAIR.to_owned()),
                expected: Class::SubjectMismatch,
                runs: 1,
            },
        ])
    }

    /// A request by the accomplice under a delegation by the contractor, each with its own true
    /// signature.
    fn under(&self, link: &Link, genuine: &Delivery, subject: &str) -> Result<Vec<u8>, Fault> {
        let parent = self.grant.leaf();
        let delegation = Delegation {
            version: 1,
            parent: ByteBuf::from(parent.id().0),
            holder: ByteBuf::from(self.accomplice.verifying_key().to_bytes()),
            from: parent.validity().from().as_millis(),
            until: link.until,
            remaining: 0,
            scope: Scope::parse([link.scope])?,
            nonce: random_id()?,
            extensions: Vec::new(),
        };
        let (chain, leaf) = extend_chain(self.grant.bytes(), &delegation, &self.contractor)?;
        let frame = Frame::parse(&genuine.payload)?;
        let mut header = frame.header()?;
        header.mid = random_id()?;
        header.subject = subject.to_owned();
        header.reply = Some(self.inbox());
        header.leaf = leaf;
        let frame = frame.with_chain(chain);
        frame.with_header(&header, &self.accomplice)?.to_bytes()
    }

    fn inbox(&self) -> String {
        format!("{}.loot", inbox_prefix(&key_of(&self.accomplice)))
    }
}

/// Carries out all five. Returns the classes of the refusals, which the audit must show as well.
pub async fn strike(
    mut adversary: Adversary,
    ledger: &Ledger,
    store: &Store,
) -> Result<Vec<&'static str>, Fault> {
    let genuine = adversary.overheard.next().await.ok_or("the bus is gone")?;
    say(
        "adversary",
        &format!("overheard a request on {}", genuine.subject),
    );
    let mut classes = Vec::new();
    for attack in adversary.plan(&genuine)? {
        let frame = Frame::parse(&attack.bytes)?;
        let header = frame.header()?;
        let mid = data_encoding::HEXLOWER.encode(&header.mid);
        let (name, class) = (attack.name, attack.expected.name());
        let before = settled(store.client()).await;

        let mut message = Outgoing::new(header.subject, attack.bytes);
        message.reply = attack.reply.map(Into::into);
        adversary.bus.publish(message).await?;

        let decision = ledger.refused("store", &mid, class).await?;
        let after = settled(store.client()).await;
        let untouched = before.handler_runs == after.handler_runs
            && before.allowed == after.allowed
            && after.denied_of(attack.expected) == before.denied_of(attack.expected) + 1
            && store.runs_for(&mid) == attack.runs;
        if !untouched {
            return Err(format!("{name} changed something: {before:?} {after:?}").into());
        }
        let code = decision.code.unwrap_or_default();
        let reason = decision.reason.unwrap_or_default();
        stage::refused(name, &format!("{class} ({code}), {reason}"));
        classes.push(class);
    }
    // The next thing to arrive in the lair is its own message: no answer had gone there.
    adversary
        .bus
        .publish(Outgoing::new(LAIR, "anything?"))
        .await?;
    let next = adversary.lair.next().await.ok_or("the bus is gone")?;
    if next.payload != "anything?" {
        return Err("an answer was redirected".into());
    }
    Ok(classes)
}

/// The counters of an agent that has counted the outcome of everything it received.
async fn settled(client: &Client) -> Counters {
    loop {
        let counters = client.counters();
        if counters.received == counters.allowed + counters.denied_total() {
            return counters;
        }
        tokio::task::yield_now().await;
    }
}

/// A message that says it is from whoever sent the genuine one, signed by nobody of the mesh.
fn impersonate(genuine: &[u8]) -> Result<Vec<u8>, Fault> {
    let frame = Frame::parse(genuine)?;
    let mut header = frame.header()?;
    header.mid = random_id()?;
    frame.with_header(&header, &random_key()?)?.to_bytes()
}

/// Enrols an agent whose secret key the adversary knows.
fn enrol(cast: &mut Cast, id: &str) -> Result<SigningKey, Fault> {
    let stolen = random_key()?;
    let key = identity::SigningKey::from_seed(stolen.as_bytes())?;
    cast.mesh.enrol(&AgentId::parse(id)?, &key)?;
    Ok(stolen)
}

fn key_of(key: &SigningKey) -> KeyBytes {
    KeyBytes(key.verifying_key().to_bytes())
}

fn random_key() -> Result<SigningKey, Fault> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed)?;
    Ok(SigningKey::from_bytes(&seed))
}

fn random_id() -> Result<ByteBuf, Fault> {
    let mut id = [0; 16];
    getrandom::fill(&mut id)?;
    Ok(ByteBuf::from(id))
}
