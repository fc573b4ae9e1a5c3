//! Trust state: files that are read are canonical, and a reader of a served mesh goes forward only,
//! from one state that the authority published to the next, whatever it is told.
//!
//! An input that begins with a zero byte is a file, a bulletin or a certificate as it stands; any
//! other is what a reader hears.

#![no_main]

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::sync::OnceLock;

use arbitrary::Arbitrary;
use arbitrary::Unstructured;
use bytes::Bytes;
use libfuzzer_sys::fuzz_target;

use trustmesh::proto::approval::UnverifiedApproval;
use trustmesh::proto::certificate::UnverifiedCertificate;
use trustmesh::proto::policy::Policy;
use trustmesh::proto::revocation::RevocationSet;
use trustmesh::proto::root::FileKind;
use trustmesh::proto::root::Role;
use trustmesh::proto::root::RootDraft;
use trustmesh::proto::root::TrustRoot;
use trustmesh::proto::root::UnchainedRoot;
use trustmesh::proto::signing::ObjectId;
use trustmesh::proto::time::Timestamp;
use trustmesh::proto::trust::Admission;
use trustmesh::proto::trust::Bulletin;
use trustmesh::proto::trust::Edition;
use trustmesh::proto::trust::Extent;
use trustmesh::proto::trust::FileContent;
use trustmesh::proto::trust::FileDraft;
use trustmesh::proto::trust::Follower;
use trustmesh::proto::trust::PartEdition;
use trustmesh::proto::trust::PartKey;
use trustmesh::proto::trust::Progress;
use trustmesh::proto::trust::Snapshot;
use trustmesh::proto::trust::TrustTimeDraft;
use trustmesh::proto::trust::UnverifiedFile;
use trustmesh::proto::trust::digest_of;
use trustmesh_fuzz::change::Change;
use trustmesh_fuzz::change::changed;
use trustmesh_fuzz::change::pick;
use trustmesh_fuzz::forge::HOUR;
use trustmesh_fuzz::forge::Mesh;
use trustmesh_fuzz::forge::NOW;
use trustmesh_fuzz::forge::Party;
use trustmesh_fuzz::forge::mesh::OPEN_POLICY;
use trustmesh_fuzz::forge::mesh::window;
use trustmesh_fuzz::forge::named;
use trustmesh_fuzz::pack;

const MAGIC: usize = 4;

/// What reaches the reader next.
#[derive(Arbitrary, Debug)]
enum Step {
    /// A bulletin with changes made to it. Files that are not in it are in the store, where one may
    /// have another's place.
    Hear {
        bulletin: u8,
        bare: bool,
        changes: Vec<Change>,
        lie: Option<(u8, u8)>,
    },
    /// The timestamp of one bulletin with the snapshot of another and the parts of a third.
    Mix {
        timestamp: u8,
        snapshot: u8,
        parts: u8,
    },
    /// The second root, with changes made to it.
    Succeed { changes: Vec<Change> },
}

/// What the authority published, oldest first.
struct World {
    roots: [Bytes; 2],
    bulletins: Vec<Bulletin>,
    encoded: Vec<Bytes>,
    store: HashMap<ObjectId, Bytes>,
    digests: Vec<ObjectId>,
    /// How many of the bulletins are of the first root.
    first: usize,
}

fuzz_target!(|data: &[u8]| {
    match data.split_first() {
        None => {}
        Some((0, file)) => check_file(&Bytes::copy_from_slice(file)),
        Some((_, rest)) => {
            static WORLD: OnceLock<World> = OnceLock::new();
            let world = WORLD.get_or_init(|| named("fuzz trust", World::new));
            world.follow(rest);
        }
    }
});

