//! The graph as text: Mermaid for documents, DOT for Graphviz.
//!
//! Labels are text from records, which strangers can write. Here they become printable ASCII, and
//! of that only letters, digits and harmless marks reach Mermaid as themselves.

use std::collections::BTreeMap;

use super::AuthorizationGraph;
use super::Node;
use super::SERVICE;
use super::Use;
use super::visible;

/// Lines of one label. Mermaid refuses long documents, and readers long labels.
const LINES_MAX: usize = 5;

/// How an edge looks.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Style {
    Authority,
    Allowed,
    Refused,
    Certified,
}

/// Everything of one style between two nodes, drawn as one edge.
type Edges<'a> = BTreeMap<(Style, &'a Node, &'a Node), Vec<String>>;

impl AuthorizationGraph {
    /// The graph as a Mermaid flowchart. The same graph always gives the same text.
    ///
    /// Between two nodes there is one edge of each kind; a label that would be longer than a few
    /// lines says how many it leaves out.
    pub fn to_mermaid(&self) -> String {
        let mut lines = vec!["flowchart LR".to_owned()];
        let ids = self.numbered();
        for (node, id) in &ids {
            let label = mermaid(&node.to_string());
            lines.push(match node {
                Node::Issuer(_) => format!("n{id}([\"{label}\"]):::issuer"),
                Node::Agent(_) => format!("n{id}[\"{label}\"]:::agent"),
                Node::Claimed(_) | Node::Unknown => format!("n{id}{{{{\"{label}\"}}}}:::stranger"),
            });
        }
        let mut refused = Vec::new();
        for (index, ((style, from, to), labels)) in self.edges().iter().enumerate() {
            let arrow = match style {
                Style::Authority => "==>",
                Style::Allowed => "-->",
                Style::Refused => "-.->",
                Style::Certified => "--o",
            };
            if *style == Style::Refused {
                refused.push(index.to_string());
            }
            let label = joined(labels, "<br/>", mermaid);
            lines.push(format!("n{} {arrow}|\"{label}\"| n{}", ids[from], ids[to]));
        }
        if !refused.is_empty() {
            let refused = refused.join(",");
            lines.push(format!("linkStyle {refused} stroke:#c00,color:#c00"));
        }
        lines.push("classDef issuer fill:#fe9,stroke:#a80".to_owned());
        lines.push("classDef agent fill:#def,stroke:#47a".to_owned());
        lines.push("classDef stranger fill:#fee,stroke:#c00".to_owned());
        lines.join("\n    ") + "\n"
    }

    /// The graph in the DOT language of Graphviz. The same graph always gives the same text.
    ///
    /// Edges and labels are those of [`to_mermaid`](Self::to_mermaid).
    pub fn to_dot(&self) -> String {
        let mut lines = vec!["digraph authorization {".to_owned()];
        lines.push("rankdir=LR;".to_owned());
        let ids = self.numbered();
        for (node, id) in &ids {
            let look = match node {
                Node::Issuer(_) => "shape=oval, color=orange",
                Node::Agent(_) => "shape=box",
                Node::Claimed(_) | Node::Unknown => "shape=hexagon, style=dashed, color=red",
            };
            let label = dot(&node.to_string());
            lines.push(format!("n{id} [label=\"{label}\", {look}];"));
        }
        for ((style, from, to), labels) in self.edges() {
            let look = match style {
                Style::Authority => "style=bold, color=blue",
                Style::Allowed => "style=solid",
                Style::Refused => "style=dashed, color=red, fontcolor=red",
                Style::Certified => "style=dotted, arrowhead=odot",
            };
            let (from, to, label) = (ids[from], ids[to], joined(&labels, "\\n", dot));
            lines.push(format!("n{from} -> n{to} [label=\"{label}\", {look}];"));
        }
        lines.join("\n    ") + "\n}\n"
    }

    fn numbered(&self) -> BTreeMap<&Node, usize> {
        self.nodes().into_iter().zip(0..).collect()
    }

    fn edges(&self) -> Edges<'_> {
        let mut edges = Edges::new();
        let mut draw = |style, from, to, what: String, count| {
            let labels: &mut Vec<String> = edges.entry((style, from, to)).or_default();
            labels.push(match count {
                1 => what,
                _ => format!("{what} ({count} times)"),
            });
        };
        let mut links: BTreeMap<_, u64> = BTreeMap::new();
        for grant in self.grants() {
            let scope = (&grant.from, &grant.to, grant.scope.join(", "));
            *links.entry(scope).or_default() += 1;
        }
        for ((from, to, scope), count) in links {
            draw(Style::Authority, from, to, scope, count);
        }
        for (
            Use {
                from,
                to,
                action,
                subject,
            },
            outcomes,
        ) in self.uses()
        {
            let what = format!("{action} {subject}");
            if outcomes.allowed > 0 {
                draw(Style::Allowed, from, to, what.clone(), outcomes.allowed);
            }
            for (class, count) in &outcomes.refused {
                draw(Style::Refused, from, to, format!("{class}: {what}"), *count);
            }
        }
        for (agent, what, count) in self.certifications() {
            draw(Style::Certified, &*SERVICE, agent, what.to_string(), count);
        }
        edges
    }
}

/// The first labels, each escaped, and how many are left out.
fn joined(labels: &[String], line_break: &str, escape: fn(&str) -> String) -> String {
    let shown = match labels.len() {
        all if all <= LINES_MAX => all,
        _ => LINES_MAX - 1,
    };
    let mut lines: Vec<String> = labels[..shown].iter().map(|label| escape(label)).collect();
    if shown < labels.len() {
        lines.push(format!("and {} more", labels.len() - shown));
    }
    lines.join(line_break)
}

/// A label for the inside of a quoted Mermaid string: what could mean anything there, or in the
/// HTML made of it, is written as an entity code.
fn mermaid(text: &str) -> String {
    let mut out = String::new();
    for c in visible(text).chars() {
        match c {
            _ if c.is_ascii_alphanumeric() || " .,:_-/+()".contains(c) => out.push(c),
            _ => out.push_str(&format!("#{};", u32::from(c))),
        }
    }
    out
}

/// A label for the inside of a quoted DOT string, which knows escapes and HTML entities.
fn dot(text: &str) -> String {
    let mut out = String::new();
    for c in visible(text).chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '&' => out.push_str("&amp;"),
            _ => out.push(c),
        }
    }
    out
}
