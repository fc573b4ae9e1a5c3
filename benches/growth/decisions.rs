//! Decisions of one receiver on messages of senders it has met.

use std::time::Duration;
use std::time::Instant;

use bytes::Bytes;

use trustmesh::proto::chain::Chain;
use trustmesh::proto::chain::Credential;
use trustmesh::proto::signing::Budget;

use super::Error;
use super::forge::Mesh;
use super::forge::Party;
use super::receiver::Receiver;
use super::receiver::batch;
use super::receiver::credential;
use super::receiver::signed;
use super::table::Case;
use super::table::Table;

const CHAINS: [usize; 5] = [0, 1, 2, 4, 8];
/// Sixteen is the most a link may have (protocol §6.3).
const SCOPES: [usize; 3] = [1, 4, 16];
const SENDERS: [usize; 4] = [1, 10, 100, 1_000];

/// How messages are signed, and how many of them a round decides.
#[derive(Clone, Copy)]
pub struct Mode {
    pub name: &'static str,
    /// Messages under one signature.
    together: usize,
    round: usize,
}

/// Messages without a signature to verify, and messages whose signature drowns everything else.
pub const MODES: [Mode; 2] = [
    Mode {
        name: "in a batch met before",
        together: 64,
        round: 250,
    },
    Mode {
        name: "signed by itself",
        together: 1,
        round: 20,
    },
];

pub fn by_chain(table: &mut Table) -> Result<(), Error> {
    for mode in MODES {
        let title = format!("delegations, {}", mode.name);
        let cases = CHAINS.map(|delegations| {
            let senders = vec![credential(delegations)];
            Company::new(Receiver::new(), senders, mode).case(delegations)
        });
        table.measure(&title, cases.into())?;
    }
    Ok(())
}

pub fn by_scope(table: &mut Table) -> Result<(), Error> {
    for mode in MODES {
        let title = format!("capabilities, {}", mode.name);
        let cases = SCOPES.map(|size| {
            // Capabilities are in order; the last is the one that permits.
            let others = (1..size).map(|number| format!("pub:aside-{number}.>"));
            let scope: Vec<String> = others.chain(["pub:orders.>".to_owned()]).collect();
            let scope: Vec<&str> = scope.iter().map(String::as_str).collect();
            let senders = vec![Mesh::new().grant(&Party::named("alice"), 0, &scope)];
            Company::new(Receiver::new(), senders, mode).case(size)
        });
        table.measure(&title, cases.into())?;
    }
    Ok(())
}

pub fn by_senders(table: &mut Table) -> Result<(), Error> {
    let most = SENDERS[SENDERS.len() - 1];
    let names: Vec<String> = (0..most).map(|number| format!("agent-{number}")).collect();
    let mut members: Vec<&str> = names.iter().map(String::as_str).collect();
    members.push("bob");
    let mesh = Mesh::with(&members);
    let trust = mesh.trust();
    let grant = |name: &String| {
        let holder = Party::named(name);
        let draft = Mesh::draft(&holder, 0, &["pub:orders.>"]);
        let chain = Chain::root_grant(mesh.id(), &draft, &mesh.issuer().key)?;
        let chain = chain.verify(&*trust, &mut Budget::message())?;
        Ok(chain.hold(holder.key)?)
    };
    let credentials: Result<Vec<Credential>, Error> = names.iter().map(grant).collect();
    let credentials = credentials?;
    for mode in MODES {
        let title = format!("senders, {}", mode.name);
        let cases = SENDERS.map(|count| {
            let senders = credentials[..count].to_vec();
            Company::new(Receiver::of(&mesh), senders, mode).case(count)
        });
        table.measure(&title, cases.into())?;
    }
    Ok(())
}

/// A receiver and the senders that take turns at writing to it.
pub struct Company {
    receiver: Receiver,
    senders: Vec<Sender>,
    turn: usize,
    mode: Mode,
}

struct Sender {
    credential: Credential,
    stock: Vec<Bytes>,
}

impl Company {
    /// The receiver has met every sender.
    pub fn new(mut receiver: Receiver, credentials: Vec<Credential>, mode: Mode) -> Self {
        for credential in &credentials {
            assert!(receiver.verify(None, &signed(credential)));
        }
        let sender = |credential| Sender {
            credential,
            stock: Vec::new(),
        };
        Self {
            receiver,
            senders: credentials.into_iter().map(sender).collect(),
            turn: 0,
            mode,
        }
    }

    pub fn case<'a>(mut self, size: usize) -> Case<'a> {
        Case {
            size,
            round: Box::new(move || Ok(self.round())),
        }
    }

    /// What a message costs. Signing, and the first of each batch, are not measured.
    fn round(&mut self) -> Duration {
        let frames: Vec<Bytes> = (0..self.mode.round).map(|_| self.next()).collect();
        let started = Instant::now();
        decide(&mut self.receiver, &frames);
        started.elapsed() / frames.len() as u32
    }

    /// The next message of the sender whose turn it is.
    fn next(&mut self) -> Bytes {
        let turn = self.turn % self.senders.len();
        self.turn += 1;
        let Sender { credential, stock } = &mut self.senders[turn];
        if self.mode.together == 1 {
            return signed(credential);
        }
        loop {
            if let Some(frame) = stock.pop() {
                return frame;
            }
            *stock = batch(credential, self.mode.together);
            if let Some(first) = stock.pop() {
                assert!(self.receiver.verify(None, &first));
            }
        }
    }
}

/// What is measured, and nothing else: a name for profilers.
#[inline(never)]
fn decide(receiver: &mut Receiver, frames: &[Bytes]) {
    for frame in frames {
        assert!(receiver.verify(None, frame));
    }
}
