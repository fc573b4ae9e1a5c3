//! What a new policy says to a decision that was recorded, as far as the record tells.
//!
//! A record does not hold everything that policy asks about: the age of a message, its lifetime and
//! mode, scores, sessions and rates are not in it. What the old policy asked for as strictly is
//! known to have been kept, where the old policy is at hand. What is left is named, never guessed.

use std::collections::BTreeSet;

use trustmesh::audit::DecisionEvent;
use trustmesh::audit::HopEvent;
use trustmesh::audit::Word;
use trustmesh::proto::identity::AgentId;
use trustmesh::proto::identity::KeyBytes;
use trustmesh::proto::limits::LIFETIME_MAX_MS;
use trustmesh::proto::limits::TTL_MAX_MS;
use trustmesh::proto::policy::Agents;
use trustmesh::proto::policy::Ceilings;
use trustmesh::proto::policy::Effect;
use trustmesh::proto::policy::Policy;
use trustmesh::proto::policy::Rule;
use trustmesh::proto::scope::Action;
use trustmesh::proto::subject::Subject;
use trustmesh::proto::subject::SubjectPattern;

/// What becomes of a decision.
#[derive(Debug, Eq, PartialEq)]
pub enum Fate {
    /// It stays, or policy had no say in it.
    Same,
    /// It was allowed, and would be refused.
    Refused {
        /// The code.
        code: u16,
        /// The rules that decide it.
        rules: Vec<String>,
    },
    /// Policy refused it, and would allow it.
    Allowed {
        /// The rules that allow it.
        rules: Vec<String>,
    },
    /// The record does not tell, because this is not in it.
    CannotTell(&'static str),
}

/// What a policy says.
enum Say {
    Deny(u16, Vec<String>),
    Allow(Vec<String>),
    Depends(&'static str),
}

/// The codes by which policy refuses.
fn is_of_policy(code: u16) -> bool {
    matches!(code, 1507 | 1604 | 1901..=1903 | 2001..=2099 | 2101)
}

/// What becomes of a decision under `new`. `old` is the policy it was made under, where that is at
/// hand.
pub fn fate(event: &DecisionEvent, new: &Policy, old: Option<&Policy>) -> Fate {
    let code = event.code.unwrap_or_default();
    match event.verdict {
        Word::Allow => match say(event, new, old) {
            Say::Deny(code, rules) => Fate::Refused { code, rules },
            Say::Allow(_) => Fate::Same,
            Say::Depends(fact) => Fate::CannotTell(fact),
        },
        // Refused before policy was asked, or after it: it stays.
        Word::Deny if !is_of_policy(code) => Fate::Same,
        // Of the rules nothing is known to have been kept; the ceilings come before them.
        Word::Deny => match say(event, new, old.filter(|_| reached_rules(event, code))) {
            Say::Deny(..) => Fate::Same,
            Say::Allow(_) if event.claimed => {
                Fate::CannotTell("what was not looked at after the refusal")
            }
            Say::Allow(rules) => Fate::Allowed { rules },
            Say::Depends(fact) => Fate::CannotTell(fact),
        },
    }
}

/// Whether a refusal of policy was one of its rules, so that its ceilings had been kept.
fn reached_rules(event: &DecisionEvent, code: u16) -> bool {
    !event.claimed && !matches!(code, 1507 | 1901..=1903 | 2007)
}

/// What is certain is said first: nothing that is unknown could change it.
fn say(event: &DecisionEvent, new: &Policy, old: Option<&Policy>) -> Say {
    let action = event.action.as_deref().and_then(Action::from_name);
    let (Some(action), Ok(subject)) = (action, Subject::parse(&event.subject)) else {
        return Say::Depends("the action, or a subject that is one");
    };
    if let Some(deny) = listed(event, new).or_else(|| receiver(action, &subject, new)) {
        return deny;
    }
    if action == Action::Serve {
        let same = old.is_some_and(|old| of_answers(old) == of_answers(new));
        return match event.code {
            None if same => Say::Allow(Vec::new()),
            Some(code) if same => Say::Deny(code, Vec::new()),
            _ => Say::Depends("the subject of the request that was answered"),
        };
    }
    let matching = |rule: &&Rule| rule.matches(action, &subject);
    let of = |effect| {
        let rules = new.rules().iter().filter(matching);
        let rules: Vec<&Rule> = rules.filter(|rule| rule.effect() == effect).collect();
        rules
    };
    let names = |rules: &[&Rule]| rules.iter().map(|rule| rule.name().to_owned()).collect();
    let denies = of(Effect::Deny);
    if !denies.is_empty() {
        return Say::Deny(2002, names(&denies));
    }
    let allows = of(Effect::Allow);
    if allows.is_empty() {
        return Say::Deny(2001, Vec::new());
    }
    let depth = event.chain.len().checked_sub(1);
    let too_deep = |rule: &&&Rule| {
        let most = rule.max_depth().map(usize::from);
        most.is_some_and(|most| depth.is_some_and(|depth| depth > most))
    };
    if let Some(rule) = allows.iter().find(too_deep) {
        return Say::Deny(1604, vec![rule.name().to_owned()]);
    }
    let old_rules =
        |old: &'_ Policy| -> Vec<Rule> { old.rules().iter().filter(matching).cloned().collect() };
    let kept = old.filter(|_| event.verdict == Word::Allow);
    let kept_rules = kept.map(old_rules).unwrap_or_default();
    let unknown = allows
        .iter()
        .find_map(|rule| unknown_limit(rule, &kept_rules));
    let unknown = unknown
        .or_else(|| {
            let deep = allows.iter().any(|rule| rule.max_depth().is_some());
            (deep && depth.is_none()).then_some("the chain")
        })
        .or_else(|| unknown_lifetime(new, old))
        .or_else(|| {
            let asks = |policy: &Policy| policy.asks_for_approval(action, &subject).is_some();
            (asks(new) && !kept.is_some_and(asks)).then_some("an approval")
        });
    match unknown {
        Some(fact) => Say::Depends(fact),
        None => Say::Allow(names(&allows)),
    }
}

/// All that a policy says of answers, whatever their subject, but for its lists.
fn of_answers(policy: &Policy) -> (Ceilings, BTreeSet<String>) {
    let rules = policy.rules().iter();
    let rules = rules
        .filter(|rule| rule.actions().has(Action::Serve))
        .map(|rule| format!("{}: {rule}", rule.name()));
    let needs = policy.approval().iter();
    let needs = needs
        .filter(|need| need.actions().has(Action::Serve))
        .map(|need| format!("approval of {}", need.subjects()));
    (policy.ttl(), rules.chain(needs).collect())
}

/// Whether a list stops a holder.
fn listed(event: &DecisionEvent, new: &Policy) -> Option<Say> {
    let stops = |hop: &HopEvent| {
        let key = KeyBytes::from_hex(&hop.key).ok()?;
        let id = AgentId::parse(&hop.holder).ok();
        let within = |list: &Agents| match &id {
            Some(id) => list.contains(id, &key),
            None => list.keys().any(|other| *other == key),
        };
        if within(new.blocked()) {
            return Some(Say::Deny(1901, Vec::new()));
        }
        let outside = new.allowed().is_some_and(|list| !within(list));
        outside.then(|| Say::Deny(1903, Vec::new()))
    };
    event.chain.iter().find_map(stops)
}

/// Whether the receiver may not receive on the subject; whoever asked may hear the answer.
fn receiver(action: Action, subject: &Subject, new: &Policy) -> Option<Say> {
    if action == Action::Serve {
        return None;
    }
    let pattern = SubjectPattern::from(subject);
    let rules = || {
        let rules = new.rules().iter();
        rules.filter(|rule| rule.actions().has(Action::Subscribe))
    };
    let denies = |rule: &&Rule| rule.effect() == Effect::Deny && rule.subjects().overlaps(&pattern);
    let names: Vec<String> = rules()
        .filter(denies)
        .map(|rule| rule.name().to_owned())
        .collect();
    if !names.is_empty() {
        return Some(Say::Deny(2002, names));
    }
    let allows = |rule: &Rule| rule.effect() == Effect::Allow && rule.subjects().contains(&pattern);
    (!rules().any(allows)).then(|| Say::Deny(2001, Vec::new()))
}

/// A limit of which the record does not say whether it was kept, unless one as strict was.
fn unknown_limit(rule: &Rule, kept: &[Rule]) -> Option<&'static str> {
    let by = |holds: &dyn Fn(&Rule) -> bool| kept.iter().any(holds);
    if let Some(most) = rule.max_age_ms()
        && !by(&|old| old.max_age_ms().is_some_and(|old| old <= most))
    {
        return Some("the age of the message");
    }
    if let Some(least) = rule.min_score()
        && !by(&|old| old.min_score().is_some_and(|old| old >= least))
    {
        return Some("the score of the sender");
    }
    if rule.needs_session() && !by(&Rule::needs_session) {
        return Some("whether there was a session");
    }
    // The same messages debit it, then.
    let same = |old: &Rule| old.name() == rule.name() && old.to_string() == rule.to_string();
    if rule.rate().is_some() && !by(&same) {
        return Some("the rate");
    }
    // The modes that are spoken: 1 and 2.
    let refused: Vec<u8> = [1, 2]
        .into_iter()
        .filter(|mode| !rule.allows_mode(*mode))
        .collect();
    let excluded = |mode: &u8| by(&|old| !old.allows_mode(*mode));
    if !refused.iter().all(excluded) {
        return Some("the envelope mode");
    }
    None
}

/// A ceiling of which the record does not say whether it was kept, unless one as low was.
fn unknown_lifetime(new: &Policy, old: Option<&Policy>) -> Option<&'static str> {
    let (new, old) = (new.ttl(), old.map(Policy::ttl));
    let envelope = old.map_or(TTL_MAX_MS, |old| old.envelope_ms);
    if new.envelope_ms < envelope {
        return Some("the lifetime of the envelope");
    }
    let grant = old.map_or(LIFETIME_MAX_MS, |old| old.grant_ms);
    let delegation = old.map_or(LIFETIME_MAX_MS, |old| old.delegation_ms);
    if new.grant_ms < grant || new.delegation_ms < delegation {
        return Some("how long the links live");
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(more: &str, needs: &str) -> Policy {
        let text = format!(
            r#"{{ "rules": [ {{ "name": "all", "effect": "allow",
                "actions": ["pub", "sub", "req", "serve"], "subjects": ">"{more} }} ],
              "approval": [{needs}] }}"#
        );
        Policy::from_json(&text).unwrap()
    }

    fn allowed(action: &str) -> DecisionEvent {
        let text = format!(
            r#"{{"verdict":"allow","subject":"a.b","action":"{action}","claimed":false,
                "chain":[{{"link":"00","holder":"alice","key":"{}","scope":[],"until":1,
                "remaining":0}}],"len":1,"registry":1,"revocations":1,"policy":1}}"#,
            "00".repeat(32)
        );
        serde_json::from_str(&text).unwrap()
    }

    fn refused(code: u16, claimed: bool) -> DecisionEvent {
        DecisionEvent {
            verdict: Word::Deny,
            code: Some(code),
            claimed,
            ..allowed("pub")
        }
    }

    /// Each limit that is not recorded is unknown, unless the old policy had one as strict.
    #[test]
    fn what_the_record_does_not_hold_is_named_unless_it_was_asked_for_before() {
        let none = policy("", "");
        for (more, stricter, fact) in [
            (
                r#", "max_age_ms": 9"#,
                r#", "max_age_ms": 8"#,
                "the age of the message",
            ),
            (
                r#", "min_score": 5"#,
                r#", "min_score": 6"#,
                "the score of the sender",
            ),
            (
                r#", "session": true"#,
                r#", "session": true"#,
                "whether there was a session",
            ),
            (
                r#", "modes": [1]"#,
                r#", "modes": [1, 3]"#,
                "the envelope mode",
            ),
            (
                r#", "rate": { "count": 1, "per_ms": 2 }"#,
                r#", "rate": { "count": 1, "per_ms": 2 }"#,
                "the rate",
            ),
        ] {
            let new = policy(more, "");
            let told = |old| fate(&allowed("pub"), &new, old);
            assert_eq!(told(Some(&none)), Fate::CannotTell(fact), "{more}");
            assert_eq!(told(Some(&policy(stricter, ""))), Fate::Same, "{more}");
        }
        let looser = policy(r#", "max_age_ms": 10"#, "");
        let new = policy(r#", "max_age_ms": 9"#, "");
        let told = fate(&allowed("pub"), &new, Some(&looser));
        assert_eq!(told, Fate::CannotTell("the age of the message"));
        let asking = policy("", r#"{ "subjects": "a.>", "actions": ["pub"] }"#);
        let told = |old| fate(&allowed("pub"), &asking, Some(old));
        assert_eq!(told(&none), Fate::CannotTell("an approval"));
        assert_eq!(told(&asking), Fate::Same);
        // Without the old policy not even the ceilings of the new one are known to have been kept.
        let told = fate(&allowed("pub"), &none, None);
        assert_eq!(told, Fate::CannotTell("how long the links live"));
    }

    #[test]
    fn answers_are_told_only_where_nothing_about_answers_changed() {
        let (old, new) = (policy("", ""), policy(r#", "max_depth": 4"#, ""));
        assert_eq!(fate(&allowed("serve"), &old, Some(&old)), Fate::Same);
        let told = fate(&allowed("serve"), &new, Some(&old));
        assert!(matches!(told, Fate::CannotTell(_)), "{told:?}");
    }

    #[test]
    fn a_refusal_that_was_not_of_policy_stays() {
        let new = policy("", "");
        for code in [108, 401, 1101, 1201, 1501, 1801, 2301] {
            assert_eq!(
                fate(&refused(code, false), &new, None),
                Fate::Same,
                "{code}"
            );
        }
    }

    #[test]
    fn a_refusal_of_policy_is_lifted_only_where_all_that_followed_is_known() {
        let new = policy("", "");
        let rules = vec!["all".to_owned()];
        let told = |event: DecisionEvent| fate(&event, &new, Some(&new));
        assert_eq!(told(refused(2002, false)), Fate::Allowed { rules });
        // Refused by a list or for the receiver's sake, before the signature was looked at.
        for event in [
            refused(1902, true),
            refused(2001, true),
            refused(2007, false),
        ] {
            let told = told(event);
            assert!(matches!(told, Fate::CannotTell(_)), "{told:?}");
        }
    }

    #[test]
    fn lists_deny_rules_and_depth_are_certain() {
        let texts = [
            (r#"{ "rules": [] }"#, 2001),
            (
                r#"{ "blocked": { "agents": ["alice"] }, "rules": [] }"#,
                1901,
            ),
            (r#"{ "allowed": { "agents": ["bob"] }, "rules": [] }"#, 1903),
            (
                r#"{ "rules": [ { "name": "no", "effect": "deny", "actions": ["sub"],
                     "subjects": "a.b" } ] }"#,
                2002,
            ),
        ];
        for (text, code) in texts {
            let new = Policy::from_json(text).unwrap();
            let told = fate(&allowed("pub"), &new, None);
            assert!(
                matches!(told, Fate::Refused { code: found, .. } if found == code),
                "{text}: {told:?}"
            );
        }
    }
}
