//! What the audience sees: one line for everything said, in colour on a terminal.

use std::io::IsTerminal as _;
use std::sync::LazyLock;

use trustmesh::graph::visible;

use crate::Fault;
use crate::ledger::Ledger;

/// Colours are for terminals, and for those who have not said no: <https://no-color.org>.
static COLOURED: LazyLock<bool> = LazyLock::new(|| {
    let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    std::io::stdout().is_terminal() && !refused
});

const BOLD: &str = "1";
const GREEN: &str = "32";
const RED: &str = "31";

fn paint(colour: &str, text: &str) -> String {
    if *COLOURED {
        format!("\u{1b}[{colour}m{text}\u{1b}[0m")
    } else {
        text.to_owned()
    }
}

/// A new part of the play.
pub fn scene(title: &str) {
    println!("\n{}", paint(BOLD, &format!("── {title} ──")));
}

/// Somebody says something. Text from others is made harmless.
pub fn say(who: &str, what: &str) {
    println!("{}  {}", name(who), visible(what));
}

/// Something was checked and is as it should be.
pub fn success(who: &str, what: &str) {
    println!("{}  {} {}", name(who), paint(GREEN, "✓"), visible(what));
}

/// An attack was refused.
pub fn refused(attack: &str, verdict: &str) {
    println!(
        "{}  {} {}",
        name(attack),
        paint(RED, "REFUSED"),
        visible(verdict)
    );
}

fn name(who: &str) -> String {
    paint(BOLD, &format!("{:>19}", visible(who)))
}

/// The run failed.
pub fn failure(why: &str) {
    eprintln!("{}: {}", paint(RED, "FAILED"), visible(why));
}

/// Shows on whose authority `sender` was served by `receiver`, as the audit has it.
pub async fn chain(ledger: &Ledger, sender: &str, receiver: &str) -> Result<(), Fault> {
    let decision = ledger.accepted(receiver, sender).await?;
    let issuer = decision.issuer.unwrap_or_default();
    say(receiver, &format!("served {sender}, on the authority of"));
    println!(
        "{:>19}    issuer {}",
        "",
        visible(issuer.get(..8).unwrap_or_default())
    );
    for (depth, hop) in decision.chain.iter().enumerate() {
        let indent = "  ".repeat(depth + 1);
        let scope = visible(&hop.scope.join(", "));
        println!("{:>19}    {indent}└▶ {}  {scope}", "", visible(&hop.holder));
    }
    Ok(())
}