/// What holds of any bytes that can be read as a file.
fn check_file(file: &Bytes) {
    let longer = Bytes::from([&file[..], &[0]].concat());
    if let Ok(bulletin) = Bulletin::parse(file) {
        assert_eq!(bulletin.to_bytes(), file);
        assert!(Bulletin::parse(&longer).is_err());
    }
    if let Ok(certificate) = UnverifiedCertificate::parse(file) {
        assert!(pack::is_canonical(file));
        let body = pack::read(file).and_then(|tree| pack::bytes_at(&tree, &[0]));
        assert_eq!(body, Some(certificate.claims().body()));
        assert_eq!(certificate.id(), certificate.claims().id());
    }
    if UnverifiedApproval::parse(file).is_ok() {
        assert!(pack::is_canonical(file));
    }
    let kind = FileKind::of(file).ok();
    let root = TrustRoot::parse(file).ok();
    assert!(root.is_none() || kind == Some(FileKind::Root));
    if let Ok(later) = UnchainedRoot::parse(file) {
        assert!(root.is_none() && kind == Some(FileKind::Root));
        assert!(later.version() > 1 && UnchainedRoot::parse(&longer).is_err());
    }
    for asked in FileKind::ALL {
        let Ok(parsed) = UnverifiedFile::parse(asked, file) else {
            continue;
        };
        assert!(kind == Some(asked) && asked != FileKind::Root);
        assert!(UnverifiedFile::parse(asked, &longer).is_err());
        assert!(pack::is_canonical(&file[MAGIC..]));
        let body = body_of(file);
        assert!(pack::is_canonical(&body));
        check_written_again(&parsed, asked, &body);
    }
}

/// What was read, written and read again, is written the same.
fn check_written_again(parsed: &UnverifiedFile, kind: FileKind, body: &[u8]) {
    let Some(written) = write(parsed) else { return };
    let read = UnverifiedFile::parse(kind, &written).expect("written by the crate");
    assert_eq!(write(&read).as_ref(), Some(&written));
    // A policy may have extensions that are skipped.
    if kind != FileKind::Policy {
        assert_eq!(body_of(&written), body);
    }
}

fn write(file: &UnverifiedFile) -> Option<Bytes> {
    let draft = match file.content() {
        FileContent::Policy(policy) => FileDraft::Policy(policy),
        FileContent::Revocations(set) => FileDraft::Revocations(set),
        FileContent::Scores(scores) => FileDraft::Scores(scores),
        FileContent::Books(books) => FileDraft::Books(books),
        _ => return None,
    };
    let extent = match file.shard() {
        Some((index, count)) => Extent::Shard { index, count },
        None => Extent::Whole,
    };
    Some(draft.sign_part(file.mesh(), file.edition(), extent, &[]))
}

fn body_of(file: &[u8]) -> Vec<u8> {
    let body = pack::read(&file[MAGIC..]).and_then(|tree| pack::bytes_at(&tree, &[2]));
    body.expect("a body")
}

impl World {
    fn new() -> Self {
        let mut mesh = Mesh::with(&["alice", "bob"]);
        (mesh.name, mesh.served) = ("fuzz".into(), true);
        let first = mesh.root();
        let root = TrustRoot::parse(&first).expect("a root");
        let key = mesh.role(Role::Root).key;
        let roles = Role::ALL.into_iter();
        let draft = RootDraft {
            name: "fuzz, later".into(),
            roles: roles
                .map(|role| (role, (1, vec![mesh.role(role).bytes()])))
                .collect(),
            validity: mesh.root_window,
            dev: false,
        };
        let second = draft
            .sign_after(&root, &[(0, &key)], &[(0, &key)])
            .expect("a root");
        let next = root.succeed(&second).expect("the next root");

        let mut press = Press::new(&mesh);
        // Drafts that were signed and that no snapshot names.
        press.policy(&Policy::default(), 1);
        press.registry(&["alice", "mallory"], 1);
        press.policy(&mesh.policy, 1);
        press.registry(&["alice", "bob"], 1);
        press.revocations(&RevocationSet::default(), 1);
        let mut bulletins = vec![press.bulletin(&root, 1, 1), press.bulletin(&root, 2, 1)];
        press.registry(&["alice", "bob", "carol"], 2);
        bulletins.push(press.bulletin(&root, 3, 2));
        let mut revoked = RevocationSet::default();
        revoked.revoke_agent(Party::named("alice").id());
        press.revocations(&revoked, 3);
        bulletins.push(press.bulletin(&root, 4, 3));
        let narrower = OPEN_POLICY.replace("\">\"", "\"orders.>\"");
        press.policy(&Policy::from_json(&narrower).expect("a policy"), 4);
        revoked.revoke_key(Party::named("carol").bytes());
        press.revocations(&revoked, 4);
        bulletins.push(press.bulletin(&root, 5, 4));
        let of_first = bulletins.len();
        bulletins.push(press.bulletin(&next, 6, 5));
        press.registry(&["bob"], 6);
        bulletins.push(press.bulletin(&next, 7, 6));
        Self {
            roots: [first, second],
            encoded: bulletins.iter().map(Bulletin::to_bytes).collect(),
            bulletins,
            digests: press.store.keys().copied().collect(),
            store: press.store.into_iter().collect(),
            first: of_first,
        }
    }

