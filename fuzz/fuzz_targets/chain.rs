//! Chains: what is accepted is canonical, at most nine links, and narrows from link to link, by a
//! reading of scopes that shares nothing with the crate's.
//!
//! The first byte of an input says what the rest is: 0, a chain as it stands; 1, an honest chain with
//! changes made to it; any other, links to be, which a naive reading judges as well.

#![no_main]

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::OnceLock;

use arbitrary::Arbitrary;
use arbitrary::Unstructured;
use bytes::Bytes;
use libfuzzer_sys::fuzz_target;

use trustmesh::proto::chain::Chain;
use trustmesh::proto::delegation::Parent;
use trustmesh::proto::names::Tag;
use trustmesh::proto::scope::Scope;
use trustmesh::proto::signing::Budget;
use trustmesh::proto::trust::TrustState;
use trustmesh_fuzz::change::Change;
use trustmesh_fuzz::change::changed;
use trustmesh_fuzz::change::pick;
use trustmesh_fuzz::forge::ChainSpec;
use trustmesh_fuzz::forge::Mesh;
use trustmesh_fuzz::forge::NOW;
use trustmesh_fuzz::forge::Party;
use trustmesh_fuzz::forge::Value;
use trustmesh_fuzz::forge::named;
use trustmesh_fuzz::forge::value::bin;
use trustmesh_fuzz::forge::value::list;
use trustmesh_fuzz::pack;
use trustmesh_fuzz::plan;
use trustmesh_fuzz::plan::CapabilityPlan;
use trustmesh_fuzz::plan::Drawn;
use trustmesh_fuzz::reference;

const HOLDERS: [&str; 10] = [
    "alice", "bob", "carol", "dave", "erin", "frank", "grace", "heidi", "ivan", "judy",
];
const LIFETIME_MAX: u64 = 2_592_000_000;

/// A link to be: mostly one that may stand where it does.
#[derive(Arbitrary, Debug)]
struct LinkPlan {
    /// What differs, from 192: bit 0 the holder, bit 1 how many may follow, bits 2 and 3 the window.
    differs: u8,
    holder: u8,
    remaining: u8,
    from: u8,
    until: u8,
    capabilities: Vec<CapabilityPlan>,
}

struct World {
    mesh: Mesh,
    trust: Arc<TrustState>,
    parties: Vec<Party>,
    /// One of each length.
    chains: Vec<Bytes>,
    /// All that somebody signed: each of them, and what it begins with.
    signed: HashSet<Bytes>,
}

fuzz_target!(|data: &[u8]| {
    static WORLD: OnceLock<World> = OnceLock::new();
    let world = WORLD.get_or_init(|| named("fuzz chain", World::new));
    match data.split_first() {
        Some((0, chain)) => world.check(&Bytes::copy_from_slice(chain)),
        Some((1, rest)) => {
            let mut input = Unstructured::new(rest);
            let plan = <(u8, Vec<Change>)>::arbitrary(&mut input);
            if let Ok((which, mut changes)) = plan {
                changes.truncate(4);
                let chain = pick(&world.chains, which);
                world.check(&changed(chain, &changes, &world.chains, 0));
            }
        }
        Some((_, rest)) => {
            let mut input = Unstructured::new(rest);
            let plan = <Vec<LinkPlan>>::arbitrary(&mut input);
            if let Ok(mut plan) = plan {
                plan.truncate(10);
                world.check_plan(&plan);
            }
        }
        None => {}
    }
});

impl World {
    fn new() -> Self {
        let mesh = trustmesh_fuzz::mesh();
        let chain = |len: usize| ChainSpec::down(&mesh, &HOLDERS[..len]).tree();
        let trees: Vec<Value> = (1..=9).map(chain).collect();
        let beginnings = |tree: &Value| {
            let links = pack::items(tree).expect("links");
            let cut = |len| list(links[..len].to_vec()).encode().into();
            (1..=links.len()).map(cut).collect::<Vec<Bytes>>()
        };
        Self {
            trust: mesh.trust(),
            parties: HOLDERS.into_iter().map(Party::named).collect(),
            chains: trees.iter().map(|tree| tree.encode().into()).collect(),
            signed: trees.iter().flat_map(beginnings).collect(),
            mesh,
        }
    }

    /// What holds of every chain that can be read, and of every one that verifies.
    fn check(&self, bytes: &Bytes) {
        let readable = Chain::readable_links(bytes);
        let Ok(chain) = Chain::parse(bytes.clone()) else {
            return;
        };
        assert_eq!(readable.len(), chain.links().len());
        check_shape(&chain, bytes);
        let mut budget = Budget::message();
        let verified = chain.clone().verify(&*self.trust, &mut budget);
        assert!(budget.spent() <= 9, "a signature a link");
        if let Ok(verified) = verified {
            assert!(self.signed.contains(bytes), "verified what nobody signed");
            assert_eq!(verified.bytes(), bytes);
            assert_eq!(verified.depth() as usize + 1, chain.links().len());
        }
    }

