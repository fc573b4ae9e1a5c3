//! What one link hands on of another: contained, or widened.

use super::Allow;
use super::Book;
use super::codes::*;
use super::deny_at;
use super::link::pair;
use super::play::Play;
use super::scope::One;
use super::scope::SUBJECT;
use super::scope::groups;
use super::scope::recipients;
use crate::forge::ChainSpec;
use crate::forge::Letter;
use crate::forge::Mesh;
use crate::forge::Value;
use crate::forge::chain::DELEGATE;
use crate::forge::chain::EVERYTHING;
use crate::forge::chain::PUB;
use crate::forge::chain::REQ;
use crate::forge::chain::SERVE;
use crate::forge::chain::SUB;
use crate::forge::chain::capability;
use crate::forge::chain::scope;
use crate::forge::value::list;

/// A capability above and one below: contained, or widened.
pub(super) fn attenuation(book: &mut Book) {
    let (p, pd) = (PUB, PUB | DELEGATE);
    let rows: [(&str, One, One, bool); 34] = [
        ("same", (pd, "a.b"), (pd, "a.b"), true),
        ("no-delegate-below", (pd, "a.b"), (p, "a.b"), true),
        ("no-delegate-above", (p, "a.b"), (p, "a.b"), false),
        ("delegate-alone", (DELEGATE, "a"), (DELEGATE, "a"), true),
        ("action-added", (pd, "a"), (PUB | SUB, "a"), false),
        ("publish-to-request", (pd, "a"), (REQ, "a"), false),
        ("request-to-publish", (REQ | DELEGATE, "a"), (p, "a"), false),
        (
            "serve-to-subscribe",
            (SERVE | DELEGATE, "a"),
            (SUB, "a"),
            false,
        ),
        ("action-dropped", (EVERYTHING, "a"), (SERVE, "a"), true),
        ("arrow-to-arrow", (pd, ">"), (p, ">"), true),
        ("arrow-to-star", (pd, ">"), (p, "*"), true),
        ("arrow-to-literal", (pd, ">"), (p, "a.b.c"), true),
        ("arrow-to-inner-arrow", (pd, ">"), (p, "a.>"), true),
        ("star-to-arrow", (pd, "*"), (p, ">"), false),
        ("star-to-star", (pd, "a.*"), (p, "a.*"), true),
        ("star-to-literal", (pd, "a.*"), (p, "a.b"), true),
        ("star-to-inner-arrow", (pd, "a.*"), (p, "a.>"), false),
        ("literal-to-star", (pd, "a.b.c"), (p, "a.*.c"), false),
        ("literal-to-arrow", (pd, "a.b"), (p, "a.>"), false),
        ("star-to-two", (pd, "a.*"), (p, "a.b.c"), false),
        ("arrow-to-none", (pd, "a.>"), (p, "a"), false),
        ("arrow-to-star-and-more", (pd, "a.>"), (p, "a.*.c"), true),
        ("star-arrow-to-arrow", (pd, "a.*.>"), (p, "a.>"), false),
        ("arrow-to-star-arrow", (pd, "a.>"), (p, "a.*.>"), true),
        ("case", (pd, "A.b"), (p, "a.b"), false),
        ("arrow-to-dollar", (pd, ">"), (p, "$SYS.x"), false),
        ("arrow-to-dollar-arrow", (pd, ">"), (p, "$SYS.>"), false),
        ("arrow-to-underscore", (pd, ">"), (p, "_INBOX.x"), false),
        ("star-to-dollar", (pd, "*.x"), (p, "$SYS.x"), false),
        ("dollar-to-dollar", (pd, "$SYS.>"), (p, "$SYS.x"), true),
        ("dollar-inside", (pd, "a.>"), (p, "a.$SYS"), true),
        ("underscore-inside", (pd, "a.*"), (p, "a._b"), true),
        ("sibling", (pd, "a.b"), (p, "a.c"), false),
        ("prefix", (pd, "ab.>"), (p, "abc.x"), false),
    ];
    for (name, above, below, contained) in rows {
        let about = "A capability is contained in one delegable capability of the link above";
        let claim = if contained {
            Allow
        } else {
            deny_at(SCOPE_EXCEEDED_WIDENED, 1)
        };
        book.case(&format!("below-{name}"), about, claim, || {
            let chain = pair().edit(0, |link| link.scope = scope(&[above]));
            Play::chain(&chain.edit(1, |link| link.scope = scope(&[below])))
        });
    }
    let about = "Two capabilities above do not add up to one below";
    book.case(
        "below-two-halves",
        about,
        deny_at(SCOPE_EXCEEDED_WIDENED, 1),
        || {
            let halves = scope(&[(PUB | DELEGATE, "a.>"), (REQ | DELEGATE, "a.>")]);
            let chain = pair().edit(0, |link| link.scope = halves);
            Play::chain(&chain.edit(1, |link| link.scope = scope(&[(PUB | REQ, "a.b")])))
        },
    );
    let about = "Every capability below has one above";
    book.case(
        "below-one-of-two",
        about,
        deny_at(SCOPE_EXCEEDED_WIDENED, 1),
        || {
            let chain = pair().edit(0, |link| link.scope = scope(&[(PUB | DELEGATE, "a.>")]));
            Play::chain(&chain.edit(1, |link| link.scope = scope(&[(PUB, "a.b"), (PUB, "b")])))
        },
    );
    book.case(
        "below-nothing",
        "A link may hand on nothing at all",
        Allow,
        || Play::chain(&pair().edit(1, |link| link.scope = list([]))),
    );
    book.case(
        "below-nothing-sent",
        "It then covers nothing",
        deny_at(SCOPE_EXCEEDED_NOT_GRANTED, 1),
        || {
            let chain = pair().edit(1, |link| link.scope = list([]));
            Play::message(&Letter::publish(&chain, SUBJECT))
        },
    );
    let about = "What one link of four widens is refused at that link";
    for hop in 1..4 {
        let claim = deny_at(SCOPE_EXCEEDED_WIDENED, hop);
        book.case(&format!("below-at-{hop}"), about, claim, || {
            let narrow = scope(&[(EVERYTHING, "orders.>")]);
            let chain = ChainSpec::down(&Mesh::new(), &super::chain::NINE[..4]);
            let chain = (0..usize::from(hop)).fold(chain, |chain, at| {
                let narrow = narrow.clone();
                chain.edit(at, |link| link.scope = narrow)
            });
            Play::chain(&chain)
        });
    }
}