    fn follow(&self, input: &[u8]) {
        let follower = Follower::new(&self.roots[0], Admission::Production, None);
        let mut follower = follower.expect("a root");
        let mut input = Unstructured::new(input);
        for _ in 0..10 {
            let Ok(step) = Step::arbitrary(&mut input) else {
                break;
            };
            self.take(&mut follower, step);
            if input.is_empty() {
                break;
            }
        }
        // Whatever it was told, it goes on to the newest state.
        if follower.later_roots().is_empty() {
            let last = &self.bulletins[self.first - 1];
            self.hear(&mut follower, last, None);
            assert_eq!(self.held(&follower), Some(self.first - 1));
            follower.succeed(&self.roots[1]).expect("the next root");
        }
        let last = self.bulletins.len() - 1;
        self.hear(&mut follower, &self.bulletins[last], None);
        assert_eq!(self.held(&follower), Some(last));
    }

    fn take(&self, follower: &mut Follower, step: Step) {
        match step {
            Step::Hear {
                bulletin,
                bare,
                mut changes,
                lie,
            } => {
                changes.truncate(4);
                let honest = pick(&self.encoded, bulletin);
                let bytes = changed(honest, &changes, &self.encoded, MAGIC);
                if let Ok(mut bulletin) = Bulletin::parse(&bytes) {
                    if bare {
                        bulletin.parts.clear();
                    }
                    self.hear(follower, &bulletin, lie);
                }
            }
            Step::Mix {
                timestamp,
                snapshot,
                parts,
            } => {
                let bulletin = Bulletin {
                    timestamp: pick(&self.bulletins, timestamp).timestamp.clone(),
                    snapshot: pick(&self.bulletins, snapshot).snapshot.clone(),
                    parts: pick(&self.bulletins, parts).parts.clone(),
                };
                self.hear(follower, &bulletin, None);
            }
            Step::Succeed { mut changes } => {
                changes.truncate(4);
                let root = changed(&self.roots[1], &changes, &self.roots, MAGIC);
                let before = follower.root().id();
                match follower.succeed(&root) {
                    Ok(()) => assert_eq!(root, self.roots[1], "a root that nobody signed"),
                    Err(_) => assert_eq!(follower.root().id(), before),
                }
                assert!(follower.later_roots().len() <= 1);
            }
        }
    }

    /// Has a reader hear a bulletin, which holds an honest state afterwards, and none older.
    fn hear(&self, follower: &mut Follower, bulletin: &Bulletin, lie: Option<(u8, u8)>) {
        let before = (self.held(follower), follower.state().cloned());
        let store = |digest: &ObjectId| {
            let (asked, told) =
                lie.map(|(asked, told)| (pick(&self.digests, asked), pick(&self.digests, told)))?;
            (asked == digest).then(|| self.store[told].clone())
        };
        let fetch = |digest: &ObjectId| store(digest).or_else(|| self.store.get(digest).cloned());
        let progress = follower.hear(bulletin, fetch);
        let after = self.held(follower);
        assert!(after >= before.0, "the floor went down");
        match progress {
            Ok(Progress::Advanced(state)) => {
                assert!(after > before.0, "advanced to what was held");
                let held = follower.state().expect("a state");
                assert!(std::sync::Arc::ptr_eq(held, &state));
                if let Some(before) = &before.1 {
                    assert!(state.revocations().contains(before.revocations()));
                    let (new, old) = (state.epochs(), before.epochs());
                    assert!(new.registry >= old.registry && new.policy >= old.policy);
                    assert!(new.revocations >= old.revocations);
                }
            }
            Ok(Progress::Unchanged | Progress::Missing(_)) | Err(_) => {
                let same = match (&before.1, follower.state()) {
                    (Some(before), Some(after)) => std::sync::Arc::ptr_eq(before, after),
                    (before, after) => before.is_none() && after.is_none(),
                };
                assert!(same, "changed by what it refused");
            }
        }
    }