    /// Whether a chain of these links is accepted has to be what a naive reading says.
    fn check_plan(&self, plan: &[LinkPlan]) {
        if plan.is_empty() {
            return;
        }
        let mut spec = ChainSpec::down(&self.mesh, &vec!["alice"; plan.len()]);
        let mut sound = plan.len() <= 9;
        let mut above: Option<(u64, u64, u64, Scope)> = None;
        let mut drawn: Vec<Drawn> = Vec::new();
        let mut holders = vec![self.mesh.issuer().bytes()];
        for (index, (link, plan)) in spec.links.iter_mut().zip(plan).enumerate() {
            let differs = |bit: u8| plan.differs >= 192 && plan.differs >> bit & 1 == 1;
            let holder = match plan.holder {
                _ if !differs(0) => pick(&self.parties, index).bytes(),
                255 => self.mesh.issuer().bytes(),
                other => pick(&self.parties, other).bytes(),
            };
            let remaining = match differs(1) {
                true => u64::from(plan.remaining % 12),
                false => 8_u64.saturating_sub(index as u64),
            };
            let from = NOW + if differs(2) { plan.from.into() } else { 0 };
            let until = NOW
                + match plan.until {
                    _ if !differs(3) => 200,
                    255 => LIFETIME_MAX + 1,
                    254 => LIFETIME_MAX,
                    until => until.into(),
                };
            let plans = plan.capabilities.iter().take(20);
            drawn = plans.map(|plan| plan.draw(&drawn)).collect();
            sound &= !holders.contains(&holder) && remaining <= 8;
            sound &= from < until && until - from <= LIFETIME_MAX;
            // What is no scope at all is refused whatever stands above.
            let scope = plan::scope(&drawn).unwrap_or_else(|| {
                sound = false;
                Scope::default()
            });
            if let Some((left, begin, end, parent)) = &above {
                sound &= remaining < *left && *begin <= from && until <= *end;
                sound &= reference::may_delegate(parent, &scope);
            }
            holders.push(holder);
            link.holder = bin(holder.0);
            link.remaining = Value::Uint(remaining);
            (link.from, link.until) = (Value::Uint(from), Value::Uint(until));
            link.scope = plan::tree(&drawn);
            link.signature = Some(bin([0; 64]));
            above = Some((remaining, from, until, scope));
        }
        let bytes = Bytes::from(spec.encode());
        let too_large = spec.bodies().iter().any(|body| body.len() > 768) || bytes.len() > 8192;
        let parsed = Chain::parse(bytes.clone());
        let refused = parsed.as_ref().err();
        assert_eq!(refused.is_none(), sound && !too_large, "{refused:?}");
        if let Ok(chain) = parsed {
            check_shape(&chain, &bytes);
            let refused = chain.verify(&*self.trust, &mut Budget::message());
            assert!(refused.is_err(), "signatures of zeros");
        }
    }
}

/// What a chain that was read is.
fn check_shape(chain: &Chain, bytes: &Bytes) {
    assert_eq!(chain.bytes(), bytes);
    assert_eq!(chain.digest(), Tag::Chain.digest(bytes));
    let tree = pack::read(bytes).expect("MessagePack");
    assert_eq!(tree.encode(), &bytes[..]);
    let links = chain.links();
    assert!((1..=9).contains(&links.len()));
    let mut holders = vec![chain.issuer()];
    for (index, link) in links.iter().enumerate() {
        let body = pack::bytes_at(&tree, &[index, 0]).expect("a body");
        assert!(pack::is_canonical(&body) && body.len() <= 768);
        let tag = if index == 0 {
            Tag::RootGrant
        } else {
            Tag::Delegation
        };
        assert_eq!(link.id(), tag.digest(&body));
        assert!(!holders.contains(&link.holder()));
        holders.push(link.holder());
        assert!(link.scope().capabilities().len() <= 16);
        let Some(parent) = index.checked_sub(1).map(|above| &links[above]) else {
            assert!(matches!(link.parent(), Parent::Issuer { .. }));
            continue;
        };
        assert_eq!(link.parent(), Parent::Link(parent.id()));
        assert!(link.remaining() < parent.remaining());
        assert!(parent.validity().from() <= link.validity().from());
        assert!(link.validity().until() <= parent.validity().until());
        assert!(parent.scope().may_delegate(link.scope()));
    }
}
