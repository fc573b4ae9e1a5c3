//! Five attacks on the store, by someone who sees the bus and may write whatever it wants to it.
//!
//! The adversary listens to real traffic and holds two real identities of the mesh, a contractor
//! with a narrow grant and an accomplice without one. What the library refuses to sign for them is
//! made by hand, in `raw`. Each attack must be refused by the store before a handler runs.

use bytes::Bytes;
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
use trustmesh::proto::identity::KeyBytes;
use trustmesh::proto::rejection::Class;
use trustmesh::proto::scope::Scope;

use crate::Fault;
use crate::cast::ACCOMPLICE;
use crate::cast::CONTRACTOR;
use crate::cast::Cast;
use crate::ledger::Ledger;
use crate::midrun;
use crate::raw::Delegation;
use crate::raw::Frame;
use crate::raw::extend_chain;
use crate::stage;
use crate::stage::say;
use crate::store::Store;

/// All that the contractor was granted.
const GRANTED: &str = "req+delegate:store.read.price-list";

/// What the accomplice was granted where it takes a grant to join.
const OWN: &str = "req:store.read.price-list";

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
    /// Enrols the two identities and begins to listen to what the store is asked. Where agents have
    /// scores, the contractor behaves at first.
    pub async fn arrive(cast: &mut Cast, ledger: &Ledger) -> Result<Self, Fault> {
        let (contractor, grant) = enrol(cast, CONTRACTOR, &[GRANTED]).await?;
        let grant = grant.ok_or("the contractor was granted nothing")?;
        // Who joins a served mesh to do something has a grant; elsewhere a key is enough.
        let own: &[&str] = if cast.plane().is_some() { &[OWN] } else { &[] };
        let (accomplice, _) = enrol(cast, ACCOMPLICE, own).await?;
        if cast.plane().is_some() {
            midrun::introduce(cast, ledger, CONTRACTOR).await?;
        }
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

/// What the attacks came to.
pub struct Outcome {
    /// The classes of the refusals, which the audit must show as well.
    pub refused: Vec<&'static str>,
    /// The message under the delegation that says more than the contractor was granted.
    pub evidence: Bytes,
}

/// Carries out all five.
pub async fn strike(
    mut adversary: Adversary,
    ledger: &Ledger,
    store: &Store,
) -> Result<Outcome, Fault> {
    let genuine = adversary.overheard.next().await.ok_or("the bus is gone")?;
    say(
        "adversary",
        &format!("overheard a request on {}", genuine.subject),
    );
    let (mut classes, mut evidence) = (Vec::new(), Bytes::new());
    for attack in adversary.plan(&genuine)? {
        let frame = Frame::parse(&attack.bytes)?;
        let header = frame.header()?;
        let mid = data_encoding::HEXLOWER.encode(&header.mid);
        let (name, class) = (attack.name, attack.expected.name());
        if attack.expected == Class::ScopeExceeded {
            evidence = attack.bytes.clone().into();
        }
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
    Ok(Outcome {
        refused: classes,
        evidence,
    })
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
async fn enrol(
    cast: &mut Cast,
    id: &'static str,
    granted: &[&str],
) -> Result<(SigningKey, Option<Chain>), Fault> {
    let stolen = random_key()?;
    let key = identity::SigningKey::from_seed(stolen.as_bytes())?;
    Ok((stolen, cast.recruit(id, key, granted).await?))
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
