//! Subjects, patterns and scopes read naively: as sets of the addresses over a small alphabet.

use std::collections::HashMap;
use std::sync::OnceLock;

use trustmesh::proto::scope::Action;
use trustmesh::proto::scope::Capability;
use trustmesh::proto::scope::Scope;

/// Tokens that stand in patterns; the addresses have two more, which no pattern names.
pub const TOKENS: [&str; 4] = ["a", "b", "$s", "_i"];

/// Whether a text is an address, or with `wildcards` a pattern (protocol §5.1).
pub fn is_subject(text: &str, wildcards: bool) -> bool {
    let tokens: Vec<&str> = text.split('.').collect();
    let last = tokens.len() - 1;
    let sound = |(index, token): (usize, &&str)| match *token {
        "*" => wildcards,
        ">" => wildcards && index == last,
        "" => false,
        token => token
            .chars()
            .all(|c| c.is_ascii_graphic() && c != '*' && c != '>'),
    };
    text.len() <= 255 && tokens.len() <= 16 && tokens.iter().enumerate().all(sound)
}

/// Whether an address is in the set of a pattern (protocol §5.2).
pub fn matches(pattern: &str, subject: &str) -> bool {
    let pattern: Vec<&str> = pattern.split('.').collect();
    let subject: Vec<&str> = subject.split('.').collect();
    let reserved = subject[0].starts_with(['$', '_']);
    let wild = matches!(pattern[0], "*" | ">");
    !(reserved && wild) && tail_matches(&pattern, &subject)
}

fn tail_matches(pattern: &[&str], subject: &[&str]) -> bool {
    match (pattern.split_first(), subject.split_first()) {
        (None, None) => true,
        (Some((&">", _)), Some(_)) => true,
        (Some((token, pattern)), Some((found, subject))) => {
            (*token == "*" || token == found) && tail_matches(pattern, subject)
        }
        _ => false,
    }
}

/// The patterns of up to three tokens over the alphabet.
pub fn patterns() -> &'static [String] {
    static ALL: OnceLock<Vec<String>> = OnceLock::new();
    ALL.get_or_init(|| {
        let texts = words(&[&TOKENS[..], &["*", ">"]].concat(), 3);
        texts
            .into_iter()
            .filter(|text| is_subject(text, true))
            .collect()
    })
}

/// Those of [`patterns`] that one of them contains.
pub fn narrower(outer: &str) -> &'static [&'static str] {
    static ALL: OnceLock<HashMap<&str, Vec<&str>>> = OnceLock::new();
    let all = ALL.get_or_init(|| {
        let texts = || patterns().iter().map(String::as_str);
        let below = |outer| texts().filter(|inner| contains(outer, inner)).collect();
        texts().map(|outer| (outer, below(outer))).collect()
    });
    &all[outer]
}

/// Whether every address of `inner` is in `outer`, both of [`patterns`].
pub fn contains(outer: &str, inner: &str) -> bool {
    let sets = sets();
    let mut both = sets[outer].iter().zip(&sets[inner]);
    both.all(|(outer, inner)| *outer || !*inner)
}

/// Whether some address is in both, which are of [`patterns`].
pub fn overlaps(left: &str, right: &str) -> bool {
    let sets = sets();
    let mut both = sets[left].iter().zip(&sets[right]);
    both.any(|(left, right)| *left && *right)
}

/// Whether each capability of a child may be handed on under one of the parent's (protocol §6.5).
/// Patterns are of [`patterns`].
pub fn may_delegate(parent: &Scope, child: &Scope) -> bool {
    let hands_on = |parent: &Capability, child: &Capability| {
        let bits = (parent.actions().bits(), child.actions().bits());
        let groups = match (parent.groups(), child.groups()) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(parent), Some(child)) => child.iter().all(|group| parent.contains(group)),
        };
        parent.actions().has(Action::Delegate)
            && bits.0 | bits.1 == bits.0
            && contains(parent.pattern().as_str(), child.pattern().as_str())
            && groups
    };
    let mut children = child.capabilities().iter();
    children.all(|child| {
        parent
            .capabilities()
            .iter()
            .any(|parent| hands_on(parent, child))
    })
}

/// For each pattern, which addresses are in its set. Addresses have a token more than patterns, and
/// tokens that no pattern has, so that these sets tell patterns apart as all addresses would.
fn sets() -> &'static HashMap<&'static str, Vec<bool>> {
    static SETS: OnceLock<HashMap<&str, Vec<bool>>> = OnceLock::new();
    SETS.get_or_init(|| {
        let subjects = words(&[&TOKENS[..], &["x", "$x"]].concat(), 4);
        let set = |pattern: &str| subjects.iter().map(|s| matches(pattern, s)).collect();
        patterns().iter().map(|p| (p.as_str(), set(p))).collect()
    })
}

/// All texts of one to `most` of these tokens.
fn words(tokens: &[&str], most: usize) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    let mut last = vec![String::new()];
    for _ in 0..most {
        let longer = |text: &String| {
            let join = |token: &&str| match text.as_str() {
                "" => (*token).to_owned(),
                text => format!("{text}.{token}"),
            };
            tokens.iter().map(join).collect::<Vec<_>>()
        };
        last = last.iter().flat_map(longer).collect();
        all.extend(last.iter().cloned());
    }
    all
}