/// Constraints above and below.
pub(super) fn narrowed(book: &mut Book) {
    type Pair = (Vec<Value>, Vec<Value>);
    let rows: [(&str, Pair, bool); 11] = [
        ("groups-added", (vec![], vec![groups(&["a"])]), true),
        (
            "groups-kept",
            (vec![groups(&["a", "b"])], vec![groups(&["a", "b"])]),
            true,
        ),
        (
            "groups-fewer",
            (vec![groups(&["a", "b"])], vec![groups(&["b"])]),
            true,
        ),
        (
            "groups-other",
            (vec![groups(&["a"])], vec![groups(&["b"])]),
            false,
        ),
        (
            "groups-more",
            (vec![groups(&["a"])], vec![groups(&["a", "b"])]),
            false,
        ),
        ("groups-dropped", (vec![groups(&["a"])], vec![]), false),
        (
            "groups-for-recipients",
            (vec![groups(&["a"])], vec![recipients(&["bob"])]),
            false,
        ),
        (
            "recipients-added",
            (vec![], vec![recipients(&["bob"])]),
            true,
        ),
        (
            "recipients-fewer",
            (
                vec![recipients(&["bob", "dave"])],
                vec![recipients(&["dave"])],
            ),
            true,
        ),
        (
            "recipients-more",
            (
                vec![recipients(&["bob"])],
                vec![recipients(&["bob", "dave"])],
            ),
            false,
        ),
        (
            "recipients-dropped",
            (vec![recipients(&["bob"])], vec![]),
            false,
        ),
    ];
    for (name, (above, below), narrows) in rows {
        let about = "A constraint is inherited: its values may become fewer, never more";
        let claim = if narrows {
            Allow
        } else {
            deny_at(SCOPE_EXCEEDED_WIDENED, 1)
        };
        book.case(&format!("narrowed-{name}"), about, claim, || {
            let above = list([capability(EVERYTHING, ">", above)]);
            let below = list([capability(EVERYTHING, ">", below)]);
            let chain = pair().edit(0, |link| link.scope = above);
            Play::chain(&chain.edit(1, |link| link.scope = below))
        });
    }
}
