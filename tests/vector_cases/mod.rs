//! The cases of the test vectors, a file per theme, and the book they are written into.

pub mod codes;
pub mod conformance;
pub mod covers;
pub mod example;
pub mod folder;
pub mod json;
pub mod play;
pub mod run;

mod approval;
mod attacks;
mod attenuation;
mod audit;
mod audit_lines;
mod batch;
mod batch_parts;
mod certificate;
mod chain;
mod content;
mod extension;
mod files;
mod flips;
mod frame;
mod fresh;
mod handshake;
mod handshake_peers;
mod header;
mod link;
mod order;
mod order_parts;
mod policies;
mod policy;
mod print;
mod reply;
mod retired;
mod roles;
mod root;
mod route;
mod scope;
mod scoring;
mod served;
mod served_age;
mod served_follow;
mod served_parts;
mod served_roots;
mod shake;
mod signature;
mod standing;
mod subjects;
mod tags;
mod time;
mod vault;

use std::collections::BTreeMap;
use std::collections::HashSet;
use std::sync::LazyLock;

use bytes::Bytes;

use trustmesh::proto::rejection::Class;
use trustmesh::proto::signing::ObjectId;
use trustmesh::proto::trust::TrustFiles;

use crate::forge;
use crate::forge::Mesh;
use json::Json;
use json::hex;
use json::or_null;
use json::words;
use play::Play;

/// What a case claims.
#[derive(Clone, Copy, Debug)]
pub enum Claim {
    Allow,
    /// Refused with this code; the fault lies in this link, if in one.
    Deny(u16, Option<u8>),
}

pub use Claim::Allow;

/// A refusal whose fault lies in no link.
pub const fn deny(code: u16) -> Claim {
    Claim::Deny(code, None)
}

/// A refusal whose fault lies in link `hop`.
pub const fn deny_at(code: u16, hop: u8) -> Claim {
    Claim::Deny(code, Some(hop))
}

/// A case, ready to be written.
#[derive(Clone, Debug)]
pub struct Case {
    pub group: &'static str,
    pub name: String,
    pub about: String,
    pub kind: &'static str,
    /// The code expected, unless it is allowed.
    pub code: Option<u16>,
    fields: Vec<(&'static str, Json)>,
}

impl Case {
    /// `GROUP/NAME`.
    pub fn path(&self) -> String {
        format!("{}/{}", self.group, self.name)
    }
}

/// A trust state, ready to be written.
#[derive(Clone, Debug)]
pub struct State {
    pub about: String,
    pub files: TrustFiles,
    pub dev: bool,
    pub pin: Option<ObjectId>,
}

impl State {
    fn json(&self) -> Json {
        Json::Map(vec![
            ("about", words(&self.about)),
            ("root", hex(&self.files.root)),
            ("registry", hex(&self.files.registry)),
            ("policy", hex(&self.files.policy)),
            ("revocations", hex(&self.files.revocations)),
            ("scores", or_null(self.files.scores.as_ref(), hex)),
            ("dev", Json::Bool(self.dev)),
            ("pin", or_null(self.pin, |id| hex(id.0))),
        ])
    }
}

/// What a reader of a served mesh holds, ready to be written.
#[derive(Clone, Debug)]
pub struct Held {
    pub about: String,
    /// The first trust root.
    pub root: Bytes,
    /// Those after it, in order.
    pub later: Vec<Bytes>,
    /// The bulletin it heard, with all parts, if any.
    pub bulletin: Option<Vec<u8>>,
}

impl Held {
    fn json(&self) -> Json {
        Json::Map(vec![
            ("about", words(&self.about)),
            ("root", hex(&self.root)),
            ("later", Json::List(self.later.iter().map(hex).collect())),
            ("bulletin", or_null(self.bulletin.as_ref(), hex)),
            ("dev", Json::Bool(false)),
            ("pin", Json::Null),
        ])
    }
}

/// Every case and every state.
#[derive(Debug, Default)]
pub struct Book {
    pub cases: Vec<Case>,
    states: BTreeMap<String, State>,
    held: BTreeMap<String, Held>,
    paths: HashSet<String>,
    group: &'static str,
}

impl Book {
    /// The book, written once a process.
    pub fn get() -> &'static Self {
        static BOOK: LazyLock<Book> = LazyLock::new(Book::write);
        &BOOK
    }

    fn write() -> Self {
        let mut book = Self::default();
        book.state(
            "mesh",
            "Ten agents, and a policy that permits whatever was granted",
            &Mesh::new(),
        );
        for (group, theme) in THEMES {
            book.group = group;
            theme(&mut book);
        }
        book
    }