    /// Which published bulletin a reader holds.
    fn held(&self, follower: &Follower) -> Option<usize> {
        let state = follower.state()?;
        let held = follower.bulletin().expect("a bulletin");
        let same = |honest: &Bulletin| {
            (&honest.timestamp, &honest.snapshot) == (&held.timestamp, &held.snapshot)
        };
        let which = self.bulletins.iter().position(same);
        let which = which.expect("a state that nobody published");
        for (digest, file) in follower.files() {
            assert_eq!(
                self.store.get(&digest),
                Some(&file),
                "a part that nobody signed"
            );
        }
        let time = state.time().expect("a timestamp");
        assert_eq!(time.epoch(), which as u64 + 1);
        let of_first = state.root().version() == 1;
        assert_eq!(of_first, which < self.first, "a state under another root");
        Some(which)
    }
}

/// The authority, which signs parts, snapshots and timestamps by hand.
struct Press<'a> {
    mesh: &'a Mesh,
    named: BTreeMap<PartKey, PartEdition>,
    store: BTreeMap<ObjectId, Bytes>,
}

impl<'a> Press<'a> {
    fn new(mesh: &'a Mesh) -> Self {
        Self {
            mesh,
            named: BTreeMap::new(),
            store: BTreeMap::new(),
        }
    }

    fn registry(&mut self, members: &[&str], epoch: u64) {
        let certificate = |name: &&str| {
            let window = window(NOW - HOUR, NOW + HOUR);
            self.mesh.certificate(&Party::named(name), window)
        };
        let certificates: Vec<Bytes> = members.iter().map(certificate).collect();
        self.part(
            FileKind::Registry,
            &FileDraft::Registry(&certificates),
            epoch,
        );
    }

    fn policy(&mut self, policy: &Policy, epoch: u64) {
        self.part(FileKind::Policy, &FileDraft::Policy(policy), epoch);
    }

    fn revocations(&mut self, set: &RevocationSet, epoch: u64) {
        self.part(FileKind::Revocations, &FileDraft::Revocations(set), epoch);
    }

    fn part(&mut self, kind: FileKind, draft: &FileDraft<'_>, epoch: u64) {
        let signer = self.mesh.role(kind.role());
        let file = draft.sign(self.mesh.id(), edition(epoch), &[(0, &signer.key)]);
        let digest = digest_of(&file);
        let key = PartKey { kind, index: 0 };
        self.named.insert(key, PartEdition { epoch, digest });
        self.store.insert(digest, file);
    }

    fn bulletin(&self, root: &TrustRoot, time: u64, epoch: u64) -> Bulletin {
        let signer = self.mesh.role(Role::Timestamp);
        let signer = [(0, &*signer.key)];
        let snapshot = Snapshot::sign(root, edition(epoch), &self.named, &signer);
        let draft = TrustTimeDraft {
            epoch: time,
            issued: Timestamp::from_millis(NOW + 1_000 * time),
            snapshot: PartEdition {
                epoch,
                digest: digest_of(&snapshot),
            },
            root: (root.version(), root.id()),
        };
        let named = self.named.values();
        Bulletin {
            timestamp: draft.sign(root, &signer).expect("a timestamp"),
            snapshot,
            parts: named.map(|part| self.store[&part.digest].clone()).collect(),
        }
    }
}

fn edition(epoch: u64) -> Edition {
    let validity = window(NOW - HOUR, NOW + 24 * HOUR);
    Edition { epoch, validity }
}