    /// Adds a state made of an untouched mesh.
    pub fn state(&mut self, name: &str, about: &str, mesh: &Mesh) {
        let dev = mesh.dev;
        self.files_state(name, about, mesh.files(), |state| state.dev = dev);
    }

    /// Adds a state made of any files.
    pub fn files_state(
        &mut self,
        name: &str,
        about: &str,
        files: TrustFiles,
        change: impl FnOnce(&mut State),
    ) {
        let mut state = State {
            about: about.to_owned(),
            files,
            dev: false,
            pin: None,
        };
        change(&mut state);
        let before = self.states.insert(name.to_owned(), state);
        assert!(before.is_none(), "two states are called {name}");
    }

    /// Adds what a reader of a served mesh holds.
    pub fn held_state(&mut self, name: &str, held: Held) {
        let before = self.held.insert(name.to_owned(), held);
        let twice = before.is_some() || self.states.contains_key(name);
        assert!(!twice, "two states are called {name}");
    }

    /// Adds a case. Its bytes depend on its name and on nothing that was made before.
    pub fn case(&mut self, name: &str, about: &str, claim: Claim, make: impl FnOnce() -> Play) {
        let path = format!("{}/{name}", self.group);
        let play = forge::named(&path, make);
        assert!(
            self.paths.insert(path.clone()),
            "two cases are called {path}"
        );
        assert!(
            play.state.is_empty()
                || self.states.contains_key(&play.state)
                || self.held.contains_key(&play.state),
            "{path}: no state {}",
            play.state
        );
        let code = match claim {
            Allow => None,
            Claim::Deny(code, _) => Some(code),
        };
        self.cases.push(Case {
            group: self.group,
            name: name.to_owned(),
            about: about.to_owned(),
            kind: play.kind.name(),
            code,
            fields: play.fields(claim),
        });
    }

    /// Every code expected anywhere.
    pub fn codes(&self) -> impl Iterator<Item = u16> + '_ {
        self.cases.iter().filter_map(|case| case.code)
    }

    /// Every file: its path below the folder, and its text.
    pub fn files(&self) -> BTreeMap<String, String> {
        let states = self
            .states
            .iter()
            .map(|(name, state)| (format!("states/{name}.json"), state.json().file()));
        let held = self
            .held
            .iter()
            .map(|(name, held)| (format!("states/{name}.json"), held.json().file()));
        let cases = self.cases.iter().map(|case| {
            let covers = covers::of(case).into_iter().map(words);
            let covers = Json::List(covers.collect());
            let mut fields = vec![
                ("about", words(&case.about)),
                ("covers", covers),
                ("kind", words(case.kind)),
            ];
            fields.extend(case.fields.iter().cloned());
            (format!("{}.json", case.path()), Json::Map(fields).file())
        });
        states.chain(held).chain(cases).collect()
    }
}

/// What a case expects, as it stands in a file; `facts` when it is allowed.
pub fn expectation(claim: Claim, facts: Vec<(&'static str, Json)>) -> Json {
    match claim {
        Allow => {
            let mut fields = vec![("verdict", words("allow"))];
            fields.extend(facts);
            Json::Map(fields)
        }
        Claim::Deny(code, hop) => {
            let class = Class::ALL
                .into_iter()
                .find(|class| *class as u16 == code / 100)
                .unwrap();
            Json::Map(vec![
                ("verdict", words("deny")),
                ("class", words(class.name())),
                ("code", Json::Number(u64::from(code))),
                ("hop", or_null(hop, |hop| Json::Number(u64::from(hop)))),
            ])
        }
    }
}

type Theme = fn(&mut Book);

const THEMES: &[(&str, Theme)] = &[
    ("route", route::write),
    ("reply", reply::write),
    ("fresh", fresh::write),
    ("tags", tags::write),
    ("flips", flips::write),
    ("frame", frame::write),
    ("header", header::write),
    ("extension", extension::write),
    ("content", content::write),
    ("signature", signature::write),
    ("link", link::write),
    ("chain", chain::write),
    ("scope", scope::write),
    ("time", time::write),
    ("standing", standing::write),
    ("policy", policy::write),
    ("approval", approval::write),
    ("batch", batch::write),
    ("order", order::write),
    ("root", root::write),
    ("certificate", certificate::write),
    ("files", files::write),
    ("served", served::write),
    ("succession", served_roots::write),
    ("follow", served_follow::write),
    ("age", served_age::write),
    ("retired", retired::write),
    ("handshake", handshake::write),
    ("audit", audit::write),
    ("subjects", subjects::write),
    ("example", example::write),
];
